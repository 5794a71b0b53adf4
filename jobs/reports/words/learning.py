"""A period's words learned in this process, as `words_train` learns those of a week on Spark."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from embeddings.kernels.communicator import run_threads
from embeddings.words.meaning import Half
from embeddings.words.pairs import window_pairs
from embeddings.words.training import WordConfig, WordVectors, fit_half, fit_words
from jobs.reports.words.texts import Period

THREADS = 2
MIN_COUNT = 5
WINDOW = 5


@dataclass(frozen=True)
class Counted:
    """A period's words and pairs. m words.

    ids: (m,) bytes, sorted; counts: (m,); by_half: (2, m); pairs: two of (m, m).
    """

    ids: np.ndarray
    counts: np.ndarray
    by_half: np.ndarray
    pairs: list[sp.csr_matrix]

    @property
    def whole(self) -> sp.csr_matrix:
        return (self.pairs[0] + self.pairs[1]).tocsr()


def counted(texts: Period, window: int = WINDOW) -> Counted:
    """Count the words of a period that occur MIN_COUNT times, and their pairs."""
    counts = Counter(word for words in texts.sentences for word in words)
    common = sorted(word.encode() for word, count in counts.items() if count >= MIN_COUNT)
    rows = {word.decode(): row for row, word in enumerate(common)}
    flat: list[list[int]] = [[], []]
    sentences: list[list[int]] = [[], []]
    for number, words in enumerate(texts.sentences):
        half = texts.halves[number]
        known = [rows[word] for word in words if word in rows]
        flat[half] += known
        sentences[half] += [number] * len(known)
    by_half = np.stack([np.bincount(at, minlength=len(rows)) for at in flat])
    pairs = []
    for at, of in zip(flat, sentences, strict=True):
        pairs.append(window_pairs(np.array(at), np.array(of), window, len(rows)))
    return Counted(np.array(common, np.bytes_), by_half.sum(axis=0), by_half, pairs)


def whole_fit(period: Counted, cfg: WordConfig) -> WordVectors:
    """Vectors of all words of a period."""
    pairs = period.whole
    return run_threads(
        THREADS, lambda comm: fit_words(pairs, period.ids, period.counts, cfg, comm)
    )[0]


def half_fits(period: Counted, cfg: WordConfig) -> tuple[Half, Half]:
    """Vectors of the words of each half."""
    first, second = (half_fit(period, number, cfg) for number in (0, 1))
    return first, second


def half_fit(period: Counted, number: int, cfg: WordConfig) -> Half:
    pairs, counts = period.pairs[number], period.by_half[number]
    return run_threads(THREADS, lambda comm: fit_half(pairs, period.ids, counts, cfg, comm))[0]


def mapped(pairs: sp.csr_matrix, ids: np.ndarray, wanted: np.ndarray) -> sp.csr_matrix:
    """The pairs of other words by the rows that they have among `wanted`; both sorted bytes."""
    rows = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    known = wanted[rows] == ids
    found = pairs.tocoo()
    chosen = known[found.row] & known[found.col] & (found.row != found.col)
    at = (rows[found.row[chosen]], rows[found.col[chosen]])
    shape = (len(wanted), len(wanted))
    return sp.csr_matrix((found.data[chosen], at), shape=shape)
