"""Experiment `email`: what a consumer's embedding adds to a ranker of e-mails, by activity.

Table 2 of Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings": Wide & Deep
without and with the consumer's embedding, ROC-AUC in nine buckets of users by their activity, and
the mean of the nine. In the simulated world the probabilities that the clicks were drawn from are
scored on the same rows: no ranker surpasses them but by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import Estimate
from embeddings.registry.comparison import line_of
from jobs.plots import panels
from jobs.reports.newcomers.estimates import (
    Metric,
    estimates,
    mean_of_parts,
    of_rows,
    plus_minus,
    with_ends,
)
from jobs.reports.newcomers.mailings import BASE, RANKERS, Mailing
from jobs.reports.newcomers.mailings_log import log_mailing
from jobs.reports.newcomers.mailings_world import WORLD, Days, world_mailing
from jobs.reports.report import Report, ReportProgress, Row, progress_bar
from jobs.settings import Settings

TRUTH = "the truth"
MEAN, ALL = "mean of buckets", "all rows"
APART = 0.12  # of the rankers in one bucket of a picture


@dataclass(frozen=True)
class Scored:
    """The figures of a mailing: (bucket, ranker) -> AUC; and what the buckets are."""

    mailing: Mailing
    figures: dict[tuple[str, str], Estimate]
    buckets: dict[str, np.ndarray]  # name -> rows


def run(settings: Settings, seeds: int, folder: Path | None = None) -> Report:
    """Write the table email-buckets, a Markdown file, and one picture for each data set."""
    report = Report(settings, "email", 0, folder)
    with progress_bar("email", 2 + 2 * seeds * len(RANKERS)) as progress:
        mailings: list[Mailing] = []
        own = log_mailing(settings, lambda text: None)
        if isinstance(own, Mailing):
            mailings.append(own)
        else:
            report.warn([own])
        progress("simulated campaigns")
        mailings.append(world_mailing(WORLD, Days()))
        results = [scored(mailing, seeds, progress) for mailing in mailings]
    write(report, results)
    report.track()
    return report


def scored(mailing: Mailing, seeds: int, progress: ReportProgress) -> Scored:
    """Train every ranker with every seed, and measure all on the same resamples of users."""
    scores: dict[str, list[np.ndarray]] = {}
    for ranker in RANKERS:
        scores[ranker] = []
        for seed in range(seeds):
            progress(f"{mailing.name}: {ranker}, seed {seed}")
            scores[ranker].append(mailing.score(ranker, seed))
    if mailing.truth is not None:
        scores[TRUTH] = [mailing.truth]
    buckets = named_buckets(mailing)
    metrics: dict[str, Metric] = {name: partial(of_rows, rows) for name, rows in buckets.items()}
    metrics[MEAN] = partial(mean_of_parts, list(buckets.values()))
    metrics[ALL] = auc
    return Scored(mailing, estimates(metrics, mailing.users, mailing.labels, scores), buckets)


def named_buckets(mailing: Mailing) -> dict[str, np.ndarray]:
    """The rows of each bucket, by its number and the median of its activity."""
    found = {}
    for number, rows in enumerate(mailing.buckets(), start=1):
        found[f"{number} ({np.median(mailing.activity[rows]):.0f})"] = rows
    return found


# Tables and pictures


def write(report: Report, results: list[Scored]) -> None:
    report.table("buckets", [row for one in results for row in rows_of(one)])
    text = "\n\n".join(markdown(one) for one in results)
    (report.folder / "email.md").write_text(text + "\n")
    for one in results:
        draw(report.picture(one.mailing.name), one)
        for ranker in RANKERS:
            name = f"{one.mailing.name}_{ranker}".replace(" ", "_").replace("+_", "with_")
            report.figures[name.replace("&_", "")] = one.figures[MEAN, ranker].value


def rows_of(one: Scored) -> list[Row]:
    """One row per bucket: the AUCs with intervals, and the gains on the baseline."""
    rows: list[Row] = []
    for bucket in [*one.buckets, MEAN, ALL]:
        members = one.buckets.get(bucket, np.arange(len(one.mailing.labels)))
        row: Row = {"data": one.mailing.name, "bucket": bucket, "rows": len(members)}
        row["clicks"] = int(one.mailing.labels[members].sum())
        for ranker in [*RANKERS, TRUTH]:
            if (bucket, ranker) in one.figures:
                row |= one.figures[bucket, ranker].fields(ranker)
        for ranker in RANKERS[1:]:
            gain = one.figures[bucket, ranker] - one.figures[bucket, BASE]
            row |= gain.fields(f"gain {ranker}")
        rows.append(row)
    return rows


def markdown(one: Scored) -> str:
    """A table for a page: buckets by activity, least active first, with the median of it."""
    named = [name for name in (*RANKERS, TRUTH) if (MEAN, name) in one.figures]
    header = ["bucket (engagements before)", *named, *(f"gain {name}" for name in RANKERS[1:])]
    lines = [f"### {one.mailing.name}", "", one.mailing.words, ""]
    lines += [line_of(header), line_of(["---"] * len(header))]
    for bucket in [*one.buckets, MEAN, ALL]:
        cells = [bucket, *(plus_minus(one.figures[bucket, name]) for name in named)]
        for name in RANKERS[1:]:
            cells.append(with_ends(one.figures[bucket, name] - one.figures[bucket, BASE]))
        lines.append(line_of(cells))
    return "\n".join(lines)


def draw(path: Path, one: Scored) -> None:
    """AUC of every ranker by bucket, and the gains on the baseline."""
    names = [*one.buckets, MEAN]
    places = np.arange(len(names))
    titles = [f"{one.mailing.name}: ROC-AUC by activity", f"gain on {BASE}"]
    with panels(path, titles, height=4.0) as (left, right):
        shown = [name for name in (*RANKERS, TRUTH) if (MEAN, name) in one.figures]
        for number, name in enumerate(shown):
            aucs = [one.figures[bucket, name] for bucket in names]
            dots(left, places + APART * number, aucs, number)
        for number, name in enumerate(RANKERS[1:], start=1):
            gains = [one.figures[bucket, name] - one.figures[bucket, BASE] for bucket in names]
            dots(right, places + APART * number, gains, number)
        right.axvline(0, color="black", linewidth=0.8)
        left.set_yticks(places, names)
        left.invert_yaxis()
        left.set_ylabel("bucket (engagements before)")
        figure = left.figure
        handles = [left.plot([], [], "o", color=f"C{n}", label=x)[0] for n, x in enumerate(shown)]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize="small")


def dots(axes, places: np.ndarray, estimates: list[Estimate], number: int) -> None:
    """A dot with its interval at each place, in the colour of a number."""
    for place, estimate in zip(places, estimates, strict=True):
        axes.hlines(place, estimate.low, estimate.high, color=f"C{number}", linewidth=1.5)
        axes.plot(estimate.value, place, "o", color=f"C{number}", markersize=3.5)
