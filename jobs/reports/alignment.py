"""Experiment: a ranker that is never retrained, served each later day's vectors.

A ranker is trained on the days up to a start day, every example with the vectors of the previous
day, all of them in the space of the first day. The ranker is then frozen, and ranks the impressions
of every later day with vectors served in four ways:

    aligned      the previous day's, rotated to the reference of the space, see embeddings.spaces
    unaligned    the previous day's as a retrained solver returns them: another seed every day,
                 arbitrary signs
    own axes     the previous day's, on the canonical axes of that day alone
    frozen       those of the start day

The baseline is a ranker that reads no vectors. The metric is the AUC of the primary label on days
that no ranker was trained on. Rankers read profile, context and vectors; ids and past counts would
hide what the vectors contribute.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from embeddings.benchmarks.intervals import share_of_gain
from jobs.plots import panels
from jobs.reports.daily_log import days_of, read_log
from jobs.reports.daily_versions import (
    Version,
    align,
    compared_methods,
    daily_versions,
)
from jobs.reports.frozen_rankers import RankingDays, ScoredRows
from jobs.reports.methods import LABELS
from jobs.reports.report import Report, Row, column_of, progress_bar, select
from jobs.settings import Settings

STARTS = (3, 5, 8)  # days with impressions that the ranker is trained on
NONE = "no vectors"
UNALIGNED = "unaligned"
OWN = "own axes"
FROZEN = "frozen"
ALIGNED = "aligned"
SERVED = (UNALIGNED, OWN, FROZEN, ALIGNED)
COLOURS = {UNALIGNED: "tab:red", OWN: "tab:orange", FROZEN: "tab:blue", ALIGNED: "tab:green"}


def run(settings: Settings, seed: int, folder: Path | None = None) -> Report:
    """Write the tables alignment-ages and alignment-gains, and one picture per method.

    The gains are of all days from age 2 on together. Raises EvergreenError if the log is too short.
    """
    report = Report(settings, "alignment", seed, folder)
    methods = compared_methods(settings)
    n_days = len(days_of(settings))
    n_steps = n_days + len(STARTS) + len(methods) * (n_days - 1 + len(STARTS))
    ages: list[Row] = []
    gains: list[Row] = []
    with progress_bar("alignment", n_steps) as progress:
        log = read_log(settings, progress)
        days = RankingDays.from_log(log, settings, seed, max(STARTS))
        # These rankers read no vectors, so one per start serves all methods.
        baselines = {}
        for start in STARTS:
            progress(f"a ranker without vectors, frozen on day {start}")
            baselines[start] = days.scores_without_vectors(start)
        for method in methods:
            versions = daily_versions(log, method, settings, seed, progress)
            served = {
                UNALIGNED: with_random_signs(versions, seed),
                OWN: [version.on_own_axes() for version in versions],
                ALIGNED: align(versions),
            }
            all_later = []
            for start in STARTS:
                progress(f"{method.name}: a ranker frozen on day {start}")
                by_age = scores_by_age(days, start, served, baselines[start])
                for age, rows in by_age.items():
                    ages.append(age_row(method.name, start, age, rows, seed))
                # At age 1 the frozen vectors are the aligned ones, and would dilute the gain.
                after_first = [rows for age, rows in by_age.items() if age > 1]
                later = ScoredRows.concatenated(after_first)
                gains.append(gain_row(method.name, start, later, seed))
                all_later.append(later)
            gains.append(gain_row(method.name, "all", ScoredRows.concatenated(all_later), seed))
    report.table("ages", ages)
    report.table("gains", gains)
    for method in methods:
        draw(report.picture(method.name), select(ages, "method", method.name))
    for row in gains:
        report.add_figures(f"{row['method']}_from_{row['start']}", row)
    report.track()
    return report


def with_random_signs(versions: list[Version], seed: int) -> list[Version]:
    """Flip a random half of each day's axes: an SVD determines its axes, but not their signs."""
    rng = np.random.default_rng(seed)
    flipped = []
    for version in versions:
        signs = rng.choice([-1.0, 1.0], version.consumers.shape[1])
        flipped.append(version.rotated(np.diag(signs)))
    return flipped


def scores_by_age(
    days: RankingDays,
    start: int,
    served: dict[str, list[Version]],
    baseline: dict[int, np.ndarray],
) -> dict[int, ScoredRows]:
    """The rows of every later day, scored in all ways; by the ranker's age in days.

    The ranker is trained on aligned vectors and frozen on day `start`. served: way -> versions by
    day number; baseline: day number -> scores without vectors.
    """
    ranker = days.train_ranker(start, served[ALIGNED])
    last_trained = days.first + start - 1
    by_age = {}
    for number in days.days_after(start):
        versions = {way: by_day[number - 1] for way, by_day in served.items()}
        versions[FROZEN] = served[ALIGNED][last_trained]
        scores = {NONE: baseline[number]}
        for way, version in versions.items():
            scores[way] = ranker.score(days.examples(number, version))
        examples = days.examples(number, versions[FROZEN])
        rows = ScoredRows(examples.consumer_rows, examples.labels[:, 0], scores)
        by_age[number - last_trained] = rows
    return by_age


# Tables and pictures


def age_row(method: str, start: int, age: int, rows: ScoredRows, seed: int) -> Row:
    """The AUC without vectors, and the gain of each way of serving over it."""
    aucs = rows.aucs(seed)
    row: Row = {"method": method, "start": start, "age": age, "rows": len(rows.labels)}
    row[f"auc {NONE}"] = aucs[NONE].value
    for way in SERVED:
        row |= (aucs[way] - aucs[NONE]).fields(f"gain {way}")
    return row


def gain_row(method: str, start: int | str, rows: ScoredRows, seed: int) -> Row:
    """The gain of aligned vectors over unaligned, frozen and no vectors."""
    aucs = rows.aucs(seed)
    row: Row = {"method": method, "start": start, "rows": len(rows.labels)}
    for way in (NONE, *SERVED):
        row[f"auc {way}"] = aucs[way].value
    row |= (aucs[ALIGNED] - aucs[UNALIGNED]).fields("over unaligned")
    row |= (aucs[ALIGNED] - aucs[FROZEN]).fields("over frozen")
    share = share_of_gain(aucs[ALIGNED], aucs[FROZEN], aucs[NONE])
    return row | share.fields("share of frozen gain")


def draw(path: Path, rows: list[Row]) -> None:
    """What each way of serving adds to the AUC, by the ranker's age; one panel per start day."""
    label = LABELS[str(rows[0]["method"])]
    titles = [f"{label}: ranker frozen on day {start}" for start in STARTS]
    with panels(path, titles) as all_axes:
        for axes, start in zip(all_axes, STARTS, strict=True):
            draw_start(axes, select(rows, "start", start))
        all_axes[0].set_ylabel("AUC of the next day, above no vectors")
        all_axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))


def draw_start(axes, rows: list[Row]) -> None:
    """The gain and its interval of every way of serving, side by side at each age."""
    ages = column_of(rows, "age")
    for place, way in enumerate(SERVED):
        gain = column_of(rows, f"gain {way}")
        below = gain - column_of(rows, f"gain {way}_low")
        above = column_of(rows, f"gain {way}_high") - gain
        axes.errorbar(
            ages + 0.1 * (place - 1.5),  # beside one another, so that the bars stay apart
            gain,
            (below, above),
            fmt=".-",
            capsize=2,
            label=way,
            color=COLOURS[way],
        )
    axes.axhline(0, color="black", linewidth=1, label=NONE)
    axes.set(xlabel="age of the ranker, days", xticks=ages)
