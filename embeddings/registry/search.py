"""The nearest vectors, exactly: every row is looked at."""

from __future__ import annotations

import numpy as np

BLOCK = 1 << 18  # rows scored at a time


def cosine_top_k(
    vectors: np.ndarray, norms: np.ndarray, query: np.ndarray, k: int, leave_out: int = -1, block: int = BLOCK
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows with the largest cosine to the query, best first; of equals the lower row first.

    vectors: (n, d) float32, norms: (n,) their lengths, query: (d,) not zero, leave_out: a row never returned.
    Returns rows (<=k,) int64 and cosines (<=k,) float32; the cosine with a zero vector is 0.
    """
    direction = query / np.linalg.norm(query)
    best_rows, best_scores = np.empty(0, np.int64), np.empty(0, np.float32)
    for start in range(0, len(vectors), block):
        lengths = norms[start : start + block]
        dots = np.vecdot(vectors[start : start + block], direction)  # @ wakes BLAS's threads: 60 times slower when busy
        scores = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
        if start <= leave_out < start + len(scores):
            scores[leave_out - start] = -np.inf
        rows = top(scores, k)
        best_rows, best_scores = np.append(best_rows, rows + start), np.append(best_scores, scores[rows])
        chosen = top(best_scores, k)
        best_rows, best_scores = best_rows[chosen], best_scores[chosen]
    real = best_rows != leave_out
    return best_rows[real], np.clip(best_scores[real], -1, 1)


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k largest scores, best first; of equals the earlier. scores: (n,). Returns (min(k, n),)."""
    if k >= len(scores):
        return np.argsort(-scores, kind="stable")
    threshold = scores[np.argpartition(scores, -k)[-k]]
    candidates = np.flatnonzero(scores >= threshold)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]
