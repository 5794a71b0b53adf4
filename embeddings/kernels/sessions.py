"""Events -> sessions: what one consumer does without a long pause.

Source: item2vec and its followers learn from such sequences (Caselles-Dupré et al. 2018,
arXiv:1804.04212).
"""

from __future__ import annotations

import numpy as np


def session_of_each(
    consumers: np.ndarray, times_ms: np.ndarray, pause_ms: int
) -> tuple[np.ndarray, int]:
    """The session of every event, and how many sessions there are.

    A session ends where a consumer does nothing for longer than `pause_ms`. consumers: (m,) int32;
    times_ms: (m,) int64, in any order. Returns (m,) int32; the sessions of a consumer follow each
    other, in the order of time.
    """
    order = np.lexsort((times_ms, consumers))
    sorted_consumers, sorted_times = consumers[order], times_ms[order]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = sorted_consumers[1:] != sorted_consumers[:-1]
    begins[1:] |= np.diff(sorted_times) > pause_ms
    sessions = np.empty(len(order), np.int32)
    sessions[order] = np.cumsum(begins) - 1
    return sessions, int(begins.sum())
