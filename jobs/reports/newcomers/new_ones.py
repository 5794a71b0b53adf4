"""A day as a problem: users and producers who are new on it, after a window to learn from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from embeddings.features import Features
from jobs.reports.tables.problem import Pairs, distinct_producers, matrix, places


@dataclass(frozen=True)
class Asked:
    """r users who are asked about, and what is known of each in the moment of asking.

    rows: (r,) of all users. history: (r, m), what is known of the engagements; engaged: (r, m),
    what follows, and elsewhere: (r,), what follows that is none of the m. Nothing of the history
    is asked for again where `repeats` is False. rates: (r, m), the expected clicks; None where
    nobody knows.
    """

    rows: np.ndarray
    history: sp.csr_matrix
    engaged: sp.csr_matrix
    elsewhere: np.ndarray
    repeats: bool = True
    rates: np.ndarray | None = None


@dataclass(frozen=True)
class NewOnes:
    """A data set of n users, m producers of the window, and p producers who are new on the day.

    x: (n, m), the window. consumers, producers, new_producers: features of n, m and p rows; None
    where the log has none. known: users with a window; new: users without, of whom nothing has
    happened; begun: the same after their first engagement of the day. of_new: users with a window
    and the new producers, (r, p) instead of (r, m).
    """

    name: str
    x: sp.csr_matrix
    consumer_ids: np.ndarray
    producer_ids: np.ndarray
    new_producer_ids: np.ndarray
    known: Asked
    new: Asked
    begun: Asked
    of_new: Asked
    consumers: Features | None = None
    producers: Features | None = None
    new_producers: Features | None = None

    def with_features(
        self,
        consumers: Features | None,
        producers: Features | None,
        new_producers: Features | None,
    ) -> NewOnes:
        return replace(self, consumers=consumers, producers=producers, new_producers=new_producers)


def new_ones(
    name: str, window: Pairs, day: Pairs, times: np.ndarray, kept: np.ndarray | None = None
) -> NewOnes:
    """The problem of these engagements, without features.

    times: (r,) of the day's, ascending by what came first. kept: (w,) bool, the engagements of the
    window with producers that are learned; others are not new for that, and cannot be found.
    """
    consumer_ids = np.unique(np.concatenate([window.consumers, day.consumers]))
    learned = window if kept is None else window.only(kept)
    producer_ids = np.unique(learned.producers)
    x = matrix(learned, consumer_ids, producer_ids)
    of_known = np.isin(day.producers, producer_ids)
    is_new = ~np.isin(day.producers, window.producers)
    new_producer_ids = np.unique(day.producers[is_new])
    engaged = matrix(day.only(of_known), consumer_ids, producer_ids)
    elsewhere = distinct_producers(day.only(~of_known), consumer_ids)
    any_today = np.diff(engaged.indptr) + elsewhere > 0
    has_window = np.isin(consumer_ids, window.consumers)
    known, new = np.flatnonzero(any_today & has_window), np.flatnonzero(any_today & ~has_window)
    of_new = matrix(day.only(is_new), consumer_ids, new_producer_ids)
    finders = np.flatnonzero((np.diff(of_new.indptr) > 0) & has_window)
    return NewOnes(
        name=name,
        x=x,
        consumer_ids=consumer_ids,
        producer_ids=producer_ids,
        new_producer_ids=new_producer_ids,
        known=Asked(known, x[known], engaged[known], elsewhere[known]),
        new=Asked(new, x[new], engaged[new], elsewhere[new]),
        begun=begun(day, times, consumer_ids[new], new, producer_ids),
        of_new=Asked(finders, x[finders], of_new[finders], np.zeros(len(finders), np.int64)),
    )


def begun(
    day: Pairs, times: np.ndarray, new_ids: np.ndarray, rows: np.ndarray, producer_ids: np.ndarray
) -> Asked:
    """The new users after their first engagement with one of the m, who have others after it.

    new_ids: (w,) sorted; rows: (w,), their rows.
    """
    of_new = day.only(np.isin(day.consumers, new_ids))
    moments = times[np.isin(day.consumers, new_ids)]
    order = np.lexsort((moments, of_new.consumers))
    of_new = of_new.only(order)
    usable = np.isin(of_new.producers, producer_ids)
    _, first = np.unique(of_new.consumers[usable], return_index=True)
    first_rows = np.flatnonzero(usable)[first]
    known_from = np.full(len(new_ids), len(of_new))
    users = np.searchsorted(new_ids, of_new.consumers)
    known_from[users[first_rows]] = first_rows
    follows = np.arange(len(of_new)) > known_from[users]
    history = matrix(of_new.only(first_rows), new_ids, producer_ids)
    engaged = matrix(of_new.only(usable), new_ids, producer_ids)
    # Without the one that is known: it is not asked for again.
    engaged = engaged - engaged.multiply(history > 0)
    engaged.eliminate_zeros()
    engaged = engaged.tocsr()
    missing = distinct_producers(of_new.only(~usable & follows), new_ids)
    asked = np.flatnonzero((np.diff(engaged.indptr) + missing > 0) & (np.diff(history.indptr) > 0))
    return Asked(rows[asked], history[asked], engaged[asked], missing[asked], repeats=False)


def rows_among(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The row of each wanted id among ids in any order; -1 where it is none of them."""
    order = np.argsort(ids, kind="stable")
    found = places(ids[order], wanted)
    return np.where(found >= 0, order[found], -1)
