"""What a benchmark is. Adding one is adding one file beside this one.

The file's name is the task's name. It defines

    BENCHMARK   an object that satisfies the protocol `Benchmark`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from embeddings.benchmarks.intervals import Statistic
from embeddings.facts import Fact

# Files are searched, not imported, so that listing the tasks does not load every library.
DEFINES_A_BENCHMARK = re.compile(r"^BENCHMARK\b", re.MULTILINE)


Shorten = Callable[[np.ndarray, int], np.ndarray]  # vectors (n, k) and a length -> (n, length)


def first_numbers(vectors: np.ndarray, length: int) -> np.ndarray:
    """How vectors are shortened where nothing else was learned."""
    return vectors[:, :length]


class NotJudged(Exception):
    """A version cannot be judged by a task; the message says what is missing."""


@dataclass(frozen=True)
class Case:
    """A version's vectors, and what is known about the same consumers and producers.

    n consumers are judged, of whom the version may not know all: the vector of an unknown one is
    zero. m producers: all that the version has. Row i of every array about consumers belongs to
    consumer_ids[i], row j of every array about producers to producer_ids[j].
    """

    consumer_ids: np.ndarray  # (n,) bytes, sorted
    consumers: np.ndarray  # (n, k) float32
    consumer_counts: np.ndarray  # (n,) engagements in the version's window
    producer_ids: np.ndarray  # (m,) bytes
    producers: np.ndarray  # (m, k) float32
    producer_counts: np.ndarray  # (m,) fitted consumers in the version's window
    window: sp.csr_matrix  # (n, m) strengths that the version was learned from
    # Of a later day, None where there is none:
    engaged: sp.csr_matrix | None = None  # (n, m) number of engagements
    elsewhere: np.ndarray | None = None  # (n,) producers engaged with that the version lacks
    # Of topics, by items, None where the log has none:
    topics: tuple[str, ...] = ()
    producer_topics: sp.csr_matrix | None = None  # (m, topics) number of the producer's items
    consumer_topics: sp.csr_matrix | None = None  # (n, topics) engagements of the later day
    # Column -> value of each consumer: texts, '' where unknown, or numbers, NaN where unknown.
    profiles: Mapping[str, np.ndarray] | None = None
    shorten: Shorten = first_numbers  # how the version's vectors get another length

    def shortened(self, dim: int) -> Case:
        """The case with vectors of this length."""
        consumers, producers = (
            self.shorten(side, dim) for side in (self.consumers, self.producers)
        )
        return replace(self, consumers=consumers, producers=producers)


@dataclass(frozen=True)
class Judged:
    """What a task found: metric -> its statistic of weighted users (or producers), n of them."""

    n: int
    statistics: Mapping[str, Statistic]


class Benchmark(Protocol):
    """A standard task. The same case gives the same figures on every machine."""

    TITLE: str  # a few words, for tables
    METRICS: tuple[Fact, ...]  # the first one is the task's headline
    LATER: bool  # are its labels those of a later day?
    NEEDS: tuple[str, ...]  # fields of `Case` without which it cannot judge

    def judge(self, case: Case) -> Judged:
        """Judge the vectors of a case, whose `NEEDS` are there.

        Raises NotJudged where too few consumers or producers have labels.
        """
        ...

    def rivals(self, case: Case) -> dict[str, Judged]:
        """What does without vectors, by name; beside the baselines that every task has."""
        ...


def names() -> list[str]:
    """The names of all tasks, sorted: the files in this folder that define BENCHMARK."""
    found = []
    for file in Path(__file__).parent.glob("*.py"):
        if DEFINES_A_BENCHMARK.search(file.read_text()):
            found.append(file.stem)
    return sorted(found)


def benchmark(name: str) -> Benchmark:
    """The task of that name. Raises ValueError for one that does not exist."""
    if name not in names():
        raise ValueError(f"There is no benchmark '{name}'. There are: {', '.join(names())}.")
    return import_module(f"embeddings.benchmarks.tasks.{name}").BENCHMARK
