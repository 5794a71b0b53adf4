"""Experiment: a ranker that is never retrained, served each later day's vectors.

A ranker is trained on the days up to a start day, every example with the vectors of the day before it, all aligned to
the first day. Then it stays as it is, and ranks every later day's impressions with vectors served in four ways:

    aligned      those of the day before, turned to the first day's axes
    unaligned    those of the day before, as a retrain leaves them: another seed every day, signs as they fall
    own axes     those of the day before, on the canonical axes of that day alone
    frozen       those of the start day

beside a ranker that never saw a vector. What counts is the AUC of the primary label on days that nobody has trained on.
Rankers read profile and context and vectors; ids and past counts would hide what the vectors tell.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jobs.reports.daily_log import days_of, read_log
from jobs.reports.frozen_rankers import Course, Judged
from jobs.reports.methods import LABELS
from jobs.reports.report import Report, Row, panels, progress
from jobs.reports.versions import Version, aligned, compared, daily_versions
from jobs.settings import Settings

STARTS = (3, 5, 8)  # days with impressions that the ranker is trained on
NONE, UNALIGNED, OWN, FROZEN, ALIGNED = WAYS = (
    "no vectors",
    "unaligned",
    "own axes",
    "frozen",
    "aligned",
)
SERVED = WAYS[1:]
COLOURS = {UNALIGNED: "tab:red", OWN: "tab:orange", FROZEN: "tab:blue", ALIGNED: "tab:green"}


def run(settings: Settings, seed: int, folder: Path | None = None) -> Report:
    """Tables alignment-ages and alignment-gains, a picture a method. Raises EvergreenError where the log is too short.

    gains: all days from age 2 on together; at age 1 the frozen vectors are the aligned ones.
    """
    report = Report(settings, "alignment", seed, folder)
    methods, n_days = compared(settings), len(days_of(settings))
    ages: list[Row] = []
    gains: list[Row] = []
    with progress(
        "alignment", n_days + len(STARTS) + len(methods) * (n_days - 1 + len(STARTS))
    ) as tell:
        course = Course.of(read_log(settings, tell), settings, seed, max(STARTS))
        blind = {}
        for start in STARTS:
            tell(f"a ranker without vectors, frozen on day {start}")
            blind[start] = course.blind_scores(start)
        for method in methods:
            versions = daily_versions(course.log, method, settings, seed, tell)
            served = {
                UNALIGNED: with_random_signs(versions, seed),
                OWN: [one.on_own_axes() for one in versions],
                ALIGNED: aligned(versions),
            }
            later: list[Judged] = []
            for start in STARTS:
                tell(f"{method.name}: a ranker frozen on day {start}")
                judged = ranked_in_all_ways(course, start, served, blind[start])
                ages += [
                    age_row(method.name, start, age, rows, seed) for age, rows in judged.items()
                ]
                later.append(Judged.joined([rows for age, rows in judged.items() if age > 1]))
                gains.append(gain_row(method.name, start, later[-1], seed))
            gains.append(gain_row(method.name, "all", Judged.joined(later), seed))
    report.table("ages", ages)
    report.table("gains", gains)
    for method in methods:
        draw(report.picture(method.name), [row for row in ages if row["method"] == method.name])
    for row in gains:
        figures = {name: value for name, value in row.items() if isinstance(value, float)}
        report.figures |= {
            f"{row['method']}_from_{row['start']}_{name}": value for name, value in figures.items()
        }
    report.track()
    return report


def with_random_signs(versions: list[Version], seed: int) -> list[Version]:
    """Every axis of every day turned round or not: an SVD determines its axes, but not their signs."""
    rng = np.random.default_rng(seed)
    return [v.turned(np.diag(rng.choice([-1.0, 1.0], v.consumers.shape[1]))) for v in versions]


def ranked_in_all_ways(
    course: Course, start: int, served: dict[str, list[Version]], blind: dict[int, np.ndarray]
) -> dict[int, Judged]:
    """Freeze a ranker on day `start`, trained on aligned vectors, and let it rank every later day; by its age in days.

    served: way -> versions by day number. blind: by day number, the scores without vectors.
    """
    ranker, last = course.ranker(start, served[ALIGNED]), course.first + start - 1
    judged = {}
    for number in course.later(start):
        versions = {way: by_day[number - 1] for way, by_day in served.items()} | {
            FROZEN: served[ALIGNED][last]
        }
        days = {way: course.day(number, version) for way, version in versions.items()}
        scores = {NONE: blind[number], **{way: ranker.score(day) for way, day in days.items()}}
        judged[number - last] = Judged(
            days[FROZEN].consumer_rows, days[FROZEN].labels[:, 0], scores
        )
    return judged


# What is told


def age_row(method: str, start: int, age: int, judged: Judged, seed: int) -> Row:
    """AUC without vectors, and what each way of serving adds to it."""
    aucs = judged.aucs(seed)
    row: Row = {"method": method, "start": start, "age": age, "rows": len(judged.labels)}
    row[f"auc {NONE}"] = aucs.values[NONE]
    for way in SERVED:
        row |= aucs.gain(way, NONE).fields(f"gain {way}")
    return row


def gain_row(method: str, start: int | str, judged: Judged, seed: int) -> Row:
    """What aligned vectors are worth, over no, unaligned and frozen ones."""
    aucs = judged.aucs(seed)
    row: Row = {"method": method, "start": start, "rows": len(judged.labels)}
    row |= {f"auc {way}": aucs.values[way] for way in WAYS}
    row |= aucs.gain(ALIGNED, UNALIGNED).fields("over unaligned")
    row |= aucs.gain(ALIGNED, FROZEN).fields("over frozen")
    return row | aucs.share(ALIGNED, FROZEN, NONE).fields("share of frozen gain")


def draw(path: Path, rows: list[Row]) -> None:
    """What each way of serving adds to the AUC, by the ranker's age; one panel a start day."""
    with panels(
        path,
        [f"{LABELS[str(rows[0]['method'])]}: ranker frozen on day {start}" for start in STARTS],
    ) as axes:
        for one, start in zip(axes, STARTS, strict=True):
            chosen = [row for row in rows if row["start"] == start]
            for place, way in enumerate(SERVED):
                ages, gains, low, high = (
                    np.array([row[name] for row in chosen])
                    for name in ("age", f"gain {way}", f"gain {way}_low", f"gain {way}_high")
                )
                bars = (gains - low, high - gains)
                one.errorbar(
                    ages + 0.1 * (place - 1.5),
                    gains,
                    bars,
                    fmt=".-",
                    capsize=2,
                    label=way,
                    color=COLOURS[way],
                )
            one.axhline(0, color="black", linewidth=1, label=NONE)
            one.set(xlabel="age of the ranker, days", xticks=[row["age"] for row in chosen])
        axes[0].set_ylabel("AUC of the next day, above no vectors")
        axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
