"""drift: does the day differ from those before it? Alarms say so, and stop nothing.

columns.parquet     one row per column: its rows on the day and in the two weeks before it, the
                    population stability index and the Jensen-Shannon divergence between the two,
                    and, for an alarm, how many times its usual distance the day's is

Columns are those of the day's events (impressions, or engagements in a log without them), and of
the profiles of their consumers and items. No step reads the partition.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.facts import Fact
from embeddings.monitors.alarms import LEAST, WINDOW, Alarm, alarms, folded
from embeddings.monitors.divergence import jensen_shannon, psi
from embeddings.monitors.overlap import overlap
from jobs.errors import UntrustedDay
from jobs.judging.day_counts import TOP, Counter, DayCounts, title
from jobs.lake.schema import ENGAGEMENT_TABLE, IMPRESSION_TABLE
from jobs.pipeline.needs import Need, optional
from jobs.pipeline.plan import Reads, reads, recording, trusted, window
from jobs.plots import panels
from jobs.settings import Settings, days_between

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "benchmark")
FORMAT = 1
SPARK = False
COLUMNS = "columns.parquet"
AGES = {"day": 1, "week": 7, "month": 28}  # in days: four weeks, so that weekdays are the same
BEFORE = AGES["month"]  # days that are read besides the day itself
BINS = 20  # the most frequent values of a column, besides all others together
DIGITS = 6  # after the point: the same on every machine
VOCABULARIES = ("producers", "items", "tags")
ENTITIES = ("consumers", "producers", "items")
COLOURS = dict(zip((*ENTITIES, "tags"), ("C0", "C1", "C2", "C4"), strict=True))
LABEL = "label "  # how the names of columns of labels begin


def overlap_facts() -> tuple[Fact, ...]:
    found = []
    for tokens in VOCABULARIES:
        for age, days in AGES.items():
            ago = f"{days} days ago" if days > 1 else "the day before"
            meaning = f"of the {TOP:,} most frequent {tokens}, those that were so {ago}"
            found.append(Fact(f"overlap_{tokens}_{age}", meaning, "share"))
    return tuple(found)


FACTS = (
    Fact("days", f"days with events among the {BEFORE} before, which the day is compared with"),
    *overlap_facts(),
    Fact("new_<entity>", "the day's consumers, producers or items that none of them has", "share"),
    Fact("rate_<label>", "impressions with this label", "share"),
    Fact(
        "largest_divergence",
        f"largest Jensen-Shannon divergence of a column from the {WINDOW} days before",
        "bits",
        headline=True,
    ),
    Fact("most_changed", "the column that has it"),
    Fact("alarms", "columns that differ more than chance explains", "columns", headline=True),
    Fact("not_judged", "why there can be no alarms"),
    Fact("why", "the columns with an alarm, and how much they differ"),
)
log = logging.getLogger(__name__)


def needs(settings: Settings, day: date) -> list[Need]:
    """The day as validated, and the days before it."""
    before = window(settings, day - timedelta(days=1), BEFORE)
    return [("validate", day), *(optional("validate", earlier) for earlier in before)]


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Compare the day with those before it, and log a warning for each column with an alarm.

    Raises UntrustedDay when validation refused the day.
    """
    read = reads(settings, "drift", day)
    verdict = read["validate", day]
    if not trusted(verdict):
        raise UntrustedDay(f"Nothing to compare on {day}: {verdict.facts['reason']}")
    counted = counted_days(read, day)
    series = series_of(counted)
    found = [alarm for alarm in alarms(series) if alarm.day == BEFORE]
    with recording(settings, "drift", day, read.values()) as staging:
        table = compared(series, found)
        pq.write_table(table, staging.path / COLUMNS)
        days = sum(bool(each.columns) for each in counted[:-1])
        staging.facts |= {"days": days} | measured(counted, settings.benchmark.topic_column)
        staging.facts |= most_changed(table) | judged(days, found, counted)
    for alarm in found:
        log.warning("%s differs from the days before it: %s.", day, described(alarm, counted))
    draw(settings, day)


def counted_days(read: Reads, day: date) -> list[DayCounts]:
    """The days before and the day itself, in order; one that cannot be compared has no counts."""
    has_impressions = read["validate", day].has(IMPRESSION_TABLE)
    # Impressions and engagements are different kinds of rows, of other items and consumers.
    counter = Counter(IMPRESSION_TABLE if has_impressions else ENGAGEMENT_TABLE)
    days = days_between(day - timedelta(days=BEFORE), day)
    return [counter.count(read.get(("validate", each)), shares=each == day) for each in days]


def series_of(counted: Sequence[DayCounts]) -> dict[str, np.ndarray]:
    """The (days, bins) counts of every column of the last day."""
    return {name: binned(name, counted) for name in counted[-1].columns}


def binned(name: str, counted: Sequence[DayCounts]) -> np.ndarray:
    """A column's most frequent values and all others together, (days, bins)."""
    there = [(row, day.columns[name]) for row, day in enumerate(counted) if name in day.columns]
    values = np.unique(np.concatenate([column.values for _, column in there]))
    table = np.zeros((len(counted), len(values) + 1), np.int64)
    for row, column in there:
        table[row, np.searchsorted(values, column.values)] = column.counts
        table[row, -1] = column.rows - column.counts.sum()  # all other values together
    used = table.any(axis=0)
    return folded(table[:, used], BINS)


# What is found


def compared(series: dict[str, np.ndarray], found: list[Alarm]) -> pa.Table:
    """A row per column: the day beside the two weeks before it."""
    times = {alarm.series: round(alarm.times, DIGITS) for alarm in found}
    rows = []
    for name, days in series.items():
        before, now = days[-1 - WINDOW : -1].sum(axis=0), days[-1]
        rows.append(
            {
                "column": name,
                "rows_before": int(before.sum()),
                "rows": int(now.sum()),
                "psi": round(psi(before, now), DIGITS),
                "jensen_shannon": round(jensen_shannon(before, now), DIGITS),
                "times_usual": times.get(name),
            }
        )
    kinds = {"column": pa.string(), "rows_before": pa.int64(), "rows": pa.int64()}
    numbers = {"psi": pa.float64(), "jensen_shannon": pa.float64(), "times_usual": pa.float64()}
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds | numbers))


def measured(counted: Sequence[DayCounts], topic_column: str) -> dict[str, float]:
    """Overlaps, new ids and label rates; what cannot be known is left out."""
    now = counted[-1]
    facts: dict[str, float] = {}
    for tokens in VOCABULARIES:
        for age, days in AGES.items():
            then = vocabulary(counted[-1 - days], tokens, topic_column)
            if len(then):
                shared = overlap(vocabulary(now, tokens, topic_column), then)
                facts[f"overlap_{tokens}_{age}"] = shared
    facts |= {f"new_{entity}": share for entity, share in now.new.items()}
    for name, column in now.columns.items():
        if name.startswith(LABEL):
            facts[f"rate_{name.removeprefix(LABEL)}"] = column.share(b"1")
    return {name: round(value, DIGITS) for name, value in facts.items() if not math.isnan(value)}


def vocabulary(day: DayCounts, tokens: str, topic_column: str) -> np.ndarray:
    """The most frequent producers, items or tags of a day; none where it has none."""
    name = f"{title(topic_column)} of items" if tokens == "tags" else tokens
    if name not in day.columns:
        return np.empty(0, np.bytes_)
    values = day.columns[name].values
    return values[values != b""]


def most_changed(table: pa.Table) -> dict[str, float | str]:
    """The largest divergence, and its column; nothing where no day before has rows."""
    divergences = table["jensen_shannon"].to_numpy()
    if not len(divergences) or np.isnan(divergences).all():
        return {}
    at = int(np.nanargmax(divergences))
    column = table["column"][at].as_py()
    return {"largest_divergence": float(divergences[at]), "most_changed": column}


def judged(days: int, found: list[Alarm], counted: Sequence[DayCounts]) -> dict[str, int | str]:
    """The number of alarms and their sentences, or why there can be none."""
    if days <= LEAST:
        return {"not_judged": f"{LEAST + 1} days with events must be known; there are {days}"}
    if not found:
        return {"alarms": 0}
    why = "; ".join(described(alarm, counted) for alarm in found)
    return {"alarms": len(found), "why": why}


def described(alarm: Alarm, counted: Sequence[DayCounts]) -> str:
    """What has changed: "label rate of 'click': 31.0 % instead of 25.2 %, 15 times as far …"."""
    name = alarm.series
    now = shares(counted[-1:], name)
    before = shares(counted[-1 - WINDOW : -1], name)
    far = f"{alarm.times:.0f} times as far from the days before as usual"
    if name.startswith("number "):  # its values are bins
        return f"{name}: {far}"
    difference = {
        each: round(now.get(each, 0) - before.get(each, 0), DIGITS) for each in now | before
    }
    value = max(sorted(difference), key=lambda each: abs(difference[each]))
    subject = f"{name}: '{value}'"
    if name.startswith(LABEL):
        value, subject = "1", f"label rate of '{name.removeprefix(LABEL)}':"
    rates = f"{now.get(value, 0):.2%} instead of {before.get(value, 0):.2%}".replace("%", " %")
    return f"{subject} {rates}, {far}"


def shares(days: Sequence[DayCounts], name: str) -> dict[str, float]:
    """The share of each of a column's values in the rows of all these days together."""
    columns = [day.columns[name] for day in days if name in day.columns]
    rows = sum(column.rows for column in columns)
    found: dict[str, float] = {}
    for column in columns:
        for value, count in zip(column.values.tolist(), column.counts.tolist(), strict=True):
            text = value.decode()
            found[text] = found.get(text, 0.0) + count / rows
    return found


def draw(settings: Settings, day: date) -> None:
    """Overlaps and new ids as each day's facts have them; a line where a day has an alarm."""
    known = {}
    for each in days_between(day - timedelta(days=BEFORE), day):
        partition = settings.lake.find("drift", each)
        if partition is not None:
            known[(each - day).days] = partition.facts
    if len(known) < 2:  # nothing to draw a line through
        return
    titles = [f"in the top {TOP:,} the day before, too", f"not seen in {BEFORE} days"]
    names = ([f"overlap_{tokens}_day" for tokens in VOCABULARIES], [f"new_{e}" for e in ENTITIES])
    with panels(settings.report("drift", day) / "drift.png", titles) as all_axes:
        for axes, lines in zip(all_axes, names, strict=True):
            for name in lines:
                points = [(age, facts[name]) for age, facts in known.items() if name in facts]
                if points:
                    what = name.split("_")[1]
                    axes.plot(*zip(*points, strict=True), ".-", label=what, color=COLOURS[what])
            for age, facts in known.items():
                if facts.get("alarms"):
                    axes.axvline(age, color="tab:red", linewidth=1)
            axes.set(xlabel=f"days from {day}; red: an alarm", ylim=(0, 1.02))
            if axes.lines:
                axes.legend(fontsize=8)
        all_axes[0].set_ylabel("share")
