"""What makes shorter vectors of long ones. Adding a way is adding one file beside this one.

The file's name is the name of the way. It defines

    REDUCER     an object that satisfies the protocol `Reducer`
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

from embeddings.lengths.encoder import Encoder

# Files are searched, not imported, so that listing the names does not load torch.
DEFINES_A_REDUCER = re.compile(r"^REDUCER\b", re.MULTILINE)


class Reducer(Protocol):
    """Learns from the vectors of one version how to shorten those of its whole space.

    The same arguments give the same encoder on one kind of machine, whatever the number of threads.
    """

    def fit(
        self, consumers: np.ndarray, producers: np.ndarray, lengths: Sequence[int], seed: int
    ) -> Encoder:
        """consumers: (n, k), producers: (m, k) float32, n and m >= 1. lengths: each below k.

        One encoder serves both sides, because they are compared with each other.
        """
        ...


def names() -> list[str]:
    """The names of all reducers, sorted: the files in this folder that define REDUCER."""
    found = []
    for file in Path(__file__).parent.glob("*.py"):
        if DEFINES_A_REDUCER.search(file.read_text()):
            found.append(file.stem)
    return sorted(found)


def reducer(name: str) -> Reducer:
    """The reducer of that name. Raises ValueError for one that does not exist."""
    if name not in names():
        raise ValueError(f"There is no reducer '{name}'. There are: {', '.join(names())}.")
    return import_module(f"embeddings.lengths.{name}").REDUCER


def linear(method: str, axes: np.ndarray, lengths: Sequence[int], bias: np.ndarray) -> Encoder:
    """The encoder whose lengths are the first columns of v·axes + bias.

    axes: (k, k) orthogonal; bias: (k,). No more columns are kept than the longest length has.
    """
    longest = max(lengths)
    return Encoder(
        method,
        len(axes),
        dict.fromkeys(lengths, 1),
        [np.ascontiguousarray(axes[:, :longest], np.float32)],
        [np.asarray(bias[:longest], np.float32)],
        [False],
    )
