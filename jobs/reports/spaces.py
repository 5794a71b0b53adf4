"""Experiment: one space for months.

How long do vectors of different days stay comparable, on public logs, the log of the settings and
simulated ones? One table per question:

    spaces     how many spaces are opened, and is a break that was planted found on its day?
    ages       cosine of a producer's vectors of two days, so and so many days apart, for producers
               that had no part in any rotation: by the reference of the space, by a chain from day
               to day, by a fixed first day, and by the best rotation of these two days
    prefixes   NDCG of the next day's engagements by the first columns of the last days' vectors, in
               the coordinates of the space, on each day's own axes, and fitted so short
    readers    a linear reader of engagements, fitted once and served later days' vectors, against
               one that is fitted again on them, and against vectors that are not renewed
    rankers    the same for a ranker, on the log of the settings
    truth      the same for a reader of simulated tastes, over a year with newcomers every day
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from embeddings.benchmarks.intervals import user_bootstrap, weighted_mean
from embeddings.spaces.placement import Placed, rotated
from embeddings.spaces.reference import Entities, Sides, folds, shared_rows
from jobs.errors import EvergreenError
from jobs.plots import figure, panels
from jobs.reports.daily_factors import (
    HELD_OUT,
    Day,
    best_rotation,
    best_rotation_of_directions,
    by_anchor,
    by_chain,
    by_reference,
    days_of,
    learners,
    placements,
    row_ids,
)
from jobs.reports.daily_log import Log, read_log
from jobs.reports.daily_log import days_of as log_days
from jobs.reports.methods import SVD
from jobs.reports.prefixes import prefix_rows
from jobs.reports.ranker_readers import START, ranker_rows
from jobs.reports.readers import reader_rows, truth_rows
from jobs.reports.report import Report, ReportProgress, Row, column_of, progress_bar, select
from jobs.reports.streams import READERS, Stream, public_stream, simulated_stream
from jobs.settings import Settings
from simulation.small_world import SmallWorld

SEEDS = 3
DIM = 32
AGES = (1, 7, 30, 90, 180)
WINDOWS = {"CollegeMsg": (14, 28), "email-Eu-core": (14, 28), "Globo": (3,)}
OWN_WINDOW = 5  # days, for the log of the settings: KuaiRand's first day then leaves the window
FEWEST_DAYS = 4
PAIRS = 40  # of days at each age
RESAMPLES = 200
REFERENCE, CHAIN, ANCHOR = "reference", "chain", "fixed day"
BEST, BEST_DIRECTIONS = "best rotation", "best rotation of directions"
WAYS: dict[str, Callable[[list[Day], bool], list[np.ndarray]]] = {
    REFERENCE: by_reference,
    CHAIN: by_chain,
    ANCHOR: by_anchor,
}
COLOURS = {
    REFERENCE: "tab:green",
    CHAIN: "tab:orange",
    ANCHOR: "tab:red",
    BEST: "black",
    BEST_DIRECTIONS: "grey",
}
TABLES = ("spaces", "ages", "prefixes", "readers", "rankers", "truth")
YEAR_DAYS = 365
YEAR = SmallWorld(new_consumers=0.01, new_producers=0.03)
SIMULATED = {
    "stationary": (SmallWorld(), 200, 7),
    "drifting": (SmallWorld(drift=0.02, new_consumers=0.005, new_producers=0.01), 200, 7),
}
PICTURES = {"months": ("CollegeMsg", "email-Eu-core"), "simulated": tuple(SIMULATED)}
BREAK = 60  # number of the day on which a break is planted


def run(settings: Settings, data: Path | None, seed: int, folder: Path | None = None) -> Report:
    """Write the tables spaces, ages, prefixes, readers, rankers and truth, and their pictures."""
    report = Report(settings, "space", seed, folder)
    public = public_streams(report, data)
    tables: dict[str, list[Row]] = {name: [] for name in TABLES}
    n_windows = sum(len(WINDOWS[stream.name]) for stream in public)
    n_runs = n_windows + len(SIMULATED) + 3  # the own log, the breaks and the year
    n_days = len(log_days(settings))
    # A step per day's vectors, and one per day after those that a ranker is trained on.
    n_rankers = len(ranker_windows(settings)) * (2 * n_days - 2 - START)
    with progress_bar("space", SEEDS * (n_runs + n_rankers) + n_days) as progress:
        log = read_log(settings, progress)
        events = [day.events for day in log.days]
        own = Stream(settings.source.kind, events)
        for number in range(seed, seed + SEEDS):
            for stream, window in cases(public, own, number):
                progress(f"{stream.name}, window of {window} days, seed {number}")
                measure(report, tables, stream, window, number)
            tables["rankers"] += own_ranker_rows(report, log, number, progress)
            progress(f"planted breaks, seed {number}")
            tables["spaces"] += with_fields({"seed": number}, break_rows(public, number))
            progress(f"a simulated year, seed {number}")
            year = simulated_stream("year", YEAR, YEAR_DAYS, number)
            tables["truth"] += truth_rows(year, WAYS, number)
    for name, rows in tables.items():
        if rows:
            report.table(name, rows)
    draw(report, tables)
    for row in tables["ages"]:
        report.add_figures(f"{row['log']}_{row['window']}_{row['seed']}_age{row['age']}", row)
    report.track()
    return report


def public_streams(report: Report, data: Path | None) -> list[Stream]:
    """The public logs that are there; a warning for each other one."""
    found = []
    for name in READERS:
        stream = public_stream(name, data)
        if isinstance(stream, Stream):
            found.append(stream)
        else:
            report.warn([stream])
    return found


def cases(public: list[Stream], own: Stream, seed: int) -> Iterator[tuple[Stream, int]]:
    """Every log with every length of its window, in days."""
    for stream in public:
        for window in WINDOWS[stream.name]:
            yield stream, window
    yield own, OWN_WINDOW
    for name, (world, n_days, window) in SIMULATED.items():
        yield simulated_stream(name, world, n_days, seed), window


def measure(
    report: Report, tables: dict[str, list[Row]], stream: Stream, window: int, seed: int
) -> None:
    """Add the rows of one log and window to the tables."""
    days = list(days_of(stream, window, SVD(DIM, 1.0), seed))
    if len(days) < FEWEST_DAYS:
        report.warn([f"{stream.name} left out: {len(days)} days with vectors are few."])
        return
    found = placements(days)
    aligned = in_space(days, found)
    base: Row = {"log": stream.name, "window": window, "seed": seed}
    for name, rows in (
        ("spaces", [spaces_row(found)]),
        ("ages", age_rows(days, seed)),
        ("prefixes", prefix_rows(stream, days, aligned, window, seed)),
        ("readers", reader_rows(stream, days, aligned, seed)),
    ):
        tables[name] += with_fields(base, rows)


def own_ranker_rows(report: Report, log: Log, seed: int, progress: ReportProgress) -> list[Row]:
    """The rows of the rankers, with the settings' window and with that of the other tables."""
    settings = report.settings
    method = SVD(settings.embedding.dim, 1.0)
    rows: list[Row] = []
    for window in ranker_windows(settings):
        matrix = settings.matrix.model_copy(update={"window_days": window})
        chosen = settings.model_copy(update={"matrix": matrix})
        base: Row = {"log": settings.source.kind, "window": window, "seed": seed}
        try:
            rows += with_fields(base, ranker_rows(log, method, chosen, seed, progress))
        except EvergreenError as error:
            report.warn([f"Rankers are left out: {error}"])
    return rows


def ranker_windows(settings: Settings) -> list[int]:
    """In days, each once."""
    return sorted({OWN_WINDOW, settings.matrix.window_days})


def with_fields(fields: Row, rows: list[Row]) -> list[Row]:
    """The rows, each after these fields."""
    return [fields | row for row in rows]


# Spaces


def in_space(days: list[Day], found: list[Placed]) -> list[Sides]:
    """The days in the coordinates where they were placed."""
    aligned = []
    for day, placed in zip(days, found, strict=True):
        aligned.append(rotated(day.sides, placed.rotation))
    return aligned


def spaces_row(found: list[Placed]) -> Row:
    """How many spaces were opened after the first, and how clear the decisions were."""
    names = [each.keyframe.space for each in found]
    opened = []
    for each in found[1:]:
        if each.opened:
            opened.append(str((each.keyframe.day - found[0].keyframe.day).days))
    row: Row = {
        "days": len(found),
        "opened": len(opened),
        "opened on day": ", ".join(opened),
        "days elsewhere": len(found) - max(names.count(name) for name in set(names)),
    }
    for each in found[1:]:
        if each.opened and each.compared:
            row["deviation where opened"] = each.compared[-1].judgement.deviation
    judgements = [each.compared[-1].judgement for each in found if each.joined]
    if judgements:
        row["least deviation"] = float(min(judgement.deviation for judgement in judgements))
        ranks = [np.count_nonzero(judgement.stable) for judgement in judgements]
        row["stable rank"] = float(np.median(ranks))
    return row


def break_rows(public: list[Stream], seed: int) -> list[Row]:
    """Breaks that were planted on day BREAK after the first.

    In real logs every entity takes another's id from then on, as when ids are issued anew. In a
    simulated one, of which each day is fitted alone, all tastes and topics are drawn anew, while
    popularity and activity stay.
    """
    rows: list[Row] = []
    for stream in public:
        window = WINDOWS[stream.name][0]
        planted = min(BREAK, len(stream.days) // 2)
        days = list(islice(days_of(stream, window, SVD(DIM, 1.0), seed), 2 * planted))
        shape = stream.days[0].shape
        renamed = [*days[:planted], *(with_other_ids(day, shape, seed) for day in days[planted:])]
        row: Row = {"log": f"{stream.name}, other ids from day {planted} on", "window": window}
        rows.append(row | spaces_row(placements(renamed)))
    world = SmallWorld(engagements=12.0, breaks=(BREAK,))
    stream = simulated_stream("simulated", world, 2 * BREAK, seed)
    days = list(days_of(stream, 1, SVD(DIM, 1.0), seed))
    row = {"log": f"simulated, other tastes from day {BREAK} on", "window": 1}
    return [*rows, row | spaces_row(placements(days))]


def with_other_ids(day: Day, shape: tuple[int, int], seed: int) -> Day:
    """Every entity under the id of another one of its side, the same on each day.

    shape: of the stream's matrices.
    """
    sides: Sides = {}
    for (side, entities), n in zip(day.sides.items(), shape, strict=True):
        other = np.random.default_rng(seed).permutation(n)[entities.ids.astype(np.int64)]
        order = np.argsort(other)
        sides[side] = Entities(
            row_ids(other[order]), entities.vectors[order], entities.weights[order]
        )
    return Day(day.number, sides)


# Ages


def age_rows(days: list[Day], seed: int) -> list[Row]:
    """The cosines of held-out producers at every age that the stream has."""
    rotations = {way: find(days, True) for way, find in WAYS.items()}
    rows = []
    for age in AGES:
        later = np.arange(age, len(days))
        if len(later) < 1:
            continue
        chosen = later[np.unique(np.linspace(0, len(later) - 1, PAIRS).astype(np.int64))]
        found = [pair_cosines(days, rotations, number, number - age) for number in chosen]
        rows.append({"age": age, "pairs": len(chosen)} | age_row(found, seed))
    return rows


def pair_cosines(
    days: list[Day], rotations: dict[str, list[np.ndarray]], later: int, earlier: int
) -> dict[str, np.ndarray]:
    """The held-out producers that two days share: "ids", and their cosines by every way."""
    a, b = days[later].sides["producer"], days[earlier].sides["producer"]
    rows_a, rows_b = shared_rows(a.ids, b.ids)
    unseen = folds(a.ids[rows_a]) == HELD_OUT
    rows_a, rows_b = rows_a[unseen], rows_b[unseen]
    found = {"ids": a.ids[rows_a]}
    for way, of_day in rotations.items():
        found[way] = cosines(a.vectors[rows_a] @ of_day[later], b.vectors[rows_b] @ of_day[earlier])
    known = learners(days[later].sides), learners(days[earlier].sides)
    for way, best in ((BEST, best_rotation), (BEST_DIRECTIONS, best_rotation_of_directions)):
        found[way] = cosines(a.vectors[rows_a] @ best(*known), b.vectors[rows_b])
    return found


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of paired rows, (n,)."""
    return np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def age_row(found: list[dict[str, np.ndarray]], seed: int) -> Row:
    """Mean cosine by every way, with intervals by producer, and the share of the best rotation."""
    columns = {way: np.concatenate([pair[way] for pair in found]) for way in found[0]}
    ids = columns.pop("ids")
    statistics = {way: partial(weighted_mean, values) for way, values in columns.items()}
    estimates = user_bootstrap(ids, statistics, RESAMPLES, seed)
    row: Row = {"producers": len(np.unique(ids))}
    for way, estimate in estimates.items():
        row |= estimate.fields(way)
    row |= (estimates[REFERENCE] / estimates[BEST]).fields("share of best")
    row |= (estimates[REFERENCE] / estimates[BEST_DIRECTIONS]).fields("share of best directions")
    return row


# Pictures


def draw(report: Report, tables: dict[str, list[Row]]) -> None:
    """The pictures of the first seed."""
    first = select(tables["ages"], "seed", report.seed)
    for name, logs in PICTURES.items():
        chosen = [row for row in first if row["log"] in logs]
        if chosen:
            draw_ages(report.picture(name), chosen)
    draw_truth(report.picture("truth"), tables["truth"])


def draw_ages(path: Path, rows: list[Row]) -> None:
    """Cosine by age and way; one panel per window."""
    titles = list(dict.fromkeys(f"{row['log']}, window {row['window']}" for row in rows))
    with panels(path, titles) as all_axes:
        for axes, title in zip(all_axes, titles, strict=True):
            chosen = [row for row in rows if f"{row['log']}, window {row['window']}" == title]
            for way, colour in COLOURS.items():
                style = ".--" if way in (BEST, BEST_DIRECTIONS) else ".-"
                ages, values = column_of(chosen, "age"), column_of(chosen, way)
                axes.plot(ages, values, style, label=way, color=colour)
            axes.set(xscale="log", xlabel="days apart", xticks=AGES, xticklabels=AGES, ylim=(0, 1))
        all_axes[0].set_ylabel("cosine of held-out producers")
        all_axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))


def draw_truth(path: Path, rows: list[Row]) -> None:
    """R² of the frozen readers over the simulated year, the first seed."""
    first = select(rows, "seed", rows[0]["seed"])
    with figure(path, "A reader of tastes, fitted once, over a simulated year") as axes:
        for way, colour in {**{way: COLOURS[way] for way in WAYS}, "fitted again": "black"}.items():
            axes.plot(column_of(first, "day"), column_of(first, way), label=way, color=colour)
        axes.set(xlabel="day", ylabel="R² of simulated tastes", ylim=(0, 1))
        axes.legend()
