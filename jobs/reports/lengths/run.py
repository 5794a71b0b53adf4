"""Experiment `lengths`: the benchmarks of Tables 1 and 4, by length and by way of shortening.

An embedder with its default options learns long vectors. Every reducer shortens them,
the trained ones once for each seed; each figure is the mean over the seeds, and its interval is of
resampled users, the same ones for all. So every difference and every share is paired.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from threadpoolctl import threadpool_limits

from embeddings.benchmarks.intervals import Estimate, share_of_gain
from embeddings.lengths.base import names, reducer
from jobs.reports.lengths.drawing import draw
from jobs.reports.methods import THREADS
from jobs.reports.report import Report, ReportProgress, Row, progress_bar
from jobs.reports.tables.columns import TABLE_1, TABLE_4, estimates
from jobs.reports.tables.markdown import markdown
from jobs.reports.tables.methods import (
    RANDOM,
    Learned,
    OnTheSeam,
    by_products,
    random_vectors,
)
from jobs.reports.tables.problem import Problem
from jobs.reports.tables.public import public_problems
from jobs.reports.tables.world import DAYS, simulated_problem
from jobs.settings import Settings
from simulation.world import World

WHOLE_LENGTHS = {"svd": 1000, "als": 1000}  # embedder -> numbers of a whole vector
LENGTHS = (300, 100, 50, 20)
JUDGED = 50  # the length that should keep ENOUGH of what the whole gains on random vectors
ENOUGH = 0.95
FIRST, WHOLE = "first_columns", "whole"
TRAINED = ("autoencoder", "matryoshka")  # by chance, too: once for each seed
DATA = ("lastfm",)  # public data sets with enough consumers and producers for such long vectors
WORLD = World(consumers=3000, producers=1500, topics=16, impressions=6.0)
# What is asked of plain products is asked of retrieval already.
COLUMNS = tuple(column for column in TABLE_1 + TABLE_4 if column.name != "products")

Way = tuple[str, int]  # how vectors were shortened, and to which length


@dataclass(frozen=True)
class Measured:
    """One data set by one embedder. figures: column -> way -> estimate; seconds: of a fit."""

    data: str
    embedder: str
    whole: int
    figures: dict[str, dict[Way, Estimate]] = field(default_factory=dict)
    seconds: dict[Way, float] = field(default_factory=dict)


def run(settings: Settings, data: Path | None, seeds: int, folder: Path | None = None) -> Report:
    """Write the tables -methods and -kept, lengths.md and a picture by data set and embedder.

    data: the folder of the public data sets; those that it lacks are left out.
    """
    report = Report(settings, "lengths", 0, folder)
    problems, left_out = public_problems(data)
    report.warn(left_out)
    problems = [problem for problem in problems if problem.name in DATA]
    problems.append(simulated_problem(WORLD, DAYS))
    total = len(problems) * len(WHOLE_LENGTHS) * (1 + len(names()) + len(COLUMNS))
    results = []
    # Besides the fit on one thread: on a busy machine, those of small solves wait for each other.
    with threadpool_limits(1), progress_bar("lengths", total) as progress:
        for problem in problems:
            for embedder, whole in WHOLE_LENGTHS.items():
                lengths = [length for length in LENGTHS if length < whole]
                results.append(measure(problem, embedder, whole, lengths, seeds, progress))
                write(report, results)  # after each: all of them take long
    report.track()
    return report


def measure(
    problem: Problem,
    embedder: str,
    whole: int,
    lengths: Sequence[int],
    seeds: int,
    progress: ReportProgress,
) -> Measured:
    """Fit the embedder, shorten its vectors in every way, and judge them all."""
    found = Measured(problem.name, embedder, whole)
    progress(f"{problem.name}: {embedder}")
    with threadpool_limits(THREADS):
        started = time.process_time()
        long = OnTheSeam(embedder, {}, whole)(problem.input, 0)
        found.seconds[WHOLE, whole] = time.process_time() - started
    learned: dict[Way, list[Learned]] = {
        (RANDOM, whole): [random_vectors(problem.input, 0)],
        (WHOLE, whole): [long],
    }
    for name in names():
        progress(f"{problem.name}: {embedder}, {name}")
        started = time.process_time()
        fits = range(seeds if name in TRAINED else 1)
        for length, shorter in shortened(problem, long, name, lengths, fits).items():
            learned[name, length] = shorter
            found.seconds[name, length] = (time.process_time() - started) / len(fits)
    for column in COLUMNS:
        progress(f"{problem.name}: {embedder}, {column.title}")
        found.figures[column.name] = estimates(column.measured, problem, learned)[0]
    return found


def shortened(
    problem: Problem, long: Learned, name: str, lengths: Sequence[int], seeds: Sequence[int]
) -> dict[int, list[Learned]]:
    """By length, what a reducer makes of the vectors, once for each seed."""
    assert long.consumers is not None, "an embedder has them"
    assert long.producers is not None, "an embedder has them"
    # It learns from those who have a vector, as in the daily loop.
    consumers = long.consumers[long.consumers.any(axis=1)]
    producers = long.producers[long.producers.any(axis=1)]
    found: dict[int, list[Learned]] = {length: [] for length in lengths}
    for seed in seeds:
        encoder = reducer(name).fit(consumers, producers, lengths, seed)
        for length in lengths:
            shorter_consumers = encoder.encode(long.consumers, length)
            shorter_producers = encoder.encode(long.producers, length)
            found[length].append(
                by_products(problem.input, shorter_consumers, shorter_producers, long.scales)
            )
    return found


# Tables


def write(report: Report, results: list[Measured]) -> None:
    """The tables, the Markdown file and the pictures of what is measured so far."""
    report.table("methods", [row for measured in results for row in rows_of(measured)])
    report.table("kept", [row for measured in results for row in kept(measured, JUDGED)])
    parts = [as_markdown(measured) for measured in results]
    (report.folder / f"{report.name}.md").write_text("\n\n".join(parts) + "\n")
    for measured in results:
        title = f"{measured.data}, {measured.embedder}"
        picture = report.picture(f"{measured.data} {measured.embedder}")
        draw(picture, title, COLUMNS, measured.figures, (WHOLE, RANDOM))
        for row in rows_of(measured):
            name = f"{measured.data}_{measured.embedder}_{row['method']}_{row['length']}"
            report.add_figures(name, row)


def rows_of(measured: Measured) -> list[Row]:
    """One row for each way: its figures with their intervals, and the CPU seconds of a fit."""
    rows = []
    for way, seconds in measured.seconds.items():
        row: Row = {"data": measured.data, "embedder": measured.embedder}
        row |= {"method": way[0], "length": way[1]}
        for column, figures in measured.figures.items():
            if way in figures:
                row |= figures[way].fields(column)
        rows.append(row | {"fit_cpu_s": round(seconds, 2)})
    return rows


def kept(measured: Measured, length: int) -> list[Row]:
    """One row for each way and column, at this length.

    kept: the share of what whole vectors gain on random ones, where they do; gain: what it has more
    than the first columns.
    """
    rows: list[Row] = []
    for column, figures in measured.figures.items():
        for way, estimate in figures.items():
            if way[1] != length:
                continue
            row: Row = {"data": measured.data, "embedder": measured.embedder, "column": column}
            row |= {"method": way[0], "length": length}
            whole, chance = figures[WHOLE, measured.whole], figures[RANDOM, measured.whole]
            if (whole - chance).low > 0:
                row |= share_of_gain(estimate, whole, chance).fields("kept")
            if way[0] != FIRST:
                row |= (estimate - figures[FIRST, length]).fields("gain")
            rows.append(row)
    return rows


def as_markdown(measured: Measured) -> str:
    """A table as those of Table 1."""
    figures = {}
    for column, by_way in measured.figures.items():
        figures[column] = {named(way): estimate for way, estimate in by_way.items()}
    seconds = {named(way): value for way, value in measured.seconds.items()}
    title = f"{measured.data}, {measured.embedder}"
    return markdown(title, COLUMNS, figures, seconds, dict.fromkeys(seconds, ""))


def named(way: Way) -> str:
    return f"{way[0]} {way[1]}".replace("_", " ")
