"""Experiment: how many consumers need to be fitted, and the cost of folding in the rest.

The curve reproduces Figure 6 of Shiebler et al. 2018, "Fighting Redundancy and Model Decay with
Embeddings": fit the N % most active consumers, fold in the rest, and rank what was held out of all
of them. The regularisation is tuned for every N on a validation part: otherwise the curve would
show how well one setting suits each N. `jobs.reports.hidden_consumers` measures folding in for
consumers that would have been fitted, but were kept out on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embeddings.benchmarks.intervals import mean_estimate
from embeddings.benchmarks.metrics import rank
from embeddings.benchmarks.splits import Split, most_active, split_by_consumer
from jobs.plots import panels
from jobs.reports import hidden_consumers as hidden
from jobs.reports.daily_log import days_of, read_log
from jobs.reports.datasets import Engagements, public_data
from jobs.reports.hidden_consumers import MIN_CONSUMERS, TOP
from jobs.reports.methods import LABELS, Method, Model, candidates
from jobs.reports.report import (
    Report,
    ReportProgress,
    Row,
    column_of,
    distinct,
    progress_bar,
    select,
)
from jobs.settings import Settings

PERCENTS = (5, 10, 20, 40, 60, 80, 90, 100)  # of the consumers, the most active ones, are fitted
MAX_EVALUATED = 3000  # consumers; of a larger log, a sample of this size is evaluated
GROUPS = {"fitted": "tab:blue", "folded": "tab:orange", "everybody": "black"}


def run(settings: Settings, data: Path | None, seed: int, folder: Path | None = None) -> Report:
    """Write the tables fold-in-curve, -optimum, -hidden and -hidden-auc, and their pictures.

    data: the folder of the public data sets; without it the log of the settings is measured alone.
    """
    report = Report(settings, "fold-in", seed, folder)
    public, left_out = public_data(data)
    report.warn(left_out)
    curve: list[Row] = []
    optima: list[Row] = []
    by_ndcg: list[Row] = []
    with progress_bar("fold-in", n_steps(settings, 1 + len(public))) as progress:
        log = read_log(settings, progress)
        own = Engagements(settings.source.kind, log.all_strengths())
        for engagements in (own, *public):
            data_name = engagements.name
            split = split_by_consumer(engagements.strengths, seed)
            evaluated = evaluated_rows(split, seed)
            for name, methods in candidates().items():
                points = curve_of(data_name, methods, split, evaluated, seed, progress)
                for point in points:
                    curve.append(point_row(data_name, point, seed))
                optima.append(optimum_row(data_name, points, seed))
                progress(f"{data_name}, {name}: hidden consumers")
                best_of_all = points[-1].method  # tuned with all consumers fitted
                by_ndcg += hidden.ndcg_rows(data_name, best_of_all, split, evaluated, seed)
        by_auc = hidden.auc_rows(log, settings, seed, progress)
    report.table("curve", curve)
    report.table("optimum", optima)
    report.table("hidden", by_ndcg)
    report.table("hidden-auc", by_auc)
    for data_set in distinct(curve, "data"):
        draw(report.picture(data_set), select(curve, "data", data_set))
    hidden.draw(report.picture("hidden"), by_ndcg, by_auc)
    report.figures |= headlines(optima, by_ndcg, by_auc)
    report.track()
    return report


def n_steps(settings: Settings, n_data_sets: int) -> int:
    """How often `run` reports progress."""
    per_method = len(PERCENTS) + 1
    n_curves = n_data_sets * len(candidates())
    return len(days_of(settings)) + n_curves * per_method + hidden.n_auc_steps(settings)


# The curve


@dataclass(frozen=True)
class Point:
    """The method that validates best at one N.

    validation: its mean NDCG@TOP on the validation part; values: (evaluated,) NDCG@TOP on the test
    part; fitted: (evaluated,) bool; n_fitted: fitted consumers in total.
    """

    percent: float
    method: Method
    validation: float
    values: np.ndarray
    fitted: np.ndarray
    n_fitted: int


def evaluated_rows(split: Split, seed: int) -> np.ndarray:
    """Rows of the consumers to evaluate, the same ones for every N and method."""
    rows = split.evaluated
    if len(rows) <= MAX_EVALUATED:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, MAX_EVALUATED, replace=False))


def curve_of(
    data: str,
    methods: list[Method],
    split: Split,
    evaluated: np.ndarray,
    seed: int,
    progress: ReportProgress,
) -> list[Point]:
    """One point per percentage. methods: the candidates, of which validation chooses one."""
    seen = (split.train + split.validation)[evaluated]
    relevant = split.test[evaluated]
    points = []
    for percent in PERCENTS:
        progress(f"{data}, {methods[0].name}: {percent} % fitted")
        active = most_active(split.train, percent)
        best = tune(methods, active, split, evaluated, seed)
        values = rank(best.vectors, best.targets, seen, relevant, popularity_of(split)).ndcg(TOP)
        n_fitted = int(active.sum())
        points.append(
            Point(percent, best.method, best.validation, values, active[evaluated], n_fitted)
        )
    return points


@dataclass(frozen=True)
class Fit:
    """A method fitted on some consumers. vectors: (evaluated, k), targets: (m, k)."""

    method: Method
    vectors: np.ndarray
    targets: np.ndarray
    validation: float  # mean NDCG@TOP on the validation part


def tune(
    methods: list[Method], active: np.ndarray, split: Split, evaluated: np.ndarray, seed: int
) -> Fit:
    """Fit every method on the active consumers and return the fit that validates best.

    active: (n,) bool. Of equally good methods the first one is taken.
    """
    seen = split.train[evaluated]
    relevant = split.validation[evaluated]
    fits = []
    for method in methods:
        model = method.fit(split.train[active], seed)
        vectors = vectors_of(model, active, split, evaluated)
        ranking = rank(vectors, model.targets, seen, relevant, popularity_of(split))
        validation = float(ranking.ndcg(TOP).mean())
        fits.append(Fit(method, vectors, model.targets, validation))
    return max(fits, key=lambda fit: fit.validation)


def popularity_of(split: Split) -> np.ndarray:
    """Consumers of each producer in the training part, (m,)."""
    return np.bincount(split.train.indices, minlength=split.train.shape[1])


def vectors_of(model: Model, active: np.ndarray, split: Split, rows: np.ndarray) -> np.ndarray:
    """The vectors of these consumers, (rows, k): fitted for the active ones, else folded in.

    active: (n,) bool, the consumers that were fitted.
    """
    vectors = model.fold_in.fold(split.train[rows])
    model_row = np.cumsum(active) - 1  # the model has rows for the active consumers alone
    fitted = active[rows]
    vectors[fitted] = model.consumers[model_row[rows[fitted]]]
    return vectors


# Tables and pictures


def point_row(data: str, point: Point, seed: int) -> Row:
    """NDCG@TOP of each group that has MIN_CONSUMERS evaluated consumers."""
    row: Row = {
        "data": data,
        "method": point.method.name,
        "percent": point.percent,
        "consumers": point.n_fitted,
        "best": point.method.options,
    }
    groups = {
        "fitted": point.fitted,
        "folded": ~point.fitted,
        "everybody": np.ones(len(point.fitted), bool),
    }
    for group, members in groups.items():
        if members.sum() >= MIN_CONSUMERS:
            row |= mean_estimate(point.values[members], seed).fields(group)
    return row


def optimum_row(data: str, points: list[Point], seed: int) -> Row:
    """Is fitting fewer better? The N that validates best against 100 %, on the test part.

    The difference is of the same consumers.
    """
    best = max(points, key=lambda point: point.validation)
    full = points[-1]
    row: Row = {
        "data": data,
        "method": full.method.name,
        "best_percent": best.percent,
        "everybody_at_best": float(best.values.mean()),
        "everybody_at_100": float(full.values.mean()),
    }
    return row | mean_estimate(best.values - full.values, seed).fields("difference")


def headlines(optima: list[Row], by_ndcg: list[Row], by_auc: list[Row]) -> dict[str, float]:
    """The figures of the run: the best N, its gain over 100 %, and the shares that are kept."""
    figures = {}
    for row in optima:
        name = f"{row['data']}_{row['method']}"
        figures[f"{name}_best_percent"] = float(row["best_percent"])
        figures[f"{name}_difference"] = float(row["difference"])
    for row in by_ndcg:
        if row["engagements"] == "all":
            figures[f"{row['data']}_{row['method']}_ndcg_share"] = float(row["share"])
    for row in by_auc:
        if row["engagements"] == "all":
            figures[f"{row['method']}_auc_share"] = float(row["share"])
    return figures


def draw(path: Path, rows: list[Row]) -> None:
    """NDCG@TOP by the share of consumers that were fitted; one panel per method."""
    methods = distinct(rows, "method")
    titles = [f"{rows[0]['data']}: {LABELS[method]}" for method in methods]
    with panels(path, titles) as all_axes:
        for axes, method in zip(all_axes, methods, strict=True):
            draw_curves(axes, select(rows, "method", method))
        all_axes[0].set_ylabel(f"NDCG@{TOP} of held-out engagements")
        all_axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))


def draw_curves(axes, rows: list[Row]) -> None:
    """One line with its band per group; a small group has no figures at some percentages."""
    for group, colour in GROUPS.items():
        chosen = [row for row in rows if group in row]
        percent = column_of(chosen, "percent")
        axes.plot(percent, column_of(chosen, group), ".-", color=colour, label=group)
        low = column_of(chosen, f"{group}_low")
        high = column_of(chosen, f"{group}_high")
        axes.fill_between(percent, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="most active consumers that are fitted, %", ylim=(0, None))
