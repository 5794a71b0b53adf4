"""Experiment: how many consumers need to be fitted, and what folding in the others costs.

The curve is Figure 6 of Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings": fit the N % most
active consumers, fold in the others, and rank what was held out of everybody. What regularises is tuned for every N on
a validation part; without that the curve would tell how well one setting suits each N. `jobs.reports.hidden_consumers`
asks the same of consumers that are hidden on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.reports import hidden_consumers as hidden
from jobs.reports.daily_log import days_of, read_log
from jobs.reports.datasets import Engagements, measuring_data
from jobs.reports.methods import LABELS, Method, Model, candidates, options
from jobs.reports.metrics import FEWEST, Split, mean_estimate, most_active, ndcg, split
from jobs.reports.report import Report, Row, panels, progress
from jobs.reports.versions import Tell
from jobs.settings import Settings

PERCENTS = (
    5,
    10,
    20,
    40,
    60,
    80,
    90,
    100,
)  # of the consumers, the most active ones, that are fitted
MOST = 3000  # consumers judged; more are sampled
GROUPS = {"fitted": "tab:blue", "folded": "tab:orange", "everybody": "black"}


def run(settings: Settings, data: Path, seed: int, folder: Path | None = None) -> Report:
    """Tables fold-in-curve, -optimum, -hidden and -hidden-auc, and their pictures. data: where measuring data lies."""
    report = Report(settings, "fold-in", seed, folder)
    measured, missing = measuring_data(data)
    report.tell(missing)
    steps = (len(measured) + 1) * len(candidates()) * (len(PERCENTS) + 1)
    with progress("fold-in", len(days_of(settings)) + steps + hidden.steps(settings)) as tell:
        log = read_log(settings, tell)
        curve: list[Row] = []
        optima: list[Row] = []
        kept: list[Row] = []
        for engagements in (Engagements(settings.source.kind, log.whole()), *measured):
            parts = split(engagements.strengths, seed)
            for name, tried in candidates().items():
                points = curve_of(engagements.name, name, tried, parts, seed, tell)
                curve += [point_row(engagements.name, name, point, seed) for point in points]
                optima.append(optimum_row(engagements.name, name, points, seed))
                tell(f"{engagements.name}, {name}: hidden consumers")
                kept += hidden.ndcg_rows(
                    engagements.name, points[-1].method, parts, judged_rows(parts, seed), seed
                )
        by_auc = hidden.auc_rows(log, settings, seed, tell)
    for name, rows in (
        ("curve", curve),
        ("optimum", optima),
        ("hidden", kept),
        ("hidden-auc", by_auc),
    ):
        report.table(name, rows)
    for data_set in hidden.data_sets(curve):
        draw(report.picture(data_set), [row for row in curve if row["data"] == data_set])
    hidden.draw(report.picture("hidden"), kept, by_auc)
    report.figures |= headlines(optima, kept, by_auc)
    report.track()
    return report


@dataclass(frozen=True)
class Point:
    """The best of the tried methods at one N. values: (judged,) NDCG@20 on the test part; fitted: (judged,) bool."""

    percent: float
    method: Method
    validation: float  # mean NDCG@20 on the validation part, which chose the method
    values: np.ndarray
    fitted: np.ndarray
    consumers: int  # fitted in all


def judged_rows(parts: Split, seed: int) -> np.ndarray:
    """The consumers that are judged, the same ones for every N and method."""
    rows = parts.judged
    return (
        rows
        if len(rows) <= MOST
        else np.sort(np.random.default_rng(seed).choice(rows, MOST, replace=False))
    )


def curve_of(
    data: str, name: str, tried: list[Method], parts: Split, seed: int, tell: Tell
) -> list[Point]:
    """One point a percentage."""
    judged = judged_rows(parts, seed)
    popularity = np.bincount(parts.train.indices, minlength=parts.train.shape[1])
    train, validation = parts.train[judged], parts.validation[judged]
    points = []
    for percent in PERCENTS:
        tell(f"{data}, {name}: {percent} % fitted")
        active = most_active(parts.train, percent)
        best: tuple[float, Method, np.ndarray, np.ndarray] | None = None
        for method in tried:
            model = method.fit(parts.train[active], seed)
            vectors = vectors_of(model, active, parts, judged)
            mean = ndcg(vectors, model.targets, popularity, train, validation).mean()
            if best is None or mean > best[0]:
                best = (mean, method, vectors, model.targets)
        assert best is not None, "no method was tried"
        mean, method, vectors, targets = best
        values = ndcg(vectors, targets, popularity, train + validation, parts.test[judged])
        points.append(
            Point(percent, method, float(mean), values, active[judged], int(active.sum()))
        )
    return points


def vectors_of(model: Model, active: np.ndarray, parts: Split, rows: np.ndarray) -> np.ndarray:
    """The fitted vector of a consumer that was fitted, the folded-in one of any other, (rows, k).

    active: (n,) bool, who was fitted.
    """
    place = np.cumsum(active) - 1
    vectors = model.fold_in.fold(parts.train[rows])
    fitted = active[rows]
    vectors[fitted] = model.consumers[place[rows[fitted]]]
    return vectors


# What is told


def point_row(data: str, name: str, point: Point, seed: int) -> Row:
    """NDCG@20 of each group that has FEWEST judged consumers."""
    row: Row = {
        "data": data,
        "method": name,
        "percent": point.percent,
        "consumers": point.consumers,
    }
    row["best"] = options(point.method)
    groups = {
        "fitted": point.fitted,
        "folded": ~point.fitted,
        "everybody": np.ones(len(point.fitted), bool),
    }
    for group, members in groups.items():
        if members.sum() >= FEWEST:
            row |= mean_estimate(point.values[members], seed).fields(group)
    return row


def optimum_row(data: str, name: str, points: list[Point], seed: int) -> Row:
    """Is fitting fewer better? The N that validation prefers against all, on the test part, by the same consumers."""
    best, whole = max(points, key=lambda point: point.validation), points[-1]
    row: Row = {"data": data, "method": name, "best_percent": best.percent}
    row |= {
        "everybody_at_best": float(best.values.mean()),
        "everybody_at_100": float(whole.values.mean()),
    }
    return row | mean_estimate(best.values - whole.values, seed).fields("difference")


def headlines(optima: list[Row], kept: list[Row], by_auc: list[Row]) -> dict[str, float]:
    """What stands on the run: the best N and what it wins over all, and what folding in keeps of the gain."""
    told = {
        f"{row['data']}_{row['method']}_{name}": row[name]
        for row in optima
        for name in ("best_percent", "difference")
    }
    told |= {
        f"{row['data']}_{row['method']}_ndcg_share": row["share"]
        for row in kept
        if row["engagements"] == "all"
    }
    told |= {
        f"{row['method']}_auc_share": row["share"] for row in by_auc if row["engagements"] == "all"
    }
    return {name: float(value) for name, value in told.items()}


def draw(path: Path, rows: list[Row]) -> None:
    """NDCG@20 by the share of consumers that were fitted; one panel a method."""
    methods = list(dict.fromkeys(str(row["method"]) for row in rows))
    with panels(path, [f"{rows[0]['data']}: {LABELS[method]}" for method in methods]) as axes:
        for one, method in zip(axes, methods, strict=True):
            for group, colour in GROUPS.items():
                chosen = [row for row in rows if row["method"] == method and group in row]
                x, y, low, high = (
                    np.array([row[name] for row in chosen], dtype=np.float64)
                    for name in ("percent", group, f"{group}_low", f"{group}_high")
                )
                one.plot(x, y, ".-", color=colour, label=group)
                one.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            one.set(xlabel="most active consumers that are fitted, %", ylim=(0, None))
        axes[0].set_ylabel("NDCG@20 of held-out engagements")
        axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
