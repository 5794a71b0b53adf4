"""Experiment `new-user`: what embeddings of web domains add to what is known at a sign-up.

Table 3 of Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings": whom does a
new user follow? Wide & Deep on profile, interests, region and lookalike features; then with the ALS
embedding of the domains that were visited before (the paper's TFW), with their co-occurrence
embedding, and with the producers' SVD. RCE and ROC-AUC.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import Estimate
from embeddings.registry.comparison import NONE, line_of
from jobs.plots import panels
from jobs.reports.methods import THREADS
from jobs.reports.newcomers.estimates import Metric, estimates, plus_minus, rce, with_ends
from jobs.reports.newcomers.follow_features import (
    EMBEDDINGS,
    RANKERS,
    sign_up_rows,
    with_embeddings,
)
from jobs.reports.newcomers.signups import TEST, TRAIN, NewUsers, asked
from jobs.reports.newcomers.signups_log import lastfm_new_users, log_new_users
from jobs.reports.newcomers.signups_world import DAYS, WORLD, new_users
from jobs.reports.newcomers.wide_deep import scores
from jobs.reports.report import Report, ReportProgress, Row, progress_bar
from jobs.settings import Settings

METRICS: dict[str, Metric] = {"RCE": rce, "ROC-AUC": auc}
DIGITS = {"RCE": 2, "ROC-AUC": 4}
BASE = next(iter(RANKERS))


@dataclass(frozen=True)
class Scored:
    """The figures of a data set: (metric, ranker) -> estimate; rows, and positives among them."""

    problem: NewUsers
    figures: dict[tuple[str, str], Estimate]
    rows: int
    positives: int

    @property
    def names(self) -> list[str]:
        """Rankers, and what is true where that is known."""
        return [name for metric, name in self.figures if metric == "RCE"]


def run(settings: Settings, data: Path | None, seeds: int, folder: Path | None = None) -> Report:
    """Write the table new-user-rankers, a Markdown file, and one picture for each data set.

    data: the folder of the public data sets; those that it lacks are left out.
    """
    report = Report(settings, "new-user", 0, folder)
    problems = [new_users(WORLD, DAYS)]
    for found in (log_new_users(settings), lastfm_new_users(data)):
        if isinstance(found, NewUsers):
            problems.append(found)
        else:
            report.warn([found])
    with progress_bar("new-user", seeds * len(RANKERS) * len(problems)) as progress:
        results = [scored(problem, seeds, progress) for problem in problems]
    write(report, results)
    report.track()
    return report


def scored(problem: NewUsers, seeds: int, progress: ReportProgress) -> Scored:
    """Embed the known users' domains, train every ranker, and measure all on the same resamples."""
    train_on, test_on = asked(problem, TRAIN, 0), asked(problem, TEST, 0)
    bare = sign_up_rows(problem, train_on), sign_up_rows(problem, test_on)
    found: dict[str, list[np.ndarray]] = {name: [] for name in RANKERS}
    for seed in range(seeds):
        vectors = {name: embed(problem, seed) for name, embed in EMBEDDINGS.items()}
        for name, used in RANKERS.items():
            progress(f"{problem.name}: {name}, seed {seed}")
            own = {each: vectors[each] for each in used}
            rows = [
                with_embeddings(part, pairs, own)
                for part, pairs in zip(bare, (train_on, test_on), strict=True)
            ]
            found[name].append(scores(rows[0], rows[1], seed, THREADS))
    if problem.truth is not None:
        truths = problem.truth(test_on.users, test_on.producers)
        found |= {name: [probabilities] for name, probabilities in truths.items()}
    figures = estimates(METRICS, test_on.users, test_on.labels, found)
    return Scored(problem, figures, len(test_on.labels), int(test_on.labels.sum()))


# Tables and pictures


def write(report: Report, results: list[Scored]) -> None:
    report.table("rankers", [row for one in results for row in rows_of(one)])
    text = "\n\n".join(markdown(one) for one in results)
    (report.folder / "new-user.md").write_text(text + "\n")
    for one in results:
        draw(report.picture(one.problem.name), one)
        for row in rows_of(one):
            report.add_figures(f"{one.problem.name}_{row['ranker']}".translate(PLAIN), row)


PLAIN = str.maketrans({" ": "_", "+": "with", ",": "_"})  # for the name of a metric


def rows_of(one: Scored) -> list[Row]:
    """One row per ranker: both figures, and the gains on what is known at sign-up."""
    rows: list[Row] = []
    for name in one.names:
        row: Row = {"data": one.problem.name, "ranker": name}
        for metric in METRICS:
            key = metric.replace("-", "_").lower()
            row |= one.figures[metric, name].fields(key)
            row |= (one.figures[metric, name] - one.figures[metric, BASE]).fields(f"{key}_gain")
        rows.append(row)
    return rows


def markdown(one: Scored) -> str:
    """A table for a page."""
    header = ["ranker"]
    for metric in METRICS:
        header += [metric, f"gain in {metric}"]
    words = "; ".join(f"*{key}*: {text}" for key, text in one.problem.words.items())
    counts = f"{one.rows:,} pairs are asked about, of which {one.positives:,} are follows."
    lines = [f"### {one.problem.name}", "", f"{words}. {counts}", ""]
    lines += [line_of(header), line_of(["---"] * len(header))]
    for name in one.names:
        cells = [name]
        for metric in METRICS:
            estimate, base = one.figures[metric, name], one.figures[metric, BASE]
            digits = DIGITS[metric]
            cells.append(plus_minus(estimate, digits))
            cells.append(NONE if name == BASE else with_ends(estimate - base, digits))
        lines.append(line_of(cells))
    return "\n".join(lines)


def draw(path: Path, one: Scored) -> None:
    """The gains on what is known at sign-up, by both metrics, without the truth."""
    names = [name for name in RANKERS if name != BASE]
    titles = [f"{one.problem.name}: gain in {metric}" for metric in METRICS]
    with panels(path, titles, height=1.2 + 0.35 * len(names)) as both:
        for axes, metric in zip(both, METRICS, strict=True):
            for place, name in enumerate(names):
                gain = one.figures[metric, name] - one.figures[metric, BASE]
                axes.hlines(place, gain.low, gain.high, color="tab:blue", linewidth=2)
                axes.plot(gain.value, place, "o", color="tab:blue", markersize=5)
            axes.axvline(0, color="black", linewidth=0.8)
        both[0].set_yticks(range(len(names)), names)
        both[0].invert_yaxis()
