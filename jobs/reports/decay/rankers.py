"""Rankers of every age on the same next days: what a user loses, and how much of it is drift.

The rankers are those of the loop: they read the examples of the step `examples`, with past counts
and vectors from before each day. So a ranker of age a is one that has not been retrained for a
days, while its embeddings and counts are fresh. Two lines:

    as old         trained on the window up to that age; fewer data where the log is shorter than
                   the window
    equal volume   trained up to yesterday on the newest days with as many rows as the old one had

What the old ranker loses to the fresh one is what a user loses. What it loses to that of equal
volume is drift.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow.parquet as pq

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import Estimate, user_bootstrap
from jobs.errors import NotCommitted
from jobs.lake.store import Partition
from jobs.pipeline.plan import module
from jobs.pipeline.published import published_version
from jobs.reports.decay.ages import Plan, matrix_cells
from jobs.reports.decay.metrics import log_losses, rces
from jobs.reports.report import ReportProgress, Row
from jobs.reports.trials import Metric, mean_metric
from jobs.settings import Settings
from models.features import Day

if TYPE_CHECKING:
    from models.training import Trained

RESAMPLES = 200
OLD, EQUAL = LINES = ("as old", "equal volume")
WINDOW = "window"
WINDOWS = (1, 2, 4, 7, 14, 28)  # days
STARTS = (3, 5, 8)  # days with impressions after which a ranker is frozen, for the table by start
SECOND_LABEL = "long_view"  # shown beside the primary label, where the log has it
FLOAT_BYTES = 4
# Metric -> how it is computed, and whether a higher value is better.
METRICS: dict[str, tuple[Metric, bool]] = {
    "auc": (auc, True),
    "log_loss": (log_losses, False),
    "rce": (rces, True),
}
Key = TypeVar("Key", bound=Hashable)
Curves = dict[tuple[str, str], dict[tuple[str, int], Estimate]]  # (label, metric) -> see `curves`
Scores = dict[Hashable, dict[int, list[np.ndarray]]]  # key -> tested day -> (n, labels) by seed


@dataclass(frozen=True)
class Fitted:
    """A trained ranker, and the newest examples that it has seen."""

    trained: Trained
    newest: Partition
    rows: int


class RankerDays:
    """The days that rankers learn from and are tested on, by position; those of one feature spec.

    left_out: day -> why it is neither.
    """

    def __init__(self, settings: Settings, examples: list[Partition]) -> None:
        """examples: ascending, at least one."""
        self.settings = settings
        use = module("train").usable(examples)
        self.partitions: list[Partition] = use.kept
        self.left_out: dict[str, str] = use.left_out
        self.day = cache(self._day)
        newest = self.partitions[-1]
        self.spec = module("train").spec_of(newest)
        names = [label.removeprefix("label_") for label in self.spec.labels]
        primary = module("evaluate").label_column(newest, settings.ranker.primary_label)
        self.labels = {names[primary]: primary}
        if SECOND_LABEL in names:
            self.labels.setdefault(SECOND_LABEL, names.index(SECOND_LABEL))

    def __len__(self) -> int:
        return len(self.partitions)

    @property
    def days(self) -> list[date]:
        return [partition.day for partition in self.partitions]

    def _day(self, position: int, masked: bool = False) -> Day:
        return module("train").load_day(self.settings, self.partitions[position], masked=masked)

    def users(self, position: int) -> np.ndarray:
        path = self.partitions[position].path / module("examples").EXAMPLES
        return pq.read_table(path, columns=["consumer_id"])["consumer_id"].to_numpy()

    def rows(self, position: int) -> int:
        return int(self.partitions[position].facts["rows"])

    def window(self, last: int) -> list[int]:
        """The positions of the days in the ranker's window up to that of `last`."""
        oldest = self.days[last] - timedelta(days=self.settings.ranker.window_days - 1)
        return [position for position in range(last + 1) if self.days[position] >= oldest]

    def newest_rows(self, last: int, rows: int) -> list[int]:
        """The newest positions up to `last` whose rows together are nearest to so many.

        Of two equally near choices the shorter one; at least one day.
        """
        counts = [self.rows(position) for position in range(last, -1, -1)]
        totals = np.cumsum(counts)
        length = int(np.argmin(np.abs(totals - rows))) + 1
        return list(range(last - length + 1, last + 1))

    def fit(self, positions: list[int], seed: int) -> Fitted:
        from models.training import train

        step = module("train")
        use = step.usable([self.partitions[position] for position in positions])
        days = []
        for position in positions:
            masked = str(self.days[position]) in use.masked
            days.append(self.day(position, masked))
        ranker = self.settings.ranker
        cfg = step.training_config(ranker, seed)
        trained = train(days, self.spec, ranker.kind, ranker.options, cfg)
        newest = self.partitions[positions[-1]]
        return Fitted(trained, newest, sum(len(day) for day in days))

    def scores(self, ranker: Fitted, test: int) -> np.ndarray:
        """The probabilities of the shown labels, (n, shown)."""
        from models.training import predict

        space = ranker.trained.space
        day = self.readable(ranker, test)
        threads = self.settings.ranker.threads
        scores = predict(ranker.trained.model, day, space, threads=threads)
        return scores[:, list(self.labels.values())]

    def readable(self, ranker: Fitted, test: int) -> Day:
        """The tested day with vectors that the ranker can read, as the step `evaluate` does it."""
        day = self.day(test)
        space = ranker.trained.space
        if not (space and day.space and space != day.space):
            return day
        try:
            version = published_version(self.settings, ranker.newest.facts["version"])
        except NotCommitted:
            return day.masked()
        examples = self.partitions[test]
        return module("evaluate").with_vectors_of(self.settings, version, day, examples)


@dataclass
class Measured:
    """Scores of all rankers, and what is derived from them: see `tables`.

    cells: (learned, tested) positions; lines: (line or WINDOW, age or days). rows: line, age ->
    rows of each training. seconds: of every training of the newest window; parameters: weights.
    """

    days: RankerDays
    plan: Plan
    cells: Scores = field(default_factory=dict)
    lines: Scores = field(default_factory=dict)
    rows: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    parameters: int = 0


def n_steps(plan: Plan, seeds: int) -> int:
    """How often `measure` reports progress."""
    n = len(plan.days) - 1
    return seeds * (n + len(plan.tests))


def measure(days: RankerDays, plan: Plan, seeds: int, progress: ReportProgress) -> Measured:
    """Train and score the rankers of every age. plan: of these days."""
    found = Measured(days, plan)
    for seed in range(seeds):
        for last in range(len(days) - 1):
            progress(f"ranker up to {days.days[last]}, seed {seed}")
            score_later_days(found, last, seed)
        for test in plan.tests:
            progress(f"rankers of equal volume for {days.days[test]}, seed {seed}")
            score_ages(found, test, seed)
            score_windows(found, test, seed)
    return found


def score_later_days(found: Measured, last: int, seed: int) -> None:
    """The whole row of the matrix: one ranker on all days after its newest one."""
    days = found.days
    started = time.process_time()
    ranker = days.fit(days.window(last), seed)
    seconds = time.process_time() - started
    if last == len(days) - 2:
        found.seconds.append(seconds)
        weights = ranker.trained.model.parameters()
        found.parameters = sum(weight.numel() for weight in weights)
    for test in range(last + 1, len(days)):
        keep(found.cells, (last, test), test, days.scores(ranker, test))


def score_ages(found: Measured, test: int, seed: int) -> None:
    """Both lines at every age: the old rankers are in the matrix already."""
    days, plan = found.days, found.plan
    newest = plan.learned(test, 0)
    for age in plan.ages:
        last = plan.learned(test, age)
        old = found.cells[last, test][test][seed]
        keep(found.lines, (OLD, age), test, old)
        n_rows = sum(days.rows(position) for position in days.window(last))
        found.rows.setdefault((OLD, age), []).append(n_rows)
        equal = days.newest_rows(newest, n_rows)
        if equal == days.window(newest):
            scores = found.cells[newest, test][test][seed]
        else:
            scores = days.scores(days.fit(equal, seed), test)
        keep(found.lines, (EQUAL, age), test, scores)
        rows_of_equal = sum(days.rows(position) for position in equal)
        found.rows.setdefault((EQUAL, age), []).append(rows_of_equal)


def score_windows(found: Measured, test: int, seed: int) -> None:
    """Rankers up to yesterday of shorter windows."""
    days = found.days
    newest = found.plan.learned(test, 0)
    for length in shorter_windows(found):
        positions = days.window(newest)[-length:]
        keep(found.lines, (WINDOW, length), test, days.scores(days.fit(positions, seed), test))


def shorter_windows(found: Measured) -> list[int]:
    """The windows that are shorter than what every tested day has."""
    newest = [found.plan.learned(test, 0) for test in found.plan.tests]
    longest = min(len(found.days.window(position)) for position in newest)
    return [length for length in WINDOWS if length < longest]


def keep(scores: Scores, key: Hashable, test: int, of_seed: np.ndarray) -> None:
    scores.setdefault(key, {}).setdefault(test, []).append(of_seed)


# Estimates and tables


def estimates(
    found: Measured, scores: Scores, keys: list[Key], tests: list[int], label: str, metric: str
) -> dict[Key, Estimate]:
    """The metric of every key: mean over the tested days and seeds, resampled by consumer.

    A key may stand for another cell on every day: see `served_scores`.
    """
    days = found.days
    users = np.concatenate([days.users(test) for test in tests])
    labels = [days.day(test).labels[:, days.labels[label]] for test in tests]
    column = list(days.labels).index(label)
    function, _ = METRICS[metric]
    statistics = {}
    for key in keys:
        of_tests = []
        for test in tests:
            of_tests.append([of_seed[:, column] for of_seed in scores[key][test]])
        statistics[key] = partial(mean_metric, function, labels, of_tests)
    return user_bootstrap(users, statistics, RESAMPLES, seed=0)


def lost(fresh: Estimate, old: Estimate, metric: str) -> Estimate:
    """What the old one lacks, in units of the metric: positive where it is worse."""
    _, higher_is_better = METRICS[metric]
    return fresh - old if higher_is_better else old - fresh


def curves(found: Measured) -> Curves:
    """(label, metric) -> line and age, or window -> estimate, all on the same rows."""
    keys = [(line, age) for line in LINES for age in found.plan.ages]
    keys += [(WINDOW, length) for length in shorter_windows(found)]
    of_all: Curves = {}
    for label in found.days.labels:
        for metric in METRICS:
            of_all[label, metric] = estimates(
                found, found.lines, keys, found.plan.tests, label, metric
            )
    return of_all


def curve_rows(found: Measured, of_all: Curves) -> list[Row]:
    """One row per label, line and age.

    lost: to the fresh ranker, with all data. drift: what the old ranker lacks to that of its
    volume; on the rows of the old one.
    """
    rows: list[Row] = []
    for label in found.days.labels:
        for line in LINES:
            for age in found.plan.ages:
                row: Row = {"label": label, "line": line, "age": age}
                row["rows"] = round(float(np.mean(found.rows[line, age])))
                for metric in METRICS:
                    means = of_all[label, metric]
                    own, fresh = means[line, age], means[OLD, 0]
                    row |= own.fields(metric)
                    row |= lost(fresh, own, metric).fields(f"{metric}_lost")
                    if line == OLD:
                        drift = lost(means[EQUAL, age], own, metric)
                        row |= drift.fields(f"{metric}_drift")
                rows.append(row)
    return rows


def window_rows(found: Measured, of_all: Curves) -> list[Row]:
    """The fresh ranker by the length of its window, in days, and what a shorter one loses."""
    rows: list[Row] = []
    for label in found.days.labels:
        for length in shorter_windows(found):
            row: Row = {"label": label, "window": str(length)}
            for metric in METRICS:
                means = of_all[label, metric]
                row |= means[WINDOW, length].fields(metric)
                whole = means[OLD, 0]
                row |= lost(whole, means[WINDOW, length], metric).fields(f"{metric}_lost")
            rows.append(row)
        row = {"label": label, "window": "whole"}
        for metric in METRICS:
            row |= of_all[label, metric][OLD, 0].fields(metric)
        rows.append(row)
    return rows


def cell_means(found: Measured) -> dict[tuple[int, int], float]:
    """The AUC of the primary label of every cell, mean over the seeds."""
    label = next(iter(found.days.labels))
    means = {}
    for last, test in matrix_cells(len(found.days)):
        y = found.days.day(test).labels[:, found.days.labels[label]]
        of_seeds = found.cells[last, test][test]
        means[last, test] = float(np.mean([auc(y, scores[:, 0]) for scores in of_seeds]))
    return means


def matrix_rows(found: Measured) -> list[Row]:
    """One row per learned and later tested day."""
    days = found.days.days
    rows: list[Row] = []
    for (last, test), value in cell_means(found).items():
        rows.append({"learned": str(days[last]), "tested": str(days[test]), "auc": value})
    return rows


def frozen_rows(found: Measured) -> list[Row]:
    """Rankers frozen after some days, against those retrained every day, by age; primary label.

    Every row is one tested day, so that the ages of one start are on different rows.
    """
    label = next(iter(found.days.labels))
    n = len(found.days)
    rows: list[Row] = []
    for start in STARTS:
        last = start - 1
        for test in range(last + 2, n):
            pair = [(last, test), (test - 1, test)]
            aucs = estimates(found, found.cells, pair, [test], label, "auc")
            age = (found.days.days[test] - found.days.days[last]).days - 1
            row: Row = {"start": start, "age": age, "tested": str(found.days.days[test])}
            row |= aucs[pair[0]].fields("frozen")
            row["retrained"] = aucs[pair[1]].value
            row |= (aucs[pair[1]] - aucs[pair[0]]).fields("lost")
            rows.append(row)
    return rows


def served_scores(found: Measured, served: dict[int, int]) -> dict[int, list[np.ndarray]]:
    """The scores of one ranker for every tested day. served: tested -> learned position."""
    return {test: found.cells[last, test][test] for test, last in served.items()}


def costs(found: Measured) -> tuple[float, int]:
    """CPU seconds of one training on the newest window, and bytes of the model."""
    return float(np.median(found.seconds)), found.parameters * FLOAT_BYTES
