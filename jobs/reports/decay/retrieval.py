"""Retrieval: the next day's engagements by the vectors of older and older versions.

Every way ranks all producers that it knows for every consumer who engages on a tested day:

    stale          vectors of that age
    folded in      producers of that age; consumers folded in from all engagements up to yesterday
    equal volume   vectors up to yesterday, learned from as many engagements as those of that age
    popularity     how many consumers engaged with a producer, known up to that age

A consumer without a vector is shown the most popular producers. What the stale vectors lose to
those of equal volume is ageing; the rest of their loss is that they have seen fewer data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import scipy.sparse as sp

from embeddings.benchmarks.intervals import MEAN_RESAMPLES, Estimate, user_bootstrap, weighted_mean
from embeddings.benchmarks.metrics import Ranking, rank
from embeddings.benchmarks.splits import hold_out_pairs
from jobs.reports.daily_log import Log, LoggedDay
from jobs.reports.daily_versions import Fit, fit_window
from jobs.reports.decay.ages import Plan, matrix_cells
from jobs.reports.methods import Method
from jobs.reports.report import ReportProgress, Row
from jobs.settings import MatrixSettings, Settings

TOP = 20  # of NDCG and recall
CONSUMERS = 10_000  # at most, of a tested day
WINDOWS = (1, 3, 7, 14, 28)  # days, those shorter than the window of the settings
STALE, FOLDED, EQUAL, POPULAR = WAYS = ("stale", "folded in", "equal volume", "popularity")
METRICS = ("ndcg", "recall")
FLOAT_BYTES = 4


@dataclass
class Values:
    """Values by consumer of many ways, summed over the seeds: key -> tested day -> (n,)."""

    sums: dict[Hashable, dict[int, np.ndarray]] = field(default_factory=dict)
    seeds: dict[Hashable, dict[int, int]] = field(default_factory=dict)

    def add(self, key: Hashable, test: int, values: np.ndarray) -> None:
        days = self.sums.setdefault(key, {})
        counts = self.seeds.setdefault(key, {})
        days[test] = days.get(test, 0) + values
        counts[test] = counts.get(test, 0) + 1

    def mean(self, key: Hashable, tests: list[int]) -> np.ndarray:
        """The values of all consumers of these days, mean over the seeds, (Σ n,)."""
        parts = [self.sums[key][test] / self.seeds[key][test] for test in tests]
        return np.concatenate(parts)


@dataclass(frozen=True)
class Measured:
    """The curve by way and age, the matrix by day, windows, and what the ways cost."""

    ways: dict[tuple[str, int], dict[str, Estimate]]
    curve: list[Row]
    matrix: list[Row]
    windows: list[Row]
    seconds: dict[str, float]
    bytes: dict[str, int]


def n_steps(plan: Plan, seeds: int) -> int:
    """How often `measure` reports progress."""
    return seeds * (len(plan.days) - 1 + len(plan.tests))


def measure(
    log: Log, plan: Plan, settings: Settings, method: Method, seeds: int, progress: ReportProgress
) -> Measured:
    """All ways at every age, on the same consumers, with intervals by consumer.

    plan: of all days of the log.
    """
    users = {test: engaged_consumers(log.days[test]) for test in range(1, len(log.days))}
    trial = Trial(log, plan, settings, method, users)
    for seed in range(seeds):
        trial.run(seed, progress)
    everyone = np.concatenate([users[test] for test in plan.tests])
    ways = estimates(trial, everyone)
    return Measured(
        ways=ways,
        curve=curve_rows(ways, trial.volumes),
        matrix=matrix_rows(trial),
        windows=window_rows(trial, everyone),
        seconds={name: float(np.median(values)) for name, values in trial.seconds.items()},
        bytes=version_bytes(log, trial.newest),
    )


def engaged_consumers(day: LoggedDay) -> np.ndarray:
    """The rows of at most CONSUMERS consumers who engage on a day, ascending."""
    rows = np.flatnonzero(np.diff(day.strengths.indptr))
    if len(rows) <= CONSUMERS:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, CONSUMERS, replace=False))


class Trial:
    """Fits and rankings of all seeds, and their values by consumer."""

    def __init__(
        self,
        log: Log,
        plan: Plan,
        settings: Settings,
        method: Method,
        users: dict[int, np.ndarray],
    ) -> None:
        self.log = log
        self.plan = plan
        self.matrix = settings.matrix
        self.method = method
        self.users = users
        self.values = {metric: Values() for metric in METRICS}
        self.volumes: dict[int, list[float]] = {}  # age -> engagements of each fit
        self.seconds: dict[str, list[float]] = {"refit": [], "fold in": []}
        self.newest: Fit | None = None  # of the last tested day

    def run(self, seed: int, progress: ReportProgress) -> None:
        fits = self.fits(seed, progress)
        self.newest = fits[-1]
        for last, test in matrix_cells(len(self.log.days)):
            self.rank((last, test), fits[last], test)
        for test in self.plan.tests:
            progress(f"retrieval on {self.log.days[test].day}, seed {seed}")
            self.run_ages(fits, test, seed)
            self.run_windows(test, seed)

    def fits(self, seed: int, progress: ReportProgress) -> list[Fit]:
        """What is learned up to each day but the last, which is only tested."""
        fits = []
        for last in range(len(self.log.days) - 1):
            progress(f"retrieval, vectors of {self.log.days[last].day}, seed {seed}")
            with timed(self.seconds["refit"]):
                fits.append(self.fit(self.log, last, seed))
                fits[-1].consumers  # noqa: B018 - folds in those that were not fitted
        return fits

    def run_ages(self, fits: list[Fit], test: int, seed: int) -> None:
        for key, fit, consumers in self.aged(fits, test, seed):
            self.rank(key, fit, test, consumers)

    def aged(
        self, fits: list[Fit], test: int, seed: int
    ) -> Iterator[tuple[tuple[str, int], Fit, np.ndarray]]:
        """Every way at every age before a tested day: its key, fit and (n, k) consumer vectors."""
        newest = self.plan.learned(test, 0)
        fresh, _ = self.log.window(newest, self.matrix)
        for age in self.plan.ages:
            last = self.plan.learned(test, age)
            fit = fits[last]
            yield (STALE, age), fit, fit.consumers
            with timed(self.seconds["fold in"]):
                folded = fit.model.fold_in.fold(fresh[:, fit.columns])
            yield (FOLDED, age), fit, folded
            yield (POPULAR, age), fit, np.zeros_like(folded)
            volume = self.volume(last)
            self.volumes.setdefault(age, []).append(volume)
            equal = fits[newest]
            if age:
                part = newest_engagements(self.log, newest, self.matrix, volume, seed)
                equal = self.fit(part, len(part.days) - 1, seed)
            yield (EQUAL, age), equal, equal.consumers

    def run_windows(self, test: int, seed: int) -> None:
        """Vectors up to yesterday of shorter windows."""
        newest = self.plan.learned(test, 0)
        for length in self.lengths():
            cfg = self.matrix.model_copy(update={"window_days": length})
            self.rank(("window", length), self.fit(self.log, newest, seed, cfg), test)

    def lengths(self) -> list[int]:
        """The windows that are shorter than what every tested day has."""
        longest = min(self.matrix.window_days, self.plan.tests[0])
        return [length for length in WINDOWS if length < longest]

    def volume(self, last: int) -> float:
        """The engagements in the window up to day number `last`."""
        first = max(0, last - self.matrix.window_days + 1)
        return float(sum(day.events.sum() for day in self.log.days[first : last + 1]))

    def fit(self, log: Log, last: int, seed: int, cfg: MatrixSettings | None = None) -> Fit:
        x, events = log.window(last, cfg or self.matrix)
        return fit_window(x, events, self.method, self.matrix.min_engagements, seed)

    def rank(self, key: Hashable, fit: Fit, test: int, consumers: np.ndarray | None = None) -> None:
        """Keep NDCG and recall by consumer of a tested day.

        consumers: (n, k), vectors of all consumers; default: those of the fit.
        """
        users = self.users[test]
        vectors = fit.consumers if consumers is None else consumers
        ranking = ranked(vectors[users], fit, self.log.days[test].strengths[users])
        self.values["ndcg"].add(key, test, ranking.ndcg(TOP))
        self.values["recall"].add(key, test, ranking.recall(TOP))


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Append the CPU seconds of the block."""
    started = time.process_time()
    yield
    seconds.append(time.process_time() - started)


def ranked(consumers: np.ndarray, fit: Fit, engaged: sp.csr_matrix) -> Ranking:
    """Rank the producers of a fit by the products of vectors, as the step `benchmark` does.

    consumers: (r, k); engaged: (r, m), the day's engagements of the same consumers. What they
    engage with and the fit does not have counts as not found.
    """
    known = engaged[:, fit.columns].tocsr()
    ranking = rank(
        consumers,
        fit.model.producers,
        seen=sp.csr_matrix(known.shape),
        relevant=known,
        popularity=popularity_of(fit),
    )
    return ranking.with_missing(np.diff(engaged.indptr) - np.diff(known.indptr))


def popularity_of(fit: Fit) -> np.ndarray:
    """How many fitted consumers engaged with each producer of a fit, (m',) float32."""
    counts = np.bincount(fit.x[fit.fitted].indices, minlength=len(fit.columns))
    return counts.astype(np.float32)


def newest_engagements(log: Log, last: int, cfg: MatrixSettings, volume: float, seed: int) -> Log:
    """The days up to number `last`, cut to so many of the window's newest engagements.

    Of the oldest day that is left, a random share of the pairs is kept.
    """
    first = max(0, last - cfg.window_days + 1)
    days: list[LoggedDay] = []
    left = volume
    for day in reversed(log.days[first : last + 1]):
        n = float(day.events.sum())
        if n > left:
            days.append(thinned(day, left / n, seed))
            break
        days.append(day)
        left -= n
    return Log(days[::-1], None)


def thinned(day: LoggedDay, share: float, seed: int) -> LoggedDay:
    """A random share of the day's pairs."""
    # Both matrices have the same pairs in the same order, so the same ones are drawn.
    _, strengths = hold_out_pairs(day.strengths, share, seed)
    _, events = hold_out_pairs(day.events, share, seed)
    return replace(day, strengths=strengths, events=events)


# Estimates and tables


def estimates(trial: Trial, users: np.ndarray) -> dict[tuple[str, int], dict[str, Estimate]]:
    """Way and age -> metric -> its mean over the consumers of all tested days."""
    found: dict[tuple[str, int], dict[str, Estimate]] = {}
    keys = [(way, age) for way in WAYS for age in trial.plan.ages]
    for metric in METRICS:
        means = mean_by_key(trial.values[metric], keys, trial.plan.tests, users)
        for key in keys:
            found.setdefault(key, {})[metric] = means[key]
    return found


def mean_by_key(
    values: Values, keys: list, tests: list[int], users: np.ndarray
) -> dict[Hashable, Estimate]:
    """The mean of every key, resampled by consumer with the same draws. users: (Σ n,)."""
    statistics: dict[Hashable, Callable] = {}
    for key in keys:
        statistics[key] = partial(weighted_mean, values.mean(key, tests))
    return user_bootstrap(users, statistics, MEAN_RESAMPLES, seed=0)


def curve_rows(
    ways: dict[tuple[str, int], dict[str, Estimate]], volumes: dict[int, list[float]]
) -> list[Row]:
    """One row per way and age; `lost`: what it lacks to fresh vectors."""
    rows: list[Row] = []
    for (way, age), metrics in ways.items():
        row: Row = {"way": way, "age": age}
        if way in (STALE, EQUAL):
            row["engagements"] = round(float(np.mean(volumes[age])))
        for metric in METRICS:
            name = f"{metric}_{TOP}"
            row |= metrics[metric].fields(name)
            row |= (ways[STALE, 0][metric] - metrics[metric]).fields(f"{name}_lost")
        rows.append(row)
    return rows


def matrix_rows(trial: Trial) -> list[Row]:
    """NDCG of every learned and every later tested day, mean over consumers and seeds."""
    rows: list[Row] = []
    days = trial.log.days
    for last, test in matrix_cells(len(days)):
        of_users = trial.values["ndcg"].mean((last, test), [test])
        row: Row = {"learned": str(days[last].day), "tested": str(days[test].day)}
        if len(of_users):
            row[f"ndcg_{TOP}"] = float(of_users.mean())
        rows.append(row)
    return rows


def window_rows(trial: Trial, users: np.ndarray) -> list[Row]:
    """NDCG of fresh vectors by the length of their window, and what a shorter one loses."""
    keys: list[tuple[str, int]] = [("window", length) for length in trial.lengths()]
    means = mean_by_key(trial.values["ndcg"], [*keys, (STALE, 0)], trial.plan.tests, users)
    whole = means[STALE, 0]
    rows: list[Row] = []
    for key in keys:
        row: Row = {"window": f"{key[1]}"}
        row |= means[key].fields(f"ndcg_{TOP}")
        row |= (whole - means[key]).fields(f"ndcg_{TOP}_lost")
        rows.append(row)
    if keys:
        rows.append({"window": "whole", **whole.fields(f"ndcg_{TOP}")})
    return rows


def version_bytes(log: Log, fit: Fit | None) -> dict[str, int]:
    """What is written: by a new fit the vectors of both sides, by folding in those of consumers."""
    if fit is None:
        return {}
    k = fit.model.producers.shape[1]
    consumers = log.shape[0] * k * FLOAT_BYTES
    producers = len(fit.columns) * k * FLOAT_BYTES
    return {"refit": consumers + producers, "fold in": consumers}
