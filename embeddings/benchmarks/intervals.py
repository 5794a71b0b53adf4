"""Bootstrap intervals that resample whole users.

The rows of one user are not independent, so a user is drawn with all of its rows. A draw is a
multinomial weight for every user, and a statistic is a function of the rows' weights; several
statistics share the draws, which makes differences and ratios of them paired:

    aucs = user_bootstrap(users, {"old": partial(auc, labels, old), …}, resamples=200, seed=0)
    gain = aucs["new"] - aucs["old"]
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

LEVEL = 0.95  # share of the draws inside every interval
CHUNK = 50  # resamples at a time: the memory is CHUNK * rows weights
MEAN_RESAMPLES = 1000

Name = TypeVar("Name", bound=Hashable)


class Statistic(Protocol):
    """A statistic of weighted rows."""

    def __call__(self, weights: np.ndarray | None = None, /) -> np.ndarray:
        """weights: (r, n) >= 0, for r values (r,); None weighs all rows 1, for one value ()."""


@dataclass(frozen=True)
class Estimate:
    """A statistic with its percentile bootstrap interval; NaN where it is undefined.

    draws: (resamples,), the statistic of every resample. Estimates from one bootstrap have the same
    resamples in the same order, so that their differences and ratios are paired. Source: Efron
    1979, "Bootstrap Methods: Another Look at the Jackknife", Ann. Statist. 7.
    """

    value: float
    low: float
    high: float
    draws: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)

    @classmethod
    def from_draws(cls, value: float, draws: np.ndarray) -> Estimate:
        """The percentile interval: the middle LEVEL of the draws on which it is defined."""
        # A draw can lack a value: an AUC does if the drawn users have labels of one class.
        defined = draws[np.isfinite(draws)]
        # Kept in this form: 2.5 exactly would change the last bit of the gate's old intervals.
        tail = 100 * (1 - LEVEL) / 2
        low = high = np.nan
        if len(defined):
            low, high = np.percentile(defined, [tail, 100 - tail])
        return cls(float(value), float(low), float(high), draws)

    @property
    def resamples(self) -> np.ndarray:
        """The draws on which the statistic is defined."""
        return self.draws[np.isfinite(self.draws)]

    def __sub__(self, other: Estimate) -> Estimate:
        return Estimate.from_draws(self.value - other.value, self.draws - other.draws)

    def __truediv__(self, other: Estimate) -> Estimate:
        """NaN or infinite where `other` is zero."""
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.divide(self.value, other.value)
            return Estimate.from_draws(value, self.draws / other.draws)

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def fields(self, name: str) -> dict[str, float]:
        """The value and the interval as table columns: NAME, NAME_low and NAME_high."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def share_of_gain(kept: Estimate, full: Estimate, baseline: Estimate) -> Estimate:
    """(kept − baseline) / (full − baseline): how much of a gain over the baseline is kept."""
    return (kept - baseline) / (full - baseline)


def user_bootstrap(
    users: np.ndarray, statistics: Mapping[Name, Statistic], resamples: int, seed: int
) -> dict[Name, Estimate]:
    """Estimate statistics of the same rows on the same resamples of whole users.

    users: (n,), the id of each row's user, of any type. The draws depend only on the seed and the
    number of users. Without rows every estimate is NaN.
    """
    if not len(users):
        return {name: Estimate(np.nan, np.nan, np.nan) for name in statistics}
    _, user_row = np.unique(users, return_inverse=True)
    n_users = int(user_row.max()) + 1
    draws: dict[Name, list[np.ndarray]] = {name: [] for name in statistics}
    for user_weights in _multinomial(n_users, resamples, seed):
        weights = user_weights[:, user_row]  # a row counts as often as its user was drawn
        for name, statistic in statistics.items():
            draws[name].append(statistic(weights))
    estimates = {}
    for name, statistic in statistics.items():
        value = float(statistic())  # on the rows themselves, unweighted
        estimates[name] = Estimate.from_draws(value, np.concatenate(draws[name]))
    return estimates


def _multinomial(n_users: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each user is drawn, (<= CHUNK, n_users) at a time, `resamples` rows in all."""
    rng = np.random.default_rng(seed)
    equal = np.full(n_users, 1 / n_users)
    for start in range(0, resamples, CHUNK):
        yield rng.multinomial(n_users, equal, size=min(CHUNK, resamples - start))


def weighted_mean(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The weighted mean of values. values: (n,), weights: (..., n). Returns (...).

    NaN without rows.
    """
    if not len(values):
        return np.full(() if weights is None else weights.shape[:-1], np.nan)
    if weights is None:
        return values.mean()
    return weights @ values / weights.sum(axis=-1)


def mean_estimates(values: Mapping[Name, np.ndarray], seed: int) -> dict[Name, Estimate]:
    """Estimate the means over users of several values per user. values: name -> (n_users,)."""
    n_users = len(next(iter(values.values())))
    means = {name: partial(weighted_mean, column) for name, column in values.items()}
    return user_bootstrap(np.arange(n_users), means, MEAN_RESAMPLES, seed)


def mean_estimate(values: np.ndarray, seed: int) -> Estimate:
    """Estimate the mean over users of one value per user, (n_users,)."""
    return mean_estimates({"mean": values}, seed)["mean"]
