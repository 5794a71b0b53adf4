"""How much of what is frequent now was frequent before."""

from __future__ import annotations

import numpy as np


def top(tokens: np.ndarray, counts: np.ndarray, k: int) -> np.ndarray:
    """The k most frequent tokens, most frequent first; ties by the order of the tokens.

    tokens: (n,), each once; counts: (n,). Returns (min(k, n),).
    """
    order = np.lexsort((tokens, -counts))
    return tokens[order[:k]]


def overlap(now: np.ndarray, then: np.ndarray) -> float:
    """The share of the tokens of now that are among those of then; NaN where there are none.

    Both: each token once, such as the `top` of a day and of a month before. Source: Shiebler et al.
    2018, "Fighting Redundancy and Model Decay with Embeddings", Figure 1.
    """
    return float(np.isin(now, then).mean()) if len(now) else float("nan")


def new_share(ids: np.ndarray, known: np.ndarray) -> float:
    """The share of a day's events whose id is not among the known ones; NaN without events."""
    return float(np.mean(~np.isin(ids, known))) if len(ids) else float("nan")
