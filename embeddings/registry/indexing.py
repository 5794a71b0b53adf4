"""Building the indexes of a version, and measuring what they find, when it is published.

The same vectors give the same bytes, with any number of threads: the sample that k-means learns
from, its seed and the queries are fixed. How many rows a query compares, and how many lists it
reads, are the fewest that find enough for half of the sampled queries; the published recall is that
of the other half.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.registry.approximate import CANDIDATES, MOST, likely_rows
from embeddings.registry.errors import LowRecall
from embeddings.registry.search import Recall, cosine_top_k_of, unit
from embeddings.registry.vectors import Entity
from embeddings.sampling import smallest_hashes

BLOCK = 1 << 16  # rows added or compared at a time
SEED = 1234  # of k-means
ITERATIONS = 10  # of k-means
POINTS = 64  # vectors per list that k-means learns from
QUERIES = 400  # sampled of each entity
THREADED = 100_000  # rows from which threads pay: on a busy machine, they slow down fewer rows
COMPARED = 8  # of the rows, a query compares at most one in so many by their vectors
SPARE = 20  # exact neighbours beyond `MOST`, because products of matrices round differently


@dataclass(frozen=True)
class IndexRule:
    """Which entities of a version get an approximate index, and how good it must be.

    above: rows; an entity with more gets one, and at 0 none does. min_recall: the smallest recall,
    among the 10 and the 100 nearest, with which a version is published.
    """

    above: int = 0
    min_recall: float = 0.95

    def applies(self, entity: Entity) -> bool:
        """Does the entity get an index?"""
        return 0 < self.above < len(entity)


NO_INDEX = IndexRule()


@dataclass(frozen=True)
class Queries:
    """Sampled vectors of one entity, and the cosines of their exact neighbours in another.

    vectors: (q, dim). leave_out: (q,), a row that is not searched, or -1. exact: q arrays of
    cosines, largest first.
    """

    vectors: np.ndarray
    leave_out: np.ndarray
    exact: list[np.ndarray]

    def part(self, chosen: slice) -> Queries:
        return Queries(self.vectors[chosen], self.leave_out[chosen], self.exact[chosen])


def write_index(
    path: Path, entities: Mapping[str, Entity], among: str, rule: IndexRule
) -> dict[str, Any] | None:
    """Write the index of the entity `among` to a file; returns its facts for the manifest.

    None, and no file, if all its vectors are zero: nothing can be found. Raises LowRecall, OSError.
    """
    rows = directed_rows(entities[among])
    if not len(rows):
        return None
    with enough_threads(len(rows)):
        return _write_index(path, entities, among, rows, rule)


def _write_index(
    path: Path, entities: Mapping[str, Entity], among: str, rows: np.ndarray, rule: IndexRule
) -> dict[str, Any]:
    """As `write_index`, of these rows."""

    searched = entities[among]
    index = trained(searched, rows)
    asked = {}
    for asking, entity in entities.items():
        queries = sampled_queries(searched, rows, entity)
        if queries.exact:
            asked[asking] = queries
    aim = (1 + rule.min_recall) / 2
    candidates = enough_candidates(index, searched, asked, aim)
    index.nprobe = enough_probes(index, searched, asked, aim, candidates)
    recall = {}
    for asking, queries in asked.items():
        others = queries.part(slice(1, None, 2)) if len(queries.exact) > 1 else queries
        recall[asking] = measured_recall(index, searched, others, candidates)
        require(recall[asking], rule, among, asking, len(searched))
    facts = {
        "kind": f"IVF{index.nlist},SQ8",
        "probes": index.nprobe,
        "candidates": candidates,
        "trained_on": len(training_rows(rows)),
        "iterations": ITERATIONS,
        "recall": {asking: asdict(found) for asking, found in recall.items()},
    }
    write_bytes(path, index)
    return facts


def write_bytes(path: Path, index: Any) -> None:
    """Write an index as faiss does, without a copy of it in memory. Raises OSError."""
    import faiss

    with path.open("wb") as file:
        writer: Any = faiss.PyCallbackIOWriter(file.write)  # type: ignore[attr-defined]
        faiss.write_index(index, writer)


@contextmanager
def enough_threads(rows: int) -> Iterator[None]:
    """Let faiss use all threads for many rows, and one for few."""
    import faiss

    before = faiss.omp_get_max_threads()
    if rows < THREADED:
        faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def directed_rows(entity: Entity) -> np.ndarray:
    """The rows whose vectors are not zero; the others are neighbours of nothing."""
    return np.flatnonzero(np.asarray(entity.norms(entity.vectors.shape[1])))


def trained(searched: Entity, rows: np.ndarray) -> Any:
    """faiss's index of these rows. The number of lists is about the root of theirs."""
    import faiss

    lists = list_count(len(rows))
    dim = searched.vectors.shape[1]
    index: Any = faiss.index_factory(dim, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = SEED
    index.cp.niter = ITERATIONS
    index.cp.min_points_per_centroid = 1  # fewer only draw a warning
    index.train(units(searched, training_rows(rows)))
    for block in row_blocks(rows):
        index.add_with_ids(units(searched, block), block)
    return index


def list_count(n: int) -> int:
    """The power of two next to the root of n."""
    return 1 << round(math.log2(n) / 2)


def training_rows(rows: np.ndarray) -> np.ndarray:
    """The rows that k-means learns from: spread evenly, and the same each time."""
    wanted = min(len(rows), POINTS * list_count(len(rows)))
    return rows[np.linspace(0, len(rows) - 1, wanted).astype(np.int64)]


def row_blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK]


def units(entity: Entity, rows: np.ndarray) -> np.ndarray:
    """The vectors in these rows, none of them zero, scaled to length 1. Returns (m, dim)."""
    vectors = entity.vectors[rows]
    return vectors / entity.norms(vectors.shape[1])[rows][:, np.newaxis]


def sampled_queries(searched: Entity, rows: np.ndarray, asking: Entity) -> Queries:
    """Queries by an entity, and what an exact search finds. rows: those that can be found.

    There are none if the entity has only zero vectors, or nothing but itself to find.
    """
    sample = smallest_hashes(np.asarray(asking.ids), QUERIES)
    sample = np.intersect1d(sample, directed_rows(asking))
    itself = asking is searched
    if len(rows) == 1 and itself:
        sample = sample[:0]
    leave_out = sample if itself else np.full(len(sample), -1)
    vectors = asking.vectors[sample]
    exact = []
    if len(sample):
        nearest = nearest_rows(searched, rows, units(asking, sample))
        exact = found_cosines(searched, nearest, vectors, leave_out)
    return Queries(vectors, leave_out, exact)


def nearest_rows(searched: Entity, rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The rows nearest to each query, (q, m), -1 where there are fewer. queries: of length 1."""
    import faiss

    wanted = MOST + SPARE
    scores = np.empty((len(queries), 0), np.float32)
    found = np.empty((len(queries), 0), np.int64)
    for block in row_blocks(rows):
        best, at = faiss.knn(
            queries, units(searched, block), wanted, metric=faiss.METRIC_INNER_PRODUCT
        )
        scores = np.hstack([scores, best])
        found = np.hstack([found, np.where(at >= 0, block[at], -1)])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :wanted]
        scores = np.take_along_axis(scores, order, axis=1)
        found = np.take_along_axis(found, order, axis=1)
    return found


def found_cosines(
    searched: Entity, candidates: np.ndarray, vectors: np.ndarray, leave_out: np.ndarray
) -> list[np.ndarray]:
    """The cosines of the best candidates of each query, largest first, as a search returns them.

    candidates: (q, m) rows, -1 for none. vectors, leave_out: as in `Queries`.
    """
    found = []
    for rows, vector, left_out in zip(candidates, vectors, leave_out, strict=True):
        known = np.sort(rows[rows >= 0])
        _, cosines = cosine_top_k_of(searched.vectors, known, vector, MOST, left_out)
        found.append(cosines)
    return found


def enough_candidates(
    index: Any, searched: Entity, asked: Mapping[str, Queries], aim: float
) -> int:
    """How many rows a query must compare to find enough in all lists, or may compare at most.

    aim: as for `enough_probes`.
    """
    index.nprobe = index.nlist
    candidates = CANDIDATES
    while not finds(index, searched, asked, aim, candidates):
        if 4 * candidates > len(searched) // COMPARED:
            break
        candidates *= 4
    return candidates


def enough_probes(
    index: Any, searched: Entity, asked: Mapping[str, Queries], aim: float, candidates: int
) -> int:
    """The smallest power of two of lists per query that finds enough; all lists if none does.

    aim: the recall at which it is enough, of every second query.
    """
    index.nprobe = 1
    while index.nprobe < index.nlist and not finds(index, searched, asked, aim, candidates):
        index.nprobe *= 2
    return index.nprobe


def finds(
    index: Any, searched: Entity, asked: Mapping[str, Queries], aim: float, candidates: int
) -> bool:
    """Does every second query of each entity find enough?"""
    for queries in asked.values():
        half = queries.part(slice(0, None, 2))
        recall = measured_recall(index, searched, half, candidates)
        if min(recall.at_10, recall.at_100) < aim:
            return False
    return True


def measured_recall(index: Any, searched: Entity, queries: Queries, candidates: int) -> Recall:
    """The mean recall of these queries, which compare so many candidates.

    A neighbour counts as found if it is as near as the exact k-th one: of rows with the same
    vector, any are right.
    """
    units_of = np.stack([unit(vector) for vector in queries.vectors])
    compared = likely_rows(index, units_of, candidates)
    found = found_cosines(searched, compared, queries.vectors, queries.leave_out)
    at_10, at_100 = [], []
    for cosines, exact in zip(found, queries.exact, strict=True):
        at_10.append(share(cosines, exact, 10))
        at_100.append(share(cosines, exact, MOST))
    return Recall(round(float(np.mean(at_10)), 4), round(float(np.mean(at_100)), 4))


def share(found: np.ndarray, exact: np.ndarray, k: int) -> float:
    """The share of the k nearest that were found. found, exact: cosines, largest first."""
    k = min(k, len(exact))
    return np.count_nonzero(found[:k] >= exact[k - 1]) / k


def require(recall: Recall, rule: IndexRule, among: str, asking: str, rows: int) -> None:
    """Raise LowRecall where the recall is below that of the rule."""
    if min(recall.at_10, recall.at_100) < rule.min_recall:
        raise LowRecall(
            f"The approximate index of {among} has a recall of {recall.at_10} among the 10 and "
            f"{recall.at_100} among the 100 nearest to a {asking}; {rule.min_recall} is required. "
            "Nothing is published. Lower the required recall (registry.min_recall in the "
            f"settings), or have {among} searched exactly: raise registry.index_above from "
            f"{rule.above} to {rows} or more."
        )
