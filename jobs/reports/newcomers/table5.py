"""Experiment `table5`: towers and co-occurrence against matrix factorisation, where it is new.

Table 5 of Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings", compares by
words what each way of learning can do for new users and new items, and what it costs. Here it is
measured: NDCG@20 of the users of a day who are new, of producers who are new, and core-seconds of a
fit per million pairs. All embedders have their defaults and vectors of 32 numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from embeddings.benchmarks.intervals import weighted_mean
from embeddings.benchmarks.metrics import rank_scores
from embeddings.benchmarks.tasks.base import Judged, NotJudged
from embeddings.registry.comparison import NONE, line_of
from jobs.reports.newcomers.new_ones import Asked, NewOnes
from jobs.reports.newcomers.new_ones_data import DAYS, WORLD, log_new_ones, world_new_ones
from jobs.reports.newcomers.new_ones_methods import Learned, Score, methods, timed
from jobs.reports.report import Report, ReportProgress, Row, not_replayed, progress_bar
from jobs.reports.tables.columns import CHUNK, DISCOUNTS, TOP, Column, estimates
from jobs.reports.tables.drawing import draw, draw_agreement
from jobs.reports.tables.markdown import best_of, cell
from jobs.reports.tables.run import Measured, agreement, rows_of, seed_rows, truth_rows
from jobs.settings import Settings

LEAST = 20  # users who must be asked about something
COST = "core_s_per_million_pairs"


def by_ndcg(which: str) -> Callable[[NewOnes, Learned], Judged]:
    """NDCG@20 of those whom the field `which` of a problem asks about."""

    def judge(problem: NewOnes, learned: Learned) -> Judged:
        asked, score = question(problem, learned, which)

        def scores(rows: slice) -> np.ndarray:
            return ready(asked, np.arange(len(asked.rows))[rows], score)

        ranking = rank_scores(scores, asked.engaged).with_missing(asked.elsewhere)
        values = ranking.ndcg(TOP)
        return Judged(len(values), {f"ndcg{TOP}": partial(weighted_mean, values)})

    return judge


def by_truth(which: str) -> Callable[[NewOnes, Learned], Judged]:
    """The clicks to be expected from the first 20, discounted by rank, as a share of the most."""

    def judge(problem: NewOnes, learned: Learned) -> Judged:
        asked, score = question(problem, learned, which)
        if asked.rates is None:
            raise NotJudged("the truth is not known")
        found = []
        for start in range(0, len(asked.rows), CHUNK):
            part = np.arange(start, min(start + CHUNK, len(asked.rows)))
            first = np.argsort(-ready(asked, part, score), axis=1, kind="stable")[:, :TOP]
            gained = np.take_along_axis(asked.rates[part], first, axis=1)
            most = -np.sort(-asked.rates[part], axis=1)[:, :TOP]
            discounts = DISCOUNTS[: gained.shape[1]]
            found.append((gained @ discounts) / np.maximum(most @ discounts, 1e-12))
        values = np.concatenate(found)
        return Judged(len(values), {"share": partial(weighted_mean, values)})

    return judge


def question(problem: NewOnes, learned: Learned, which: str) -> tuple[Asked, Score]:
    """Who is asked about, and the scores of the method. Raises NotJudged."""
    asked: Asked = getattr(problem, which)
    score = learned.new_producers if which == "of_new" else learned.users
    if score is None:
        raise NotJudged("the method knows nothing of them")
    if len(asked.rows) < LEAST:
        raise NotJudged(f"{len(asked.rows)} users are too few")
    return asked, score


def ready(asked: Asked, part: np.ndarray, score: Score) -> np.ndarray:
    """The scores of a part of those asked about; what is not asked for again comes last."""
    found = np.asarray(score(asked, part), np.float32)
    if not asked.repeats:
        found[asked.history[part].nonzero()] = -np.inf
    return found


COLUMNS = (
    Column("new", "new users", by_ndcg("new"), by_truth("new")),  # type: ignore[arg-type]
    Column("begun", "after one engagement", by_ndcg("begun"), by_truth("begun")),  # type: ignore[arg-type]
    Column("of_new", "new producers", by_ndcg("of_new"), by_truth("of_new")),  # type: ignore[arg-type]
    Column("known", "known users", by_ndcg("known"), by_truth("known")),  # type: ignore[arg-type]
)


def run(settings: Settings, seeds: int, folder: Path | None = None) -> Report:
    """Write the tables table5-methods, -seeds, -truth and -agreement, Markdown and pictures."""
    report = Report(settings, "table5", 0, folder)
    problems = [world_new_ones(WORLD, DAYS)]
    own = log_new_ones(settings)
    if isinstance(own, NewOnes):
        problems.insert(0, own)
        report.warn(not_replayed(settings))
    else:
        report.warn([own])
    total = sum(seeds * len(methods(problem)) for problem in problems)
    with progress_bar("table5", total) as progress:
        results = [measure(problem, seeds, progress) for problem in problems]
    write(report, problems, results)
    report.track()
    return report


def measure(problem: NewOnes, seeds: int, progress: ReportProgress) -> Measured:
    """Fit every method with every seed, and judge all on the same resamples."""
    learned: dict[str, list[Learned]] = {}
    for name, method in methods(problem).items():
        learned[name] = []
        for seed in range(seeds):
            progress(f"{problem.name}: {name}, seed {seed}")
            learned[name].append(timed(method, problem, seed))
    found = Measured(problem.name, {}, {}, {}, {}, dict.fromkeys(learned, ""), [])
    for name, fits in learned.items():
        seconds = float(np.median([fit.seconds for fit in fits]))
        found.seconds[name] = round(seconds / problem.x.nnz * 1e6, 2)
    for column in COLUMNS:
        figures, by_seed = estimates(column.measured, problem, learned)  # type: ignore[arg-type]
        found.figures[column.name], found.by_seed[column.name] = figures, by_seed
        if column.true is not None and problem.known.rates is not None:
            truths = estimates(column.true, problem, learned)[0]  # type: ignore[arg-type]
            found.truths[column.name] = truths
    return found


# Tables and pictures


def write(report: Report, problems: list[NewOnes], results: list[Measured]) -> None:
    report.table("methods", [cost_row(row) for one in results for row in rows_of(one)])
    report.table("seeds", [row for one in results for row in seed_rows(one)])
    report.table("truth", [row for one in results for row in truth_rows(one)])
    agreements = [row for one in results for row in agreement(one, COLUMNS)]
    report.table("agreement", agreements)
    parts = [markdown(*both) for both in zip(problems, results, strict=True)]
    (report.folder / "table5.md").write_text("\n\n".join(parts) + "\n")
    for one in results:
        draw(report.picture(one.name), one.name, COLUMNS, one.figures)
        if one.truths:
            path = report.picture("truth")
            draw_agreement(path, COLUMNS, one.figures, one.truths, agreements)
        for row in rows_of(one):
            report.add_figures(f"{one.name}_{row['method']}".replace(" ", "_"), row)


def cost_row(row: Row) -> Row:
    """A row of a table of methods, whose seconds are per million pairs."""
    return {COST if name == "fit_cpu_s" else name: value for name, value in row.items()}


def markdown(problem: NewOnes, measured: Measured) -> str:
    """A table for a page: bold are the best, and what differs from it by less than chance."""
    shown = [column for column in COLUMNS if measured.figures[column.name]]
    counts = [f"{len(getattr(problem, column.name).rows):,}" for column in shown]
    header = ["method", *(column.title for column in shown), "core-seconds per million pairs"]
    lines = [f"### {measured.name}", "", line_of(header), line_of(["---"] * len(header))]
    lines.append(line_of(["*users asked about*", *counts, f"{problem.x.nnz:,} pairs"]))
    best = {column.name: best_of(measured.figures[column.name]) for column in shown}
    for name, cost in measured.seconds.items():
        cells = [name]
        for column in shown:
            figures = measured.figures[column.name]
            text = cell(figures[name]) if name in figures else NONE
            cells.append(f"**{text}**" if name in best[column.name] else text)
        lines.append(line_of([*cells, f"{cost:.1f}"]))
    return "\n".join(lines)
