"""Nearest-neighbour search by cosine: every row is scored, or every one of some rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from embeddings.registry.chunked import Rows, blocks
from embeddings.registry.vectors import lengths

BLOCK = 1 << 18  # rows scored at a time; bounds the temporary arrays
COPIED = 1 << 15  # rows copied at a time
NEVER = -np.inf  # the score of what is not to be found


@dataclass(frozen=True)
class Recall:
    """The shares of the 10 and the 100 nearest that an approximate search finds, as measured."""

    at_10: float
    at_100: float


def cosine_top_k(
    vectors: Rows,
    norms: Rows,
    query: np.ndarray,
    k: int,
    leave_out: int = -1,
    block: int = BLOCK,
    only: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows with the largest cosine to the query, best first; ties go to the lower row.

    vectors: (n, d) float32. norms: (n,), their lengths. query: (d,), not zero.
    leave_out: a row that is never returned; rows of zeros, which have no cosine, are not either.
    only: the rows that may be returned, ascending; None for all.
    Returns rows (<=k,) int64 and cosines (<=k,) float32.
    """
    # One more than requested, because the row to leave out may be among them.
    scored = cosines(vectors, norms, query, block)
    if only is not None:
        scored = _of_rows(scored, only)
    rows, scores = best(scored, k + (leave_out >= 0))
    kept = np.flatnonzero((rows != leave_out) & (scores > NEVER))[:k]
    return rows[kept], np.clip(scores[kept], -1, 1)  # rounding can exceed 1


def cosine_top_k_of(
    vectors: Rows, rows: np.ndarray, query: np.ndarray, k: int, leave_out: int = -1
) -> tuple[np.ndarray, np.ndarray]:
    """As `cosine_top_k`, of these rows only. rows: (m,), ascending."""
    kept = rows[rows != leave_out]
    positions, scores = best(cosines_of(vectors, kept, query), k)
    found = scores > NEVER
    return kept[positions[found]], np.clip(scores[found], -1, 1)


def _of_rows(scores: Iterable[np.ndarray], rows: np.ndarray) -> Iterator[np.ndarray]:
    """The blocks of scores, NEVER for all but these rows, ascending."""
    start = 0
    for block in scores:
        first, last = np.searchsorted(rows, (start, start + len(block)))
        allowed = rows[first:last] - start
        masked = np.full_like(block, NEVER)
        masked[allowed] = block[allowed]
        yield masked
        start += len(block)


def cosines_of(vectors: Rows, rows: np.ndarray, query: np.ndarray) -> Iterator[np.ndarray]:
    """As `cosines`, of these rows, which are copied one block after the other."""
    for start in range(0, len(rows), COPIED):
        chosen = vectors[rows[start : start + COPIED]]
        yield from cosines(chosen, lengths(chosen), query, COPIED)


def cosines(vectors: Rows, norms: Rows, query: np.ndarray, block: int) -> Iterator[np.ndarray]:
    """The cosine of each row with the query, block by block; NEVER for a row of zeros."""
    direction = unit(query)
    for rows, of_rows in zip(blocks(vectors, block), blocks(norms, block), strict=True):
        # Not @, which wakes BLAS's threads: 60 times slower on a busy machine.
        dots = np.vecdot(rows, direction)
        yield np.divide(dots, of_rows, out=np.full_like(dots, NEVER), where=of_rows > 0)


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector scaled to length 1, float32. vector: (d,), not zero."""
    double = vector.astype(np.float64)  # where no square of a float32 overflows or becomes zero
    return (double / np.linalg.norm(double)).astype(np.float32)


def best(scores: Iterable[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest of scores that arrive in blocks, best first; ties go to the lower row.

    Returns their rows (<=k,) int64 and their scores (<=k,), float32 if the blocks are.
    """
    start = 0
    best_rows = np.empty(0, np.int64)
    best_scores = np.empty(0, np.float32)
    for block in scores:
        candidates = top(block, k)
        best_rows = np.append(best_rows, candidates + start)
        best_scores = np.append(best_scores, block[candidates])
        # Lower rows come first in these arrays, so `top` resolves a tie in their favour.
        kept = top(best_scores, k)
        best_rows = best_rows[kept]
        best_scores = best_scores[kept]
        start += len(block)
    return best_rows, best_scores


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k largest scores, best first; ties go to the lower position.

    scores: (n,). Returns (min(k, n),).
    """
    if k >= len(scores):
        return np.argsort(-scores, kind="stable")
    # argpartition alone would choose arbitrarily among scores equal to the k-th.
    threshold = scores[np.argpartition(scores, -k)[-k]]
    candidates = np.flatnonzero(scores >= threshold)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]
