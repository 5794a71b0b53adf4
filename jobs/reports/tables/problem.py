"""A data set as methods and benchmarks see it: a window to learn from, and what is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from embeddings.benchmarks.tasks.base import Case


@dataclass(frozen=True)
class Pairs:
    """Engagements. consumers, producers: (r,) ids as bytes; strengths: (r,), > 0."""

    consumers: np.ndarray
    producers: np.ndarray
    strengths: np.ndarray

    def __len__(self) -> int:
        return len(self.strengths)

    def only(self, keep: np.ndarray) -> Pairs:
        """keep: (r,) bool."""
        return Pairs(self.consumers[keep], self.producers[keep], self.strengths[keep])


def joined(days: list[Pairs]) -> Pairs:
    """The rows of several days, one day after the other."""
    return Pairs(
        np.concatenate([pairs.consumers for pairs in days]),
        np.concatenate([pairs.producers for pairs in days]),
        np.concatenate([pairs.strengths for pairs in days]),
    )


@dataclass(frozen=True)
class Input:
    """What a method learns from.

    x: (n, m) strengths; consumer_ids: (n,), producer_ids: (m,) bytes. follows: (n, f), 1 where a
    consumer follows someone; None where nobody does. to_producers: are the f the m producers?
    """

    x: sp.csr_matrix
    consumer_ids: np.ndarray
    producer_ids: np.ndarray
    follows: sp.csr_matrix | None = None
    to_producers: bool = False


@dataclass(frozen=True)
class Truth:
    """What only a simulated world knows, on the day of the labels.

    here: (p,) rows of the consumers who are there, and tastes: (p, k) what each likes. there: (q,)
    rows of the producers who are there, and subjects: (q, k). asked: (r,) rows of the consumers who
    engaged; rates: (r, m) clicks that each is expected to give each producer, and best: (r, 20) the
    largest of them, also of producers that are too new to be among the m.
    """

    here: np.ndarray
    tastes: np.ndarray
    there: np.ndarray
    subjects: np.ndarray
    asked: np.ndarray
    rates: np.ndarray
    best: np.ndarray


@dataclass(frozen=True)
class Problem:
    """A data set.

    case: everything that the benchmarks ask for, with vectors of no numbers. window: where it is
    from, in words. tuning: what methods are tuned on, and the engagements that then follow, (n, m).
    repeats: can someone engage with a producer again? If not, those of the window are not asked
    for. labels: (m, topics), the categories that people gave producers; None: the case's topics.
    """

    name: str
    case: Case
    tuning: tuple[sp.csr_matrix, sp.csr_matrix]
    repeats: bool
    follows: sp.csr_matrix | None = None
    to_producers: bool = False
    labels: sp.csr_matrix | None = None
    truth: Truth | None = None

    @property
    def input(self) -> Input:
        return self.input_of(self.case.window)

    def input_of(self, x: sp.csr_matrix) -> Input:
        ids = self.case.consumer_ids, self.case.producer_ids
        return Input(x, *ids, self.follows, self.to_producers)


def problem_of(
    name: str, window: Pairs, last: np.ndarray, later: Pairs, *, repeats: bool
) -> Problem:
    """The problem of some engagements, with no labels but the later engagements.

    last: (r,) bool, the part of the window that follows the rest: methods are tuned on it.
    """
    consumer_ids = np.unique(np.concatenate([window.consumers, later.consumers]))
    producer_ids = np.unique(window.producers)
    x = matrix(window, consumer_ids, producer_ids)
    known = np.isin(later.producers, producer_ids)
    case = Case(
        consumer_ids=consumer_ids,
        consumers=np.zeros((len(consumer_ids), 0), np.float32),
        consumer_counts=np.diff(x.indptr),
        producer_ids=producer_ids,
        producers=np.zeros((len(producer_ids), 0), np.float32),
        producer_counts=np.bincount(x.indices, minlength=len(producer_ids)),
        window=x,
        engaged=matrix(later.only(known), consumer_ids, producer_ids),
        elsewhere=distinct_producers(later.only(~known), consumer_ids),
    )
    earlier = matrix(window.only(~last), consumer_ids, producer_ids)
    following = matrix(window.only(last), consumer_ids, producer_ids)
    return Problem(name, case, (earlier, following), repeats)


def with_labels(problem: Problem, **labels: Any) -> Problem:
    """The problem with more of what its case may have."""
    return replace(problem, case=replace(problem.case, **labels))


def matrix(pairs: Pairs, consumer_ids: np.ndarray, producer_ids: np.ndarray) -> sp.csr_matrix:
    """The sum of the strengths of each pair, (n, m). The ids are sorted and contain all pairs."""
    rows = np.searchsorted(consumer_ids, pairs.consumers)
    columns = np.searchsorted(producer_ids, pairs.producers)
    shape = (len(consumer_ids), len(producer_ids))
    return sp.coo_matrix((pairs.strengths, (rows, columns)), shape=shape).tocsr()


def distinct_producers(pairs: Pairs, consumer_ids: np.ndarray) -> np.ndarray:
    """How many producers each consumer has, (n,)."""
    producers, columns = np.unique(pairs.producers, return_inverse=True)
    rows = np.searchsorted(consumer_ids, pairs.consumers)
    distinct = np.unique(rows * (len(producers) + 1) + columns) // (len(producers) + 1)
    return np.bincount(distinct, minlength=len(consumer_ids))


def last_share(consumers: np.ndarray, order: np.ndarray, share: float) -> np.ndarray:
    """Of each consumer the last rows, at least one: (r,) bool.

    consumers: (r,) ids; order: (r,), such as times. Rows of the same time keep their order.
    """
    _, numbers, counts = np.unique(consumers, return_inverse=True, return_counts=True)
    by_consumer = np.lexsort((order, numbers))
    place = np.empty(len(order), np.int64)
    starts = np.cumsum(counts) - counts
    place[by_consumer] = np.arange(len(order)) - np.repeat(starts, counts)
    n_last = np.maximum(1, np.round(share * counts))
    return place >= (counts - n_last)[numbers]


# Ids and counts


def as_ids(numbers: np.ndarray) -> np.ndarray:
    """Numbers as ids, (n,) bytes."""
    return np.asarray(numbers).astype(np.str_).astype(np.bytes_)


def counted(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sp.csr_matrix:
    """How often each pair of numbers occurs, without those below zero."""
    known = (rows >= 0) & (columns >= 0)
    ones = np.ones(int(known.sum()))
    return sp.coo_matrix((ones, (rows[known], columns[known])), shape=shape).tocsr()


def places(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The row of each wanted id among sorted ones; -1 where it is none of them."""
    at = np.searchsorted(ids, wanted).clip(max=len(ids) - 1)
    return np.where(ids[at] == wanted, at, -1)
