"""The registry's Python client: publish a version, find one, look up its vectors.

registry = Registry(Path("registry"), "sqlite:///registry/catalog.db")
registry.get("author", "producer", ["1196"]).vectors
registry.neighbours("author", "producer:1196", k=5)
registry.fold_in("author", {"1196": 3.0, "33": 1.0}).vector
loaded = registry.load(registry.version("author"), space="author/2022-04-25")
loaded.entities["consumer"].rows(ids)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from embeddings.fold_in.base import FoldIn
from embeddings.registry import files, versions
from embeddings.registry.catalog import Catalog, VersionRow
from embeddings.registry.errors import BadRequest, BadVersion, SpaceMismatch
from embeddings.registry.loaded import (
    FoldedVector,
    Loaded,
    Lookalike,
    Lookup,
    Neighbour,
    parse_key,
)
from embeddings.registry.vectors import Entity, Vectors
from embeddings.registry.versions import LATEST, NAME, Version

__all__ = [
    "Entity",
    "FoldedVector",
    "Loaded",
    "Lookalike",
    "Lookup",
    "Neighbour",
    "Registry",
    "Vectors",
    "Version",
    "open_version",
    "parse_key",
]

SPACE_LENGTH = 200  # the catalog's column
# [0-9], not \d, which also matches the digits of other scripts.
REFERENCE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:\.r([0-9]{1,6}))?")


class Registry:
    """Versions of embeddings. Their files are below `root`, their catalog is at `url`.

    Raises CatalogError if the catalog cannot be opened.
    """

    def __init__(self, root: Path, url: str) -> None:
        self.root = Path(root)
        self.catalog = Catalog(url)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the catalog's connections; the next use opens new ones."""
        self.catalog.close()

    # Publishing

    def publish(
        self,
        name: str,
        day: date,
        space: str,
        entities: Mapping[str, Vectors | Path],
        fold_in: FoldIn,
        lineage: dict[str, Any],
    ) -> Version:
        """Publish a version, completely or not at all, and return it. Raises BadVersion.

        entities: entity -> its vectors, or a folder of shards written by `shards.write_shard`. The
        files of a folder are hard-linked where the file system allows it.
        fold_in: column j of its histories is row j of the entity 'producer', counted across shards.
        lineage: what the version was computed from, as JSON values.

        'latest' moves to the version unless it points at a newer day. Content that is already
        published for that day is not published again: the existing version, with its lineage, is
        returned. Different content becomes the day's next revision. If the process is killed, the
        next call with the same content completes the publication.
        """
        _check_published(name, space, list(entities), lineage)
        # Files first: the catalog must never refer to files that do not exist yet.
        manifest = files.publish_files(self._files, name, day, space, entities, fold_in, lineage)
        with self.catalog.writing() as session:
            return self._version(versions.record(session, manifest, day))

    def set_alias(
        self, name: str, alias: str, version: Version, only_forward: bool = False
    ) -> Version:
        """Point an alias at a version and return the version it now points at.

        only_forward: leave the alias unchanged if the move would be to an older version. 'latest'
        cannot be set: only publishing moves it. Raises BadRequest, UnknownName, UnknownVersion.
        """
        # `find` would read an alias that looks like a day as the day.
        if not NAME.fullmatch(alias) or alias == LATEST or REFERENCE.fullmatch(alias):
            raise BadRequest(
                f"{alias!r} cannot be set as an alias: use letters, digits, _ and -, "
                f"but not a day, and not {LATEST!r}, which only publishing moves."
            )
        if version.name != name:
            raise BadRequest(
                f"Alias {alias!r} of '{name}' cannot point at {version.id}, "
                f"which is a version of '{version.name}'."
            )
        with self.catalog.writing() as session:
            row = versions.of_day(session, name, version.day, version.revision)
            return self._version(versions.point(session, alias, row, only_forward))

    # Finding

    def names(self) -> list[str]:
        """The names of all embeddings, sorted."""
        with self.catalog.reading() as session:
            return versions.names(session)

    def versions(self, name: str) -> list[Version]:
        """All versions of an embedding, by day and revision. Raises UnknownName."""
        with self.catalog.reading() as session:
            return [self._version(row) for row in versions.every(session, name)]

    def aliases(self, name: str) -> dict[str, Version]:
        """Every alias of an embedding, and the version it points at. Raises UnknownName."""
        with self.catalog.reading() as session:
            rows = versions.aliases(session, name)
            return {row.alias: self._version(row.version) for row in rows}

    def alias(self, name: str, alias: str) -> Version:
        """The version that an alias points at. Raises UnknownName, UnknownVersion."""
        with self.catalog.reading() as session:
            return self._version(versions.aliased(session, name, alias))

    def version(self, name: str, day: date | None = None, revision: int | None = None) -> Version:
        """The version of a day, by default its last revision; without a day, the latest version.

        Raises UnknownName, UnknownVersion.
        """
        if day is None:
            return self.alias(name, LATEST)
        with self.catalog.reading() as session:
            return self._version(versions.of_day(session, name, day, revision))

    def find(self, name: str, reference: str = LATEST) -> Version:
        """The version that a text refers to. Raises UnknownName, UnknownVersion, BadRequest.

        reference: a day ('2022-04-25', its last revision), one revision of it ('2022-04-25.r1'),
        or an alias ('latest').
        """
        match = REFERENCE.fullmatch(reference)
        if match is None:
            return self.alias(name, reference)
        try:
            day = date.fromisoformat(match[1])
        except ValueError:
            raise BadRequest(
                f"{match[1]!r} is not a calendar day; write it as 2022-04-25."
            ) from None
        revision = int(match[2]) if match[2] else None
        return self.version(name, day, revision)

    # Looking up

    def load(self, version: Version, space: str | None = None) -> Loaded:
        """Map a version's arrays. Raises SpaceMismatch, DamagedVersion.

        space: the space in which the vectors will be used; None skips the check.
        """
        return open_version(version, space)

    def verify(self, version: Version) -> dict[str, str]:
        """Compare every file with the digest it was published with, and return the digests.

        Raises DamagedVersion.
        """
        return files.verify_files(version.path)

    def get(
        self,
        name: str,
        entity: str,
        ids: Sequence[str],
        day: date | None = None,
        revision: int | None = None,
    ) -> Lookup:
        """The vectors of these ids in this order, the engagements behind them, and their version.

        Raises NotFound if the name, the version, the entity or an id is unknown.
        """
        return self._loaded(name, day, revision).get(entity, ids)

    def neighbours(
        self,
        name: str,
        key: str,
        k: int = 10,
        day: date | None = None,
        among: str | None = None,
        revision: int | None = None,
    ) -> list[Neighbour]:
        """The k nearest vectors by cosine, by exact search, best first, without `key` itself.

        key: 'entity:id', as in 'producer:1196'. among: the entity to search, by default that of
        `key`. Raises BadRequest, NotFound.
        """
        return self._loaded(name, day, revision).neighbours(key, k, among)

    def fold_in(
        self,
        name: str,
        strengths: Mapping[str, float],
        day: date | None = None,
        revision: int | None = None,
    ) -> FoldedVector:
        """A vector for a consumer with this history, by the same formula as the nightly fold-in.

        strengths: producer id -> strength > 0. Producers that are not in the version are left out
        and returned in `unknown`. Raises NotFound (UnknownId if the version has none of them),
        BadRequest for an empty history or an invalid strength.
        """
        return self._loaded(name, day, revision).fold(strengths)

    def lookalike(
        self,
        name: str,
        groups: Sequence[str],
        candidates: Sequence[str] = (),
        k: int = 10,
        by: str = "mean",
        day: date | None = None,
        revision: int | None = None,
    ) -> list[Lookalike]:
        """Score producers for a consumer of whom only groups are known.

        A score is the dot product of a producer's vector with the mean vector of a group.
        groups: as in 'user_active_degree=full_active'. candidates: producer ids, scored in this
        order; without any, the k producers with the largest `by` (mean, max, median or min over
        the groups), best first. Raises BadRequest, and NotFound also where the source has no
        profiles: the version then has no groups.
        """
        return self._loaded(name, day, revision).lookalike(groups, candidates, k, by)

    def _loaded(self, name: str, day: date | None, revision: int | None) -> Loaded:
        return self.load(self.version(name, day, revision))

    @property
    def _files(self) -> Path:
        return self.root / "versions"

    def _version(self, row: VersionRow) -> Version:
        return versions.as_version(row, self._files)


def open_version(version: Version, space: str | None = None) -> Loaded:
    """As `Registry.load`, for a process that has the files but no catalog, such as a Spark worker.

    The version comes from a process that looked it up (it can be pickled).
    """
    if space is not None and space != version.space:
        raise SpaceMismatch(
            f"{version.id} is in space '{version.space}' and was loaded against space "
            f"'{space}': vectors of two spaces cannot be mixed. "
            f"Use a version in '{space}', or rebuild the consumer of these vectors "
            f"in '{version.space}'."
        )
    return Loaded(version, files.open_files(version.path))


def _check_published(name: str, space: str, entities: list[str], lineage: dict[str, Any]) -> None:
    _check_name("name", name)
    for entity in entities:
        _check_name("entity", entity)
    if not space or len(space) > SPACE_LENGTH:
        raise BadVersion(f"{space!r} cannot be a space: it needs 1 to {SPACE_LENGTH} characters.")
    try:
        json.dumps(lineage, allow_nan=False)  # NaN is not JSON; PostgreSQL would reject it later
    except (TypeError, ValueError) as error:
        raise BadVersion(f"The lineage of '{name}' cannot be written as JSON: {error}.") from None


def _check_name(kind: str, text: str) -> None:
    if not NAME.fullmatch(text):
        raise BadVersion(
            f"{text!r} cannot be the {kind} of an embedding: use letters, digits, _ and -."
        )
