"""`evergreen experiment hours`: what vectors lose in hours where items are new every day.

In each of many hours, the next click of a session is looked for among the articles that had a click
in the day before, as known at the beginning of the hour. Vectors and popularity are as old as the
age says; the clicks to be found are the same at every age. An article that nobody has clicked
before cannot be found by anyone, and counts.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from embeddings.benchmarks.intervals import Estimate, user_bootstrap, weighted_mean
from jobs.errors import BadInput
from jobs.plots import figure
from jobs.reports.daily_log import days_of
from jobs.reports.hours.clicks import DAY_HOURS, Clicks, NextClicks, globo, of_log
from jobs.reports.hours.vectors import found, found_by_popularity, learned, with_new_articles
from jobs.reports.report import Report, Row, column_of, progress_bar, select
from jobs.settings import Settings

NAME = "hours"
GLOBO, LOG = SETS = ("globo", "log")
AGES = (0, 1, 2, 4, 8, 24)  # hours
TOP = 20  # articles that are shown
EVERY = 4  # hours between two that are tested
MOST = 2000  # next clicks of a tested hour
RESAMPLES = 200
STALE, FOLDED = "stale", "folded in"
LAST_HOUR, LAST_DAY = "popular in an hour", "popular in a day"
WAYS = (STALE, FOLDED, LAST_HOUR, LAST_DAY)

Key = tuple[str, int]  # way, age


def run(
    settings: Settings,
    data: Path | None,
    name: str,
    days: int,
    window: int,
    seed: int,
    folder: Path | None = None,
) -> Report:
    """Measure every way at every age in hours of the last `days` days, and write the report.

    name: one of SETS. window: hours that vectors are learned from. Raises BadInput for another
    set, for a log that is not there, and for one that is too short.
    """
    report = Report(settings, NAME, seed, folder)
    clicks = clicks_of(settings, data, name)
    hours = tested_hours(clicks, days, window)
    values: dict[Key, list[np.ndarray]] = {(way, age): [] for way in WAYS for age in AGES}
    users: list[np.ndarray] = []
    current_share: list[np.ndarray] = []
    with progress_bar("next clicks", len(hours)) as progress:
        for hour in hours:
            progress(f"hour {hour}")
            wanted = clicks.next_clicks(hour, MOST, seed)
            if len(wanted.articles):
                measure(values, clicks, hour, wanted, window, settings.embedding.dim, seed)
                users.append(wanted.consumers)
                current_share.append(np.isin(wanted.articles, current_at(clicks, hour)))
    if not users:
        raise BadInput(f"{name}: no session has two clicks on different items in the tested hours.")
    estimates = estimates_of(values, np.concatenate(users), seed)
    rows = age_rows(estimates)
    report.table("ages", rows)
    reachable = np.concatenate(current_share)
    counts: Row = {"hours": len(hours), "next clicks": len(reachable)}
    counts["users"] = len(np.unique(np.concatenate(users)))
    report.table("counts", [counts | {"of current articles": float(reachable.mean())}])
    draw(rows, report.picture("ages"))
    for row in rows:
        report.add_figures(f"{row['way']}_{row['age']}h", row)
    report.track()
    return report


def clicks_of(settings: Settings, data: Path | None, name: str) -> Clicks:
    """The clicks of one of SETS."""
    if name == LOG:
        with progress_bar("hours, reading", len(days_of(settings))) as progress:
            return of_log(settings, progress)
    if name != GLOBO:
        raise BadInput(f"There is no set '{name}'; expected one of {list(SETS)}.")
    clicks = globo(data)
    if isinstance(clicks, str):
        raise BadInput(clicks)
    return clicks


def tested_hours(clicks: Clicks, days: int, window: int) -> list[int]:
    """Every EVERY-th hour of the last days, each with a window before the oldest age.

    Raises BadInput where there is none.
    """
    last = int(clicks.hours.max())
    earliest = max(last - days * DAY_HOURS + 1, window + max(AGES))
    hours = list(range(last, earliest - 1, -EVERY))
    if not hours:
        raise BadInput(
            f"The log has {last + 1} hours; expected more than {window + max(AGES)}, for a window "
            f"of {window} hours before the oldest age, which is {max(AGES)}."
        )
    return hours[::-1]


def current_at(clicks: Clicks, hour: int) -> np.ndarray:
    """The articles with a click in the day before an hour, ascending."""
    return np.unique(clicks.window(hour, DAY_HOURS).indices)


def measure(
    values: dict[Key, list[np.ndarray]],
    clicks: Clicks,
    hour: int,
    wanted: NextClicks,
    window: int,
    dim: int,
    seed: int,
) -> None:
    """Add which next clicks of an hour every way finds at every age."""
    current = current_at(clicks, hour)
    newest = clicks.window(hour, window)
    for age in AGES:
        known = hour - age
        articles = learned(clicks.window(known, window), dim, seed)
        values[STALE, age].append(found(articles, wanted, current, TOP))
        renewed = with_new_articles(articles, newest) if age else articles
        values[FOLDED, age].append(found(renewed, wanted, current, TOP))
        for way, length in ((LAST_HOUR, 1), (LAST_DAY, DAY_HOURS)):
            popular = np.asarray(clicks.window(known, length).sum(axis=0)).ravel()
            values[way, age].append(found_by_popularity(popular, wanted, current, TOP))


def estimates_of(
    values: dict[Key, list[np.ndarray]], users: np.ndarray, seed: int
) -> dict[Key, Estimate]:
    """The share of next clicks that is found, with paired intervals that resample users."""
    shares = {key: partial(weighted_mean, np.concatenate(each)) for key, each in values.items()}
    return user_bootstrap(users, shares, RESAMPLES, seed)


def age_rows(estimates: dict[Key, Estimate]) -> list[Row]:
    """A row per way and age: the share found, and what is lost to age 0."""
    rows: list[Row] = []
    for (way, age), estimate in estimates.items():
        lost = estimates[way, 0] - estimate
        rows.append({"way": way, "age": age, **estimate.fields("found"), **lost.fields("lost")})
    return rows


def draw(rows: list[Row], path: Path) -> None:
    """The share found by age, a line per way with its interval."""
    with figure(path, f"Next clicks among {TOP} articles, by age in hours") as axes:
        for way in WAYS:
            of_way = select(rows, "way", way)
            ages = column_of(of_way, "age")
            low, high = column_of(of_way, "found_low"), column_of(of_way, "found_high")
            (line,) = axes.plot(ages, column_of(of_way, "found"), ".-", label=way)
            axes.fill_between(ages, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xticks(AGES, [str(age) for age in AGES])
        axes.set(xlabel="hours", ylabel="share found", ylim=(0, None))
        axes.legend(fontsize=8)
