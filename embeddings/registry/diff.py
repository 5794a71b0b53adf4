"""What differs between two versions: who came and who left, how far vectors moved, and lineage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from embeddings.benchmarks.results import ByDay, Result, by_metric
from embeddings.registry.loaded import Loaded, texts
from embeddings.registry.vectors import Entity, Index
from embeddings.registry.versions import Version
from embeddings.sampling import smallest_hashes
from embeddings.spaces.reference import shared_rows
from embeddings.spaces.similarity import neighbour_overlap, unit_rows

EXAMPLES = 5  # ids named of those gained, of those lost, and of those that have moved most
SAMPLE = 20_000  # common ids whose vectors are compared; bounds time and memory
QUERIES = 1000  # of the sample, whose neighbours within the sample are compared
NEIGHBOURS = 10
ByMetric = dict[tuple[str, str], ByDay]


@dataclass(frozen=True)
class Moved:
    """An id, and the cosine of its vectors in both versions."""

    id: str
    cosine: float


@dataclass(frozen=True)
class Drift:
    """Cosines of the vectors that ids have in both versions: their mean and 10th percentile.

    moved: the ids with the smallest cosines, smallest first, of the half with most engagements:
    vectors of few engagements turn by chance.
    """

    mean: float
    p10: float
    moved: list[Moved] = field(default_factory=list)  # an older service does not say


@dataclass(frozen=True)
class EntityDiff:
    """What differs in one entity. An entity that a version lacks has no ids there.

    gained, lost, common: numbers of ids only in the second version, only in the first, in both.
    gained_ids, lost_ids: a few of them. sampled: the number of common ids whose vectors were
    compared: all, or those with the smallest hashes, which are the same on every day. drift: None
    without a cosine; `drift_reason` then says why. overlap: share of the 10 nearest neighbours in
    the first version that are also among those in the second, within the sample; None if fewer
    than two ids have vectors in both. No rotation changes it, so it compares spaces too.
    """

    gained: int
    lost: int
    common: int
    gained_ids: list[str]
    lost_ids: list[str]
    sampled: int
    drift: Drift | None
    drift_reason: str
    overlap: float | None


@dataclass(frozen=True)
class Delta:
    """One benchmark of both versions.

    Tasks about a later day are judged on the same day for both, on the same users; tasks about a
    version's own day each on its own.
    """

    a: Result
    b: Result

    @property
    def name(self) -> str:
        return self.a.name

    @property
    def value(self) -> float:
        """What version b gains."""
        return self.b.value - self.a.value

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 %, as if both had been judged on different users: not too narrow."""
        width = math.hypot(half_width(self.a), half_width(self.b))
        return self.value - width, self.value + width


def half_width(result: Result) -> float:
    return (result.high - result.low) / 2


@dataclass(frozen=True)
class Diff:
    """What differs between version `a` and version `b`.

    benchmarks: that both have, by task and metric.
    entities: of both versions. lineage: field -> its values in a and in b, None where it is
    missing; parts of a field are named by dots, as in 'metrics.auc'. Equal fields are left out.
    """

    a: Version
    b: Version
    entities: dict[str, EntityDiff]
    lineage: dict[str, tuple[Any, Any]]
    benchmarks: list[Delta]


def diff(a: Loaded, b: Loaded, results_a: list[Result], results_b: list[Result]) -> Diff:
    """See `Registry.diff`. results_a, results_b: of the benchmarks of each version."""
    reason = _no_drift(a.version, b.version)
    entities = {}
    for entity in sorted(a.entities.keys() | b.entities.keys()):
        entities[entity] = _entity_diff(a.entities.get(entity), b.entities.get(entity), reason)
    lineage = lineage_diff(a.version.lineage, b.version.lineage)
    before = by_metric([(a.version.day, results_a)])
    after = by_metric([(b.version.day, results_b)])
    return Diff(a.version, b.version, entities, lineage, deltas(before, after))


def deltas(a: ByMetric, b: ByMetric) -> list[Delta]:
    """The metrics of both on the newest day that both have, or each on its own day."""
    found = []
    for key in sorted(a.keys() & b.keys()):
        shared = a[key].keys() & b[key].keys()
        if shared:
            on = max(shared, key=lambda day: day or date.min)
            found.append(Delta(a[key][on], b[key][on]))
    return found


def lineage_diff(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields that differ, as in `Diff`."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted(a.keys() | b.keys()):
        before, after = a.get(name), b.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            for part, values in lineage_diff(before, after).items():
                found[f"{name}.{part}"] = values
        elif before != after:
            found[name] = (before, after)
    return found


def _no_drift(a: Version, b: Version) -> str:
    """Why vectors of these versions have no cosine with each other; empty if they have."""
    if a.space != b.space:
        return f"{a.id} is in space '{a.space}' and {b.id} is in space '{b.space}'"
    if a.dim != b.dim:
        return f"{a.id} has vectors of length {a.dim} and {b.id} of length {b.dim}"
    return ""


def _entity_diff(a: Entity | None, b: Entity | None, reason: str) -> EntityDiff:
    ids_a, ids_b = _sorted_ids(a), _sorted_ids(b)
    common_a, common_b = shared_rows(ids_a, ids_b)
    lost, lost_ids = _others(ids_a, common_a)
    gained, gained_ids = _others(ids_b, common_b)
    sample = smallest_hashes(ids_a[common_a], SAMPLE)
    drift, overlap = None, None
    if a is not None and b is not None:
        vectors_a = a.vectors[_rows(a.index, common_a[sample])]
        vectors_b = b.vectors[_rows(b.index, common_b[sample])]
        counts = b.counts[_rows(b.index, common_b[sample])]
        drift = None if reason else _drift(vectors_a, vectors_b, ids_a[common_a[sample]], counts)
        overlap = _overlap(vectors_a, vectors_b)
    if drift is None and not reason:
        reason = "no id has a vector other than zero in both versions"
    return EntityDiff(
        gained=gained,
        lost=lost,
        common=len(common_a),
        gained_ids=gained_ids,
        lost_ids=lost_ids,
        sampled=len(sample),
        drift=drift,
        drift_reason="" if drift else reason,
        overlap=overlap,
    )


def _sorted_ids(entity: Entity | None) -> np.ndarray:
    return np.empty(0, "S1") if entity is None else entity.index.ids


def _rows(index: Index, places: np.ndarray) -> np.ndarray:
    """The rows of the ids in these places of an index."""
    return places if index.rows is None else index.rows[places]


def _others(ids: np.ndarray, common: np.ndarray) -> tuple[int, list[str]]:
    """How many ids are not common, and a few of them. common: places in ids, ascending."""
    is_other = np.ones(len(ids), bool)
    is_other[common] = False
    others = np.flatnonzero(is_other)
    return len(others), texts(ids, others[:EXAMPLES])


def _drift(a: np.ndarray, b: np.ndarray, ids: np.ndarray, counts: np.ndarray) -> Drift | None:
    """The cosines of paired rows, without pairs that have a row of zeros.

    a, b: (n, k); ids: (n,) of the rows; counts: (n,) engagements in the second version.
    """
    nonzero = np.flatnonzero(a.any(axis=1) & b.any(axis=1))
    if not len(nonzero):
        return None
    cosines = np.vecdot(unit_rows(a[nonzero]), unit_rows(b[nonzero]))
    busy = np.flatnonzero(counts[nonzero] >= np.median(counts[nonzero]))
    order = busy[np.argsort(cosines[busy], kind="stable")[:EXAMPLES]]
    names = texts(ids, nonzero[order])
    moved = [Moved(*each) for each in zip(names, cosines[order].tolist(), strict=True)]
    return Drift(float(cosines.mean()), float(np.percentile(cosines, 10)), moved)


def _overlap(a: np.ndarray, b: np.ndarray) -> float | None:
    """The neighbour overlap of paired rows; None without two pairs of directions. a, b: (n, _)."""
    if np.count_nonzero(a.any(axis=1) & b.any(axis=1)) < 2:
        return None
    return neighbour_overlap(a, b, NEIGHBOURS, QUERIES)
