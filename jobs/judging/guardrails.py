"""What the gate's guardrails look at: what a challenger brings in the champion's place.

    vectors     whom the challenger's version of the embedding knows of the day's rows, and whether
                it still has the same neighbours
    features    whether the day's rows lack a feature that the challenger has learned from, or have
                one that it has learned without
    cost        the operations of either model for one row

All of it is computed from committed content alone, so that the same day gives the same figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embeddings.facts import Fact
from embeddings.registry.diff import diff
from embeddings.registry.loaded import Loaded
from embeddings.registry.vectors import encode_ids
from models.features import FeatureSpec
from models.scratch import PIECE
from models.standalone import bucket

if TYPE_CHECKING:
    from models.features import Batch
    from models.rankers.base import Ranker

ENTITIES = ("consumer", "producer")
LEAST = 500  # ids in both versions, from which on neighbours are compared
DIGITS = 6  # after the point: the same on every machine
COST_ROWS = 256  # rows at once, of which the cost is counted and measured

FACTS = (
    Fact(
        "<role>_covers_consumers",
        "rows whose consumer has a vector in the version that the model was trained with last",
        "share",
        better="higher",
    ),
    Fact(
        "<role>_covers_producers",
        "rows whose producer has a vector in the version that the model was trained with last",
        "share",
        better="higher",
    ),
    Fact(
        "neighbour_overlap_consumers",
        "of the ten nearest consumers in the champion's version, those that are so in the "
        "challenger's",
        "share",
    ),
    Fact("neighbour_overlap_producers", "the same of producers", "share"),
    Fact(
        "missing_feature",
        "the feature whose share of missing values differs most between the day and the newest day "
        "that the challenger was trained on",
    ),
    Fact("missing_on_day", "rows of the day without it", "share"),
    Fact("missing_in_training", "rows of that day of the training without it", "share"),
    Fact(
        "<role>_operations",
        "multiplications and additions of the model for one row",
        "operations",
        better="lower",
    ),
)


# Vectors


def version_facts(
    versions: Mapping[str, Loaded], ids: Mapping[str, Iterable[pa.Array]]
) -> dict[str, float]:
    """Coverage of the rows by either version, and their neighbours.

    versions: of champion and challenger, by role. ids: by entity, those of all rows, as
    `covered_shares`. Empty without rows. Versions of different spaces can be compared.
    """
    facts = {}
    for entity in ENTITIES:
        for role, share in covered_shares(versions, entity, ids[entity]).items():
            facts[f"{role}_covers_{entity}s"] = round(share, DIGITS)
    if not facts:
        return {}
    for entity, overlap in neighbour_overlaps(*versions.values()).items():
        facts[f"neighbour_overlap_{entity}s"] = round(overlap, DIGITS)
    return facts


def covered_shares(
    versions: Mapping[str, Loaded], entity: str, ids: Iterable[pa.Array]
) -> dict[str, float]:
    """By role, the share of rows whose consumer or producer has a vector in the version.

    ids: of the rows, piece by piece, in any order. Empty without rows.
    """
    known = dict.fromkeys(versions, 0)
    rows = 0
    for piece in ids:
        rows += len(piece)
        # Each id is looked up once: as objects, the ids of all rows would not fit into memory.
        counted = pc.value_counts(piece)
        distinct = encode_ids(counted.field("values").to_numpy(zero_copy_only=False))
        counts = counted.field("counts").to_numpy()
        for role, version in versions.items():
            known[role] += int(counts[version.entities[entity].rows(distinct) >= 0].sum())
    return {role: count / rows for role, count in known.items()} if rows else {}


def neighbour_overlaps(before: Loaded, after: Loaded) -> dict[str, float]:
    """By entity, the share of the ten nearest neighbours in one version that the other has too.

    An entity of which fewer than LEAST ids are in both is left out: of 500, vectors that mean
    nothing share one neighbour in fifty.
    """
    found = diff(before, after, [], []).entities
    overlaps = {}
    for entity in ENTITIES:
        each = found[entity]
        if each.overlap is not None and each.sampled >= LEAST:
            overlaps[entity] = each.overlap
    return overlaps


# Features


def missing_facts(
    learned: Sequence[Path], tested: Sequence[Path], spec: FeatureSpec
) -> dict[str, float | str]:
    """The feature whose share of missing values differs most, with both shares.

    learned, tested: files of examples with these features. Empty where either has no rows.
    """
    before, now = missing_shares(learned, spec), missing_shares(tested, spec)
    if not before or not now:
        return {}
    name = max(sorted(now), key=lambda each: abs(now[each] - before[each]))
    return {
        "missing_feature": name,
        "missing_on_day": round(now[name], DIGITS),
        "missing_in_training": round(before[name], DIGITS),
    }


def missing_shares(files: Sequence[Path], spec: FeatureSpec) -> dict[str, float]:
    """Share of the rows without a value, by feature: a null number, or the bucket of no category.

    A category that shares that bucket counts as missing, on every day alike. A piece of one column
    at a time is in memory. Empty without rows.
    """
    counts = dict.fromkeys([*spec.numeric, *(each.name for each in spec.categorical)], 0)
    rows = 0
    for path in files:
        with pq.ParquetFile(path) as file:
            rows += file.metadata.num_rows
            for name in spec.numeric:
                for piece in file.iter_batches(PIECE, columns=[name]):
                    unknown = pc.sum(pc.is_null(piece[name], nan_is_null=True)).as_py() or 0
                    counts[name] += unknown
            for category in spec.categorical:
                none = bucket("", category.buckets)
                for piece in file.iter_batches(PIECE, columns=[category.name]):
                    unknown = pc.sum(pc.equal(piece[category.name], none)).as_py() or 0
                    counts[category.name] += unknown
    return {name: count / rows for name, count in counts.items()} if rows else {}


# Cost


def cost_facts(models: Mapping[str, Ranker], batch: Batch) -> dict[str, float]:
    """The operations of each model for one row of the batch."""
    from models.cost import operations

    return {f"{role}_operations": operations(model, batch) for role, model in models.items()}


def seconds_ratio(models: Mapping[str, Ranker], batch: Batch, threads: int = 1) -> float:
    """CPU time of the second model over that of the first, for the same rows.

    Another one each time: it may be logged, and may decide nothing that is committed.
    """
    from models.cost import seconds

    before, after = (seconds(model, batch, threads) for model in models.values())
    return after / before if before else float(np.inf)
