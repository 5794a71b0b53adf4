"""What the steps of a week have stored, as arrays.

words_phrases   vocabulary/     word, count, first, second: occurrences in all and in each half
                sentences/      half, conversation, words
words_pairs     pairs/          half, first, second, weight
words_train     words.npy, counts.npy (m,), keep.npy
                whole/{inputs,outputs}.npy
                <half>/{words,inputs,counts}.npy of HALVES, of words that it has LEAST times
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scipy.sparse as sp

from embeddings.words.meaning import Half

WHOLE = "whole"
HALVES = ("first", "second")  # of the conversations


@dataclass(frozen=True)
class Vocabulary:
    """The m words of a week.

    ids: (m,) bytes, sorted; counts: (m,) occurrences; by_half: (2, m), those in each half.
    """

    ids: np.ndarray
    counts: np.ndarray
    by_half: np.ndarray

    @classmethod
    def read(cls, phrases: Path) -> Vocabulary:
        table = pq.read_table(phrases / "vocabulary")
        ids = np.array(table["word"].cast(pa.binary()).to_pylist(), np.bytes_)
        order = np.argsort(ids)
        by_half = np.stack([table[name].to_numpy()[order] for name in HALVES])
        return cls(ids[order], table["count"].to_numpy()[order], by_half)


def read_pairs(pairs: Path, ids: np.ndarray) -> list[sp.csr_matrix]:
    """The weights of the pairs of each half, (m, m) float64. Pairs of other words are left out.

    ids: (m,) bytes, sorted.
    """
    table = pq.read_table(pairs / "pairs")
    known = pa.array(ids.tolist(), pa.binary()).cast(pa.string())
    rows = [pc.index_in(table[name], known).to_numpy() for name in ("first", "second")]
    there = np.isfinite(rows[0]) & np.isfinite(rows[1])  # a word without a row is NaN
    halves, weights = table["half"].to_numpy(), table["weight"].to_numpy()
    found = []
    for half in range(len(HALVES)):
        chosen = there & (halves == half)
        at = tuple(row[chosen].astype(np.int64) for row in rows)
        found.append(sp.csr_matrix((weights[chosen], at), shape=(len(ids), len(ids))))
    return found


def read_halves(train: Path) -> tuple[Half, Half]:
    """What was learned from each half of a week."""
    first, second = (read_half(train / name) for name in HALVES)
    return first, second


def read_half(folder: Path) -> Half:
    names = ("words", "inputs", "counts")
    return Half(*(np.load(folder / f"{name}.npy", allow_pickle=False) for name in names))
