"""Experiment: every kind of ranker in one harness, so that one is chosen by numbers.

All kinds are trained on the same rows with several seeds and score the same other rows: the next
days of the settings' log (jobs/reports/next_day.py), and Frappe where it is present, by FuxiCTR's
recipe (jobs/reports/frappe.py) or by one of our own (jobs/reports/frappe_own.py). The figures of
a seed are means over the tested days; a table has their mean over the seeds, and their standard
deviation. How much better a kind is than that of the settings is measured on the same rows, with an
interval by consumer over all tested days.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jobs.errors import EvergreenError
from jobs.plots import panels
from jobs.reports import frappe
from jobs.reports.frappe_own import FrappeCounts, FrappeRedrawn
from jobs.reports.next_day import candidates, next_day_trials
from jobs.reports.public_trials import public_trials
from jobs.reports.report import (
    Report,
    ReportProgress,
    Row,
    column_of,
    distinct,
    progress_bar,
    select,
)
from jobs.reports.scored import Scored, difference_rows, markdown, summarised
from jobs.reports.trials import Trial, figures_of
from jobs.settings import Settings

RECIPES = {"fuxictr": frappe.Frappe, "redrawn": FrappeRedrawn, "counts": FrappeCounts}


def run(
    settings: Settings,
    data: Path | None,
    chosen: list[str],
    recipe: str,
    seeds: int,
    days: int,
    folder: Path | None = None,
) -> Report:
    """Write the tables ctr-runs, -kinds and -differences, and per data set a picture and Markdown.

    chosen: kinds of rankers; none for all. data: the folder of the public data sets. recipe: one of
    RECIPES, for Frappe. days: how many of the log's last days are tested; 0 for the public data
    alone. Raises EvergreenError for an unknown kind or recipe.
    """
    kinds = kinds_of(chosen)
    if recipe not in RECIPES:
        raise EvergreenError(f"There is no recipe {recipe}. The recipes are: {', '.join(RECIPES)}.")
    report = Report(settings, "ctr", 0, folder)
    public, left_out = public_trials(settings, data, [RECIPES[recipe]])
    report.warn(left_out)
    runs: list[Row] = []
    differences: list[Row] = []
    read = len(candidates(settings, days)) if days else 0
    with progress_bar("ctr", read + (days + len(public)) * len(kinds) * seeds) as progress:
        own = next_day_trials(settings, days, progress) if days else iter(())
        for trials in (own, iter(public)):
            scored = []
            for trial in trials:
                of_trial, scores = run_trial(trial, kinds, seeds, progress)
                runs += of_trial
                # Not the trial: the rows of all days need not fit into memory.
                test = Scored(trial.data, trial.test, trial.users, trial.labels, scores)
                scored.append(test)
            differences += difference_rows(scored, settings.ranker.kind)
    write(report, runs, differences)
    return report


def write(report: Report, runs: list[Row], differences: list[Row]) -> None:
    """The tables, the pictures, and the run in MLflow."""
    summary = summarised(runs)
    report.table("runs", runs)
    report.table("kinds", summary)
    report.table("differences", differences)
    for data_set in distinct(summary, "data"):
        rows = select(summary, "data", data_set)
        (report.folder / f"ctr-{data_set}.md").write_text(markdown(rows))
        draw(report.picture(data_set), rows, data_set)
    for row in summary:
        report.add_figures(f"{row['data']}_{row['kind']}", row)
    report.track()


def kinds_of(chosen: list[str]) -> list[str]:
    """The chosen kinds, or all. Raises EvergreenError for one that does not exist."""
    from models.rankers.base import kinds

    if unknown := sorted(set(chosen) - set(kinds())):
        raise EvergreenError(
            f"There is no ranker {', '.join(unknown)}. The kinds are: {', '.join(kinds())}."
        )
    return chosen or kinds()


def run_trial(
    trial: Trial, kinds: list[str], seeds: int, progress: ReportProgress
) -> tuple[list[Row], dict[str, list[np.ndarray]]]:
    """One row per kind and seed; and the scores, kind -> (n,) of every seed."""
    rows: list[Row] = []
    scores: dict[str, list[np.ndarray]] = {}
    for kind in kinds:
        if isinstance(trial, frappe.Frappe) and kind in frappe.LEFT_OUT:
            continue
        scores[kind] = []
        for seed in range(seeds):
            progress(f"{trial.data} {trial.test}, {kind}, seed {seed}")
            outcome = trial.fit(kind, seed)
            scores[kind].append(outcome.scores)
            row: Row = {"data": trial.data, "test": trial.test, "kind": kind, "seed": seed}
            rows.append(row | figures_of(trial, outcome))
    return rows, scores


def draw(path: Path, rows: list[Row], data: str) -> None:
    """The AUC of every kind with its deviation, and the speed of its training; the best on top."""
    kinds = distinct(rows, "kind")
    positions = np.arange(len(kinds))
    titles = [f"{data}: AUC", "1,000 rows per second of CPU"]
    with panels(path, titles, height=1 + 0.25 * len(kinds)) as (aucs, speeds):
        deviations = [float(row.get("auc_std", 0.0)) for row in rows]
        aucs.errorbar(column_of(rows, "auc"), positions, xerr=deviations, fmt="o", capsize=2)
        speeds.barh(positions, column_of(rows, "rows_s") / 1000, height=0.6)
        aucs.set_yticks(positions, kinds)
        aucs.invert_yaxis()
