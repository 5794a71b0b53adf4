"""consistency: is a vector the same on every way that leads to it?

Some ids of every entity of the day's version are read in process and over HTTP, and compared with
the files of its shards, byte by byte. Some consumers' histories are folded in again, one by one as
for a request, in process and over HTTP, and compared with what the nightly batch made of them.

HTTP is compared where the registry's service answers and has the version. A difference fails the
step: the version is published, but one of its readers cannot be trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from embeddings.blocks import Block, load_blocks
from embeddings.facts import Fact
from embeddings.features import Value
from embeddings.registry.answers import FoldedVector, Lookup
from embeddings.registry.client import Version, open_version
from embeddings.registry.errors import NotFound, ServiceError
from embeddings.registry.parameters import MAX_STRENGTHS
from embeddings.registry.remote import RemoteRegistry
from embeddings.registry.shards import open_shards, read_shards
from embeddings.sampling import smallest_hashes
from jobs.errors import Inconsistent
from jobs.features.entity_features import profiles_as_asked
from jobs.lake.store import Partition
from jobs.pipeline.plan import inputs, writing
from jobs.pipeline.published import published_version
from jobs.settings import Settings
from jobs.steps.embed import needs_of_features

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")
FORMAT = 1
SPARK = False
IDS = 100  # of each entity
HISTORIES = 50
PATIENCE_S = 5.0  # for one answer over HTTP; it takes milliseconds
# Of the largest number of a vector. On one machine there is no difference at all: batch and request
# add the same numbers in the same order. A processor with other vector units adds in another one.
TOLERANCE = 1e-5
FACTS = (
    Fact("version", "the version that was read, name/day@digest"),
    Fact("ids_compared", "vectors that are the same bytes on every way", "ids", headline=True),
    Fact("histories_compared", "consumers folded in by the batch and by requests", "consumers"),
    Fact(
        "fold_in_difference",
        "largest difference between the two, relative to the largest number of the vector",
        better="lower",
        headline=True,
    ),
    Fact("over_http", "was the registry's service compared as well? 1: yes"),
    Fact("not_over_http", "why it was not"),
)


class Reader(Protocol):
    """What is compared: `Registry`, in process or over HTTP."""

    def get(
        self, name: str, entity: str, ids: Sequence[str], day: date | None, revision: int | None
    ) -> Lookup: ...

    def fold_in(
        self,
        name: str,
        strengths: Mapping[str, float],
        day: date | None,
        revision: int | None,
        *,
        features: Mapping[str, Value] | None,
    ) -> FoldedVector: ...


@dataclass(frozen=True)
class Stored:
    """Some vectors of an entity as its shards have them. ids: (n,) bytes; vectors: (n, k)."""

    ids: np.ndarray
    vectors: np.ndarray


@dataclass(frozen=True)
class History:
    """A consumer that the fit left out.

    strengths: by producer. vector: (k,), by the batch. features: of the profile that the batch has
    read.
    """

    consumer: str
    strengths: dict[str, float]
    vector: np.ndarray
    features: dict[str, Value]


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    version = [("matrix", day), ("fold_in", day), ("publish", day)]
    return [*version, *needs_of_features(settings, day)]


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Compare all ways. Raises Inconsistent for the first difference."""
    read = {partition.step: partition for partition in inputs(settings, "consistency", day)}
    content_id = read["publish"].facts["version"]
    version = published_version(settings, content_id)
    stored = {entity: some_stored(version.path / entity) for entity in version.entities}
    histories = some_histories(read["matrix"].path, read["fold_in"].path / "consumer")
    histories = with_profiles(histories, version, read.get("validate"))
    with writing(settings, "consistency", day) as staging:
        with opened(settings, version) as (readers, reason):
            differences = [0.0]
            for way, reader in readers.items():
                for entity, expected in stored.items():
                    compare_vectors(reader, way, version, entity, expected)
                for history in histories:
                    differences.append(compare_fold_in(reader, way, version, history))
        staging.facts |= {
            "version": content_id,
            "ids_compared": sum(len(expected.ids) for expected in stored.values()),
            "histories_compared": len(histories),
            "fold_in_difference": max(differences),
            "over_http": int(not reason),
        }
        if reason:
            staging.facts["not_over_http"] = reason


# What is expected


def some_stored(folder: Path) -> Stored:
    """The vectors of the ids with the smallest hashes, straight from the files of the shards."""
    ids = []
    vectors = []
    for shard in read_shards(folder):
        rows = smallest_hashes(shard.ids, IDS)
        ids.append(shard.ids[rows])
        vectors.append(shard.vectors[rows])
    found = Stored(np.concatenate(ids), np.concatenate(vectors))
    rows = smallest_hashes(found.ids, IDS)
    return Stored(found.ids[rows], found.vectors[rows])


def some_histories(matrix: Path, folded: Path) -> list[History]:
    """The left-out consumers whose ids have the smallest hashes.

    matrix: the partition. folded: the shards of the batch.
    """
    producers = np.load(matrix / "producers.npy")
    batch = open_shards(folded)
    blocks = load_blocks(matrix / "rest")
    owners = [(block, row) for block in blocks for row in smallest_hashes(block.ids, HISTORIES)]
    owners = [(block, row) for block, row in owners if length(block, row) <= MAX_STRENGTHS]
    if not owners:
        return []
    ids = np.array([block.ids[row] for block, row in owners])
    histories = []
    for at in smallest_hashes(ids, HISTORIES):
        vector = batch.vectors[batch.rows(ids[at : at + 1])][0]
        block, row = owners[at]
        strengths = strengths_of(block, row, producers)
        histories.append(History(ids[at].decode(), strengths, vector, {}))
    return histories


def with_profiles(
    histories: list[History], version: Version, day: Partition | None
) -> list[History]:
    """The histories with the profiles that the batch has read. day: None where it reads none."""
    vocabulary = getattr(open_version(version).fold_in, "vocabulary", None)
    if day is None or vocabulary is None or not histories:
        return histories
    ids = np.array([history.consumer.encode() for history in histories])
    asked = profiles_as_asked(day, vocabulary, ids)
    return [replace(one, features=of_one) for one, of_one in zip(histories, asked, strict=True)]


def length(block: Block, row: int) -> int:
    """The number of producers in a history."""
    return int(block.indptr[row + 1] - block.indptr[row])


def strengths_of(block: Block, row: int, producers: np.ndarray) -> dict[str, float]:
    """The history of the consumer in this row of a block, as a request has it."""
    pairs = slice(block.indptr[row], block.indptr[row + 1])
    names = [producer.decode() for producer in producers[block.indices[pairs]].tolist()]
    return dict(zip(names, block.strengths[pairs].tolist(), strict=True))


# What is found


@contextmanager
def opened(settings: Settings, version: Version) -> Iterator[tuple[dict[str, Reader], str]]:
    """The readers by their way, and why HTTP is not among them; empty if it is."""
    address = settings.services.registry_at
    with (
        settings.open_registry() as registry,
        RemoteRegistry(address, timeout_s=PATIENCE_S) as remote,
    ):
        readers: dict[str, Reader] = {"in process": registry}
        reason = obstacle(remote, version)
        if not reason:
            readers["over HTTP"] = remote
        yield readers, reason


def obstacle(remote: RemoteRegistry, version: Version) -> str:
    """Why the service cannot be compared; empty if it can.

    While the services of this home do not run, their port may be that of another home.
    """
    try:
        found = remote.version(version.name, version.day, version.revision)
    except ServiceError:
        return f"no registry answers at {remote.url}"
    except NotFound:
        return f"the registry at {remote.url} has no {version.id}"
    if found.digest != version.digest:
        return f"the registry at {remote.url} has another {version.id}"
    return ""


def compare_vectors(
    reader: Reader, way: str, version: Version, entity: str, expected: Stored
) -> None:
    """Raises Inconsistent unless all vectors are the same bytes."""
    ids = [id_.decode() for id_ in expected.ids.tolist()]
    found = reader.get(version.name, entity, ids, version.day, version.revision)
    for id_, vector, other in zip(ids, expected.vectors, found.vectors, strict=True):
        if vector.tobytes() != other.tobytes():
            raise inconsistent(version, f"{entity} '{id_}'", vector, "in its shard", other, way)


def compare_fold_in(reader: Reader, way: str, version: Version, history: History) -> float:
    """The difference from the batch. Raises Inconsistent where it is above TOLERANCE."""
    name, day, revision = version.name, version.day, version.revision
    features = history.features
    found = reader.fold_in(name, history.strengths, day, revision, features=features).vector
    difference = relative_difference(history.vector, found)
    if not difference <= TOLERANCE:  # written so that a NaN fails, too
        whose = f"consumer '{history.consumer}', folded in,"
        raise inconsistent(version, whose, history.vector, "by the batch", found, way)
    return difference


def relative_difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two vectors, relative to their largest number."""
    if a.tobytes() == b.tobytes():
        return 0.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.abs(a - b).max() / max(np.abs(a).max(), np.abs(b).max()))


def inconsistent(
    version: Version, whose: str, vector: np.ndarray, where: str, other: np.ndarray, way: str
) -> Inconsistent:
    """The error about two vectors that should be the same, with the numbers that differ most."""
    at = int(np.nanargmax(np.abs(vector.astype(np.float64) - other)))
    return Inconsistent(
        f"{version.id}: number {at} of the vector of {whose} is {float(vector[at])!r} {where}, and "
        f"{float(other[at])!r} {way}. `evergreen verify` names damaged files, and a service that "
        "was started before they changed must be restarted. If both are right, two versions of the "
        "code are in use: stop the older one, and run the step again."
    )
