"""Experiments `table1` and `table4`: every method side by side, on every data set that is there.

Source of the tables: Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings".
Each method is tuned on the last part of the window, see `methods`, and then fitted on all of it,
several times where chance plays a part. A figure is the mean over these seeds, and its interval is
of resampled users, the same ones for all methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from embeddings.benchmarks.intervals import Estimate
from embeddings.benchmarks.tasks.base import NotJudged
from jobs.reports.report import Report, ReportProgress, Row, not_replayed, progress_bar
from jobs.reports.tables.columns import (
    RETRIEVAL,
    TABLE_1,
    TABLE_4,
    Column,
    estimates,
    ndcg_of,
)
from jobs.reports.tables.drawing import draw, draw_agreement
from jobs.reports.tables.markdown import markdown
from jobs.reports.tables.methods import Learned, Method, families
from jobs.reports.tables.own_log import own_problem
from jobs.reports.tables.problem import Problem
from jobs.reports.tables.public import public_problems
from jobs.reports.tables.world import DAYS, WORLD, simulated_problem
from jobs.settings import Settings

COLUMNS = {"table1": TABLE_1, "table4": TABLE_4}
DIGITS = 3  # of seconds


@dataclass(frozen=True)
class Measured:
    """One data set. figures: column -> method -> estimate; truths: the same of what is true.

    by_seed: column -> method -> figure of each seed; seconds: of CPU for one fit, the median;
    options: what each method was tuned to; tuning: one row per candidate.
    """

    name: str
    figures: dict[str, dict[str, Estimate]]
    truths: dict[str, dict[str, Estimate]]
    by_seed: dict[str, dict[str, list[float]]]
    seconds: dict[str, float]
    options: dict[str, str]
    tuning: list[Row]


def run(
    settings: Settings, table: str, data: Path | None, seeds: int, folder: Path | None = None
) -> Report:
    """Write the tables TABLE, -seeds, -tuning, -truth and -agreement, TABLE.md and the pictures.

    table: of COLUMNS. data: the folder of the public data sets; those that it lacks are left out.
    """
    report = Report(settings, table, 0, folder)
    problems, left_out = public_problems(data)
    own = own_problem(settings)
    if isinstance(own, Problem):
        problems.append(own)
        left_out += not_replayed(settings)
    else:
        left_out.append(own)
    report.warn(left_out)
    problems.append(simulated_problem(WORLD, DAYS))
    write(report, COLUMNS[table], measure_all(problems, table, seeds))
    report.track()
    return report


def measure_all(problems: list[Problem], table: str, seeds: int) -> list[Measured]:
    """Every data set, with progress."""
    columns = COLUMNS[table]
    total = sum(len(families(problem.input)) + len(columns) for problem in problems)
    with progress_bar(table, total) as progress:
        return [measure(problem, columns, seeds, progress) for problem in problems]


def measure(
    problem: Problem, columns: Sequence[Column], seeds: int, progress: ReportProgress
) -> Measured:
    """Tune, fit and judge every method on one data set."""
    learned: dict[str, list[Learned]] = {}
    options = {}
    tuning: list[Row] = []
    for name, candidates in families(problem.input).items():
        progress(f"{problem.name}: {name}")
        best, tried = tuned(problem, candidates)
        for row in tried:
            tuning.append({"data": problem.name, "method": name, **row})
        options[name] = best.options
        learned[name] = [
            best.timed(problem.input, seed) for seed in range(seeds if best.seeded else 1)
        ]
    found = Measured(problem.name, {}, {}, {}, {}, options, tuning)
    for name, fits in learned.items():
        found.seconds[name] = round(float(np.median([fit.seconds for fit in fits])), DIGITS)
    for column in columns:
        progress(f"{problem.name}: {column.title}")
        figures, by_seed = estimates(column.measured, problem, learned)
        found.figures[column.name] = figures
        found.by_seed[column.name] = by_seed
        if column.true is not None and problem.truth is not None:
            found.truths[column.name] = estimates(column.true, problem, learned)[0]
    return found


def tuned(problem: Problem, candidates: list[Method]) -> tuple[Method, list[Row]]:
    """The candidate with the best NDCG@20 on the last part of the window, and that of each.

    Of equally good ones the first is taken, and also where there is nothing to compare.
    """
    if len(candidates) == 1:
        return candidates[0], []
    earlier, following = problem.tuning
    values = []
    for candidate in candidates:
        fit = candidate.timed(problem.input_of(earlier), 0)
        try:
            values.append(
                float(ndcg_of(fit, None if problem.repeats else earlier, following).mean())
            )
        except NotJudged:
            return candidates[0], []
    rows: list[Row] = []
    for candidate, value in zip(candidates, values, strict=True):
        rows.append({"options": candidate.options, f"tuning {RETRIEVAL}": value})
    return candidates[int(np.argmax(values))], rows


# Does the order of the methods agree with the truth?


def agreement(measured: Measured, columns: Sequence[Column]) -> list[Row]:
    """One row for each column whose truth is known.

    A pair of methods is decided if the interval of the measured difference leaves out 0. It agrees
    if the true figures are in the same order, and is contradicted if they are in the other one and
    the interval of their difference leaves out 0, too. Kendall's τ is over all methods.
    """
    rows: list[Row] = []
    for column in columns:
        truth = measured.truths.get(column.name, {})
        figures = measured.figures[column.name]
        names = [name for name in figures if name in truth]
        if len(names) < 2:
            continue
        decided = agreed = contradicted = 0
        for one, other in combinations(names, 2):
            difference = figures[one] - figures[other]
            if not is_decided(difference):
                continue
            decided += 1
            true = truth[one] - truth[other]
            agrees = true.value * difference.value > 0
            agreed += int(agrees)
            contradicted += int(not agrees and is_decided(true))
        tau = kendalltau(
            [figures[name].value for name in names], [truth[name].value for name in names]
        )
        rows.append(
            {
                "data": measured.name,
                "column": column.name,
                "methods": len(names),
                "decided pairs": decided,
                "agree": agreed,
                "contradicted": contradicted,
                "kendall": float(tau.statistic),
            }
        )
    return rows


def is_decided(difference: Estimate) -> bool:
    """Is it certain which of two is larger?"""
    return not difference.low <= 0 <= difference.high


# Tables


def write(report: Report, columns: Sequence[Column], results: list[Measured]) -> None:
    """All tables, the Markdown file and the pictures."""
    report.table("methods", [row for measured in results for row in rows_of(measured)])
    report.table("seeds", [row for measured in results for row in seed_rows(measured)])
    report.table("tuning", [row for measured in results for row in measured.tuning])
    report.table("truth", [row for measured in results for row in truth_rows(measured)])
    agreements = [row for measured in results for row in agreement(measured, columns)]
    report.table("agreement", agreements)
    text = "\n\n".join(
        markdown(measured.name, columns, measured.figures, measured.seconds, measured.options)
        for measured in results
    )
    (report.folder / f"{report.name}.md").write_text(text + "\n")
    for measured in results:
        if any(measured.figures.values()):
            draw(report.picture(measured.name), measured.name, columns, measured.figures)
        if measured.truths:
            draw_agreement(
                report.picture("truth"), columns, measured.figures, measured.truths, agreements
            )
        for row in rows_of(measured):
            report.add_figures(f"{measured.name}_{row['method']}".replace(" ", "_"), row)


def rows_of(measured: Measured) -> list[Row]:
    """One row per method: its figures with their intervals, and the CPU seconds of a fit."""
    rows = []
    for name, seconds in measured.seconds.items():
        row: Row = {"data": measured.name, "method": name}
        for column, figures in measured.figures.items():
            if name in figures:
                row |= figures[name].fields(column)
        row["fit_cpu_s"] = seconds
        row["options"] = measured.options[name]
        rows.append(row)
    return rows


def seed_rows(measured: Measured) -> list[Row]:
    """How far the seeds of a method are apart."""
    rows: list[Row] = []
    for column, by_method in measured.by_seed.items():
        for name, values in by_method.items():
            if len(values) > 1:
                row: Row = {"data": measured.name, "column": column, "method": name}
                row |= {"seeds": len(values), "lowest": min(values), "highest": max(values)}
                rows.append(row)
    return rows


def truth_rows(measured: Measured) -> list[Row]:
    rows: list[Row] = []
    for column, truths in measured.truths.items():
        for name, true in truths.items():
            row: Row = {"data": measured.name, "column": column, "method": name}
            row |= measured.figures[column][name].fields("measured")
            row |= true.fields("true")
            rows.append(row)
    return rows
