"""Do the intervals of the decay curve hold the truth? In many worlds where it is known.

In each simulated world vectors are learned and judged as `evergreen decay` does it. The truth is
what the same vectors are expected to lose on the same days: the mean over many draws of these days,
from the rates at which each consumer clicks on each producer in that world. If the measurement is
right, 95 of 100 intervals hold it, whatever the drift; and in a still world, where nothing ages,
they hold zero, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from matplotlib.figure import Figure
from scipy.stats import binomtest

from embeddings.benchmarks.metrics import scores_of
from jobs.plots import save
from jobs.reports.daily_log import Log, LoggedDay
from jobs.reports.daily_versions import Fit
from jobs.reports.decay.ages import Plan
from jobs.reports.decay.retrieval import (
    EQUAL,
    STALE,
    TOP,
    Trial,
    engaged_consumers,
    estimates,
    popularity_of,
)
from jobs.reports.methods import SVD
from jobs.reports.report import Report, Row, column_of, progress_bar, select
from jobs.settings import Settings
from simulation.drift import STANDING, STILL, Drift
from simulation.engagements import KINDS, impressions
from simulation.people import consumers, producers
from simulation.truth import rates
from simulation.world import World

NAME = "decay-coverage"
WORLD = World(consumers=1000, producers=300, topics=8, impressions=6.0)
DRIFTS = {
    "still": STANDING,
    "items alone": STILL,  # they come and go, people stand still
    "× 0.5": Drift().scaled(0.5),
    "× 1": Drift(),
    "× 2": Drift().scaled(2),
}
WINDOW, OLDEST, TESTS = 14, 7, 3  # days
SHOWN = (1, 3, 7)  # ages in the tables
WAYS = (STALE, EQUAL)
# What stale vectors lose to fresh ones, and to fresh ones of as many engagements.
LOSSES = {"all": (STALE, 0), "by ageing": (EQUAL, None)}
DRAWS = 200  # of the tested days
FIRST = date(2024, 1, 1)  # the date of day 0

Key = tuple[str, int]  # way, age


@dataclass(frozen=True)
class Ids:
    """Everyone who is in a world on one of the days, sorted: the rows and columns of its log."""

    consumers: np.ndarray
    producers: np.ndarray

    @classmethod
    def of(cls, world: World, days: int) -> Ids:
        everyone = [consumers(world, day).ids for day in range(days)]
        posting = [producers(world, day).ids for day in range(days)]
        return cls(np.unique(np.concatenate(everyone)), np.unique(np.concatenate(posting)))

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.consumers), len(self.producers)


def run(settings: Settings, worlds: int, out: Path | None = None) -> Report:
    """Measure so many worlds at each rate of drift, and write the report."""
    report = Report(settings, NAME, 0, out)
    rows: list[Row] = []
    with progress_bar("decay in known worlds", len(DRIFTS) * worlds) as progress:
        for name, drift in DRIFTS.items():
            for seed in range(worlds):
                progress(f"drift {name}, world {seed}")
                world = replace(WORLD, seed=seed, drift=drift)
                for row in measured(settings, world):
                    rows.append({"drift": name, "world": seed, **row})
    report.table("worlds", rows)
    report.table("coverage", coverage(rows))
    draw(rows, report.picture("intervals"))
    report.track()
    return report


def measured(settings: Settings, world: World, draws: int = DRAWS) -> list[Row]:
    """What older vectors lose in one world, in NDCG@20: measured, with its interval, and in truth.

    One row for each of LOSSES and each age of SHOWN.
    """
    trial, fits = learned(settings, world)
    contenders = contenders_of(trial, fits)
    everyone = np.concatenate([trial.users[test] for test in trial.plan.tests])
    found = estimates(trial, everyone)
    ids = Ids.of(world, len(trial.log.days))
    chances = {test: chances_of(world, test, ids) for test in trial.plan.tests}
    truth = expected_ndcg(chances, contenders, draws, world.seed)
    rows: list[Row] = []
    for loss, (way, fixed) in LOSSES.items():
        for age in SHOWN:
            fresh, stale = (way, age if fixed is None else fixed), (STALE, age)
            lost = found[fresh]["ndcg"] - found[stale]["ndcg"]
            known = truth[fresh] - truth[stale]
            rows.append({"loss": loss, "age": age, **lost.fields("lost"), "truth": known})
    return rows


def learned(settings: Settings, world: World) -> tuple[Trial, list[Fit]]:
    """The days of a world, and the vectors up to each of them."""
    n_days = WINDOW + OLDEST + TESTS
    log = log_of(world, n_days)
    plan = Plan([day.day for day in log.days], list(range(n_days - TESTS, n_days)), OLDEST)
    users = {test: engaged_consumers(log.days[test]) for test in plan.tests}
    matrix = settings.matrix.model_copy(update={"window_days": WINDOW})
    cfg = settings.model_copy(update={"matrix": matrix})
    trial = Trial(log, plan, cfg, SVD(settings.embedding.dim, 1.0), users)
    return trial, trial.fits(0, lambda text: None)


def log_of(world: World, days: int) -> Log:
    """The clicks of the days from 0 on."""
    ids = Ids.of(world, days)
    logged = []
    for day in range(days):
        shown = impressions(world, day)
        hits = shown.labels[:, KINDS.index("click")]
        rows = np.searchsorted(ids.consumers, shown.consumers[hits])
        columns = np.searchsorted(ids.producers, shown.producers[hits])
        clicks = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=ids.shape)
        logged.append(LoggedDay(FIRST + timedelta(days=day), clicks, clicks, None))
    return Log(logged, None)


def contenders_of(trial: Trial, fits: list[Fit]) -> dict[int, dict[Key, np.ndarray]]:
    """The first TOP producers for every consumer: tested day -> way and age -> (n, TOP) columns.

    Each is also ranked on the day itself, as `evergreen decay` does it.
    """
    found: dict[int, dict[Key, np.ndarray]] = {}
    for test in trial.plan.tests:
        found[test] = {}
        for key, fit, vectors in trial.aged(fits, test, seed=0):
            trial.rank(key, fit, test, vectors)
            if key[0] in WAYS:
                found[test][key] = first_producers(fit, vectors)
    return found


def first_producers(fit: Fit, vectors: np.ndarray) -> np.ndarray:
    """The producers with the highest scores for every consumer, (n, TOP) columns of the log."""
    scores = scores_of(vectors, fit.model.producers.T.astype(np.float32), popularity_of(fit))
    return fit.columns[np.argsort(-scores, axis=1, kind="stable")[:, :TOP]]


# The truth


def expected_ndcg(
    chances: dict[int, np.ndarray],
    contenders: dict[int, dict[Key, np.ndarray]],
    draws: int,
    seed: int,
) -> dict[Key, float]:
    """NDCG@20 of every way and age, as the mean over draws of the tested days.

    chances: tested day -> (n, m); contenders: as `contenders_of` returns them.
    """
    rng = np.random.default_rng(seed)
    sums: dict[Key, float] = {}
    for _ in range(draws):
        values: dict[Key, list[np.ndarray]] = {}
        for test, found in contenders.items():
            engaged = rng.random(chances[test].shape, np.float32) < chances[test]
            users = engaged.any(axis=1)
            for key, first in found.items():
                values.setdefault(key, []).append(ndcg(first[users], engaged[users]))
        for key, parts in values.items():
            sums[key] = sums.get(key, 0.0) + float(np.concatenate(parts).mean())
    return {key: total / draws for key, total in sums.items()}


def chances_of(world: World, day: int, ids: Ids) -> np.ndarray:
    """The probability that each consumer clicks on each producer on a day, (n, m) float32.

    Clicks are a Poisson process, so it is 1 - exp(-rate).
    """
    crowd = consumers(world, day)
    chances = np.zeros(ids.shape, np.float32)
    rows = np.searchsorted(ids.consumers, crowd.ids)
    columns = np.searchsorted(ids.producers, producers(world, day).ids)
    chances[rows[:, None], columns] = -np.expm1(-rates(world, crowd))
    return chances


def ndcg(first: np.ndarray, engaged: np.ndarray) -> np.ndarray:
    """NDCG of every consumer, (n,). first: (n, TOP) columns; engaged: (n, m) bool, one at least."""
    discounts = 1 / np.log2(np.arange(2, first.shape[1] + 2))
    gained = np.take_along_axis(engaged, first, axis=1) @ discounts
    most = np.minimum(engaged.sum(axis=1), first.shape[1])
    return gained / np.cumsum(discounts)[most - 1]


# The report


def coverage(rows: list[Row]) -> list[Row]:
    """By drift, loss and age: how many of the intervals hold the truth, and how many hold zero."""
    found: list[Row] = []
    for drift in dict.fromkeys(row["drift"] for row in rows):
        for loss in LOSSES:
            for age in SHOWN:
                chosen = select(select(select(rows, "drift", drift), "loss", loss), "age", age)
                low, high = column_of(chosen, "lost_low"), column_of(chosen, "lost_high")
                lost, truth = column_of(chosen, "lost"), column_of(chosen, "truth")
                row: Row = {"drift": drift, "loss": loss, "age": age, "worlds": len(chosen)}
                row |= share("hold the truth", (low <= truth) & (truth <= high))
                row |= share("hold zero", (low <= 0) & (high >= 0))
                row["lost"], row["truth"] = float(lost.mean()), float(truth.mean())
                found.append(row)
    return found


def share(name: str, hits: np.ndarray) -> Row:
    """How many of the worlds, with the exact 95 % interval of Clopper and Pearson (1934)."""
    ends = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95)
    return {name: float(hits.mean()), f"{name}_low": ends.low, f"{name}_high": ends.high}


def draw(rows: list[Row], path: Path) -> None:
    """The intervals at the highest age beside the truth: a panel for each loss and drift."""
    drifts = list(dict.fromkeys(row["drift"] for row in rows))
    figure = Figure(figsize=(3 * len(drifts), 6), layout="constrained")
    panels = figure.subplots(len(LOSSES), len(drifts), sharey=True, squeeze=False)
    for loss, line in zip(LOSSES, panels, strict=True):
        for drift, axes in zip(drifts, line, strict=True):
            chosen = select(select(select(rows, "drift", drift), "loss", loss), "age", SHOWN[-1])
            chosen = sorted(chosen, key=lambda row: float(row["truth"]))
            lost, truth = column_of(chosen, "lost"), column_of(chosen, "truth")
            low, high = column_of(chosen, "lost_low"), column_of(chosen, "lost_high")
            held = (low <= truth) & (truth <= high)
            at = np.arange(len(chosen))
            for subset, colour in ((held, "C0"), (~held, "C3")):
                axes.vlines(at[subset], low[subset], high[subset], color=colour, alpha=0.6)
                axes.plot(at[subset], lost[subset], "o", color=colour, markersize=3)
            axes.plot(at, truth, "k_", markersize=6, label="truth")
            axes.axhline(0, color="grey", linewidth=0.8)
            axes.set_title(drift, fontsize=10)
            axes.set_xticks([])
        line[0].set_ylabel(f"NDCG@{TOP} lost in {SHOWN[-1]} days, {loss}")
    panels[0][0].legend(fontsize=8)
    save(figure, path)
