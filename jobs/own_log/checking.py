"""`evergreen check`: what would be landed of every file of a log, and what put aside and why.

The reader is that of `land`, and keeps what it has read: the first run does not read it again.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from fnmatch import fnmatchcase
from functools import partial
from itertools import pairwise
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.compute as pc
from pyarrow import parquet
from rich.console import Console
from rich.table import Table

from jobs.errors import SettingsError
from jobs.intake.index import FAR_AWAY, OUTLIER, Log, LogFile, apart, take_here
from jobs.own_log.draft import shown_path
from jobs.own_log.progress import bar
from jobs.settings import Settings, ValidationSettings
from jobs.sources import open_source
from jobs.sources.base import SourceSettings
from jobs.sources.file_log import FileLog
from jobs.terminal import plain

SHOWN_FILES = 40
SHOWN_DAYS = 5
SHOWN_COPIES = 5
SHOWN_PAUSES = 3
RUN_DAYS = 7


@dataclass(frozen=True)
class Example:
    """The first line that is put aside for a reason."""

    line: int
    text: str


@dataclass
class FileReport:
    """What becomes of a file. aside: reason -> rows; far: day -> rows far away from all others.

    skipped: lines that are headers, comments or blank.
    """

    file: str
    rows: int
    lines: int
    skipped: int = 0
    days: dict[str, int] = field(default_factory=dict)
    aside: dict[str, int] = field(default_factory=dict)
    examples: dict[str, Example] = field(default_factory=dict)
    far: dict[str, int] = field(default_factory=dict)
    trouble: str = ""

    @property
    def landed(self) -> int:
        """Rows that are for `validate` to judge."""
        return 0 if self.trouble else sum(self.days.values()) - sum(self.aside.values())

    def closes(self) -> bool:
        """Is every row landed or put aside?"""
        return bool(self.trouble) or self.rows == self.landed + sum(self.aside.values())

    def as_json(self) -> dict[str, Any]:
        examples = {reason: vars(example) for reason, example in self.examples.items()}
        return vars(self) | {"landed": self.landed, "examples": examples}


@dataclass
class Report:
    """All files of a log. days: with their rows; quiet: those that `validate` would refuse for
    having too few. Rows that are late or far away in time are in neither. copies: files with the
    same content. unmatched: patterns of source.kinds that fit no file.
    """

    files: list[FileReport]
    days: dict[date, int]
    quiet: list[date]
    copies: list[list[str]]
    unmatched: list[str]

    @property
    def pauses(self) -> list[tuple[date, date]]:
        """The days before and after every long time without rows."""
        groups = apart(self.days, FAR_AWAY)
        return [(before[-1], after[0]) for before, after in pairwise(groups)]

    @property
    def ok(self) -> bool:
        return not any(file.trouble for file in self.files) and self.closes()

    def closes(self) -> bool:
        return all(file.closes() for file in self.files)

    def as_json(self) -> dict[str, Any]:
        return {
            "first": str(min(self.days, default="")),
            "last": str(max(self.days, default="")),
            "rows": sum(file.rows for file in self.files),
            "landed": sum(file.landed for file in self.files),
            "put_aside": sum(sum(file.aside.values()) for file in self.files if not file.trouble),
            "skipped": sum(file.skipped for file in self.files),
            "unreadable": sum(file.rows for file in self.files if file.trouble),
            "closes": self.closes(),
            "quiet_days": [str(day) for day in self.quiet],
            "pauses": [[str(before), str(after)] for before, after in self.pauses],
            "copies": self.copies,
            "unmatched_kinds": self.unmatched,
            "files": [file.as_json() for file in self.files],
        }


def check(settings: Settings, console: Console) -> Report:
    """Read all files of the log, as far as they are not known. Nothing is landed."""
    source = open_source(settings)
    if not isinstance(source, FileLog):
        raise SettingsError(
            f"source.kind = '{settings.source.kind}' has no log files that can be checked; "
            "`evergreen check` is for kinds such as 'table' and 'edgelist'."
        )
    with bar(source.log_files(), console) as progress:
        log = source.read(partial(take_here, progress=progress))
    files = [report_of(source.name_of(file), log, file) for file in log.files]
    days = days_of(log)
    quiet = quiet_days(days, landed_by_day(log), settings.validation)
    unmatched = unmatched_kinds(settings.source, [file.path for file in log.files])
    return Report(files, days, quiet, copies_in(log, source.name_of), unmatched)


def unmatched_kinds(source: SourceSettings, files: list[Path]) -> list[str]:
    """The patterns of source.kinds that fit the name of no file."""
    names = [file.name for file in files]
    patterns = getattr(source, "kinds", {})
    return [
        pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)
    ]


def copies_in(log: Log, name_of: Callable[[LogFile], str]) -> list[list[str]]:
    """The names of files that have rows and the same content, a list for each content."""
    by_content: dict[str, list[str]] = {}
    for file in log.readable:
        if file.account.rows:
            by_content.setdefault(file.account.digest, []).append(name_of(file))
    return [names for names in by_content.values() if len(names) > 1]


def report_of(name: str, log: Log, file: LogFile) -> FileReport:
    account = file.account
    report = FileReport(name, account.rows, account.lines, account.skipped, trouble=account.trouble)
    if account.trouble:
        return report
    report.days = dict(account.days)
    report.aside = dict(sorted(account.faults.items(), key=lambda fault: -fault[1]))
    for reason, (line, text) in account.examples.items():
        report.examples[reason] = Example(line, text)
    for day, reason in log.all_strays(file).items():
        add_strays(report, file, day, reason)
    return report


def add_strays(report: FileReport, file: LogFile, day: date, reason: str) -> None:
    """The rows of a day that is put aside, unless they are for another reason."""
    if reason == OUTLIER:
        report.far[str(day)] = file.days[day]
    rows = parquet.read_table(file.rows_of(day), columns=["fault", "source_line"])
    rows = rows.filter(rows["fault"].is_null())
    if not len(rows):
        return
    report.aside[reason] = report.aside.get(reason, 0) + len(rows)
    line = pc.min(rows["source_line"]).as_py()
    if reason not in report.examples:
        report.examples[reason] = Example(line, f"a time of {day}")


def days_of(log: Log) -> dict[date, int]:
    """The rows of each day, without those that are late or far away in time."""
    rows: Counter[date] = Counter()
    for file in log.readable:
        aside = log.all_strays(file)
        rows.update({day: count for day, count in file.days.items() if day not in aside})
    return dict(sorted(rows.items()))


def landed_by_day(log: Log) -> dict[date, int]:
    """The rows that `land` will have of each day: its own, and those put aside with it."""
    rows = Counter(days_of(log))
    for file in log.readable:
        aside = log.all_strays(file)
        if aside and log.body:
            judged_with = min(file.days.keys() - aside, default=log.body[0])
            rows[judged_with] += sum(file.days[day] for day in aside)
    return dict(sorted(rows.items()))


def quiet_days(
    own: dict[date, int], landed: dict[date, int], limits: ValidationSettings
) -> list[date]:
    """The days with too few rows beside those before them, as `validate` will find.

    own: rows of each day; landed: with those put aside with it, in order. Usual is what the last
    `median_days` days of the calendar had, those that were refused included; a day without rows
    shows nothing.
    """
    days, counts = list(landed), list(landed.values())
    quiet = []
    for place, day in enumerate(days):
        start = bisect_left(days, day - timedelta(days=limits.median_days))
        before = counts[start:place]
        enough = len(before) >= limits.median_min_days
        if enough and own.get(day, 0) < ceil(limits.min_rows_share * median(before)):
            quiet.append(day)
    return quiet


# --- what is shown


def show(report: Report, settings: Settings, screen: Console) -> None:
    screen.print(files_table(report.files))
    for file in report.files:
        if file.trouble:
            screen.print(f"[red]✗ {plain(file.trouble)}[/]", soft_wrap=True)
    if reasons := reasons_table(report.files):
        screen.print(reasons)
    screen.print(totals_of(report))
    show_copies(report.copies, screen)
    for pattern in report.unmatched:
        screen.print(
            f"[yellow]! source.kinds has '{plain(pattern)}', which fits no file's name.[/]",
            soft_wrap=True,
        )
    if report.quiet:
        shown = ", ".join(map(str, report.quiet[:SHOWN_DAYS]))
        more = " …" if len(report.quiet) > SHOWN_DAYS else ""
        screen.print(
            f"[yellow]! {len(report.quiet)} days have fewer rows than "
            f"{settings.validation.min_rows_share:g} times the median of the days before, and "
            f"`validate` will refuse them: {shown}{more}. Where quiet days are normal, set "
            "validation.min_rows_share = 0.[/]",
            soft_wrap=True,
        )
    if report.days:
        show_pauses(report, screen)
        screen.print(days_in_words(report.days))
        screen.print("Nothing was landed. `validate` judges values, labels, ids and repeats. Next:")
        newest = apart(report.days, FAR_AWAY)[-1]
        screen.print(plain(next_command(newest)), soft_wrap=True)


def show_pauses(report: Report, screen: Console) -> None:
    for before, after in report.pauses[:SHOWN_PAUSES]:
        names = [file.file for file in report.files if str(after) in file.days]
        screen.print(
            f"[yellow]! There are no rows between {before} and {after}. Are the times of "
            f"{plain(names[0])} right?[/]",
            soft_wrap=True,
        )
    if len(report.pauses) > SHOWN_PAUSES:
        more = len(report.pauses) - SHOWN_PAUSES
        screen.print(f"[yellow]! There are {more:,} more such times (--json).[/]")


def show_copies(copies: list[list[str]], screen: Console) -> None:
    for names in copies[:SHOWN_COPIES]:
        shown = ", ".join(names[:SHOWN_COPIES]) + (", …" if len(names) > SHOWN_COPIES else "")
        screen.print(
            f"[yellow]! These files have the same content, so their rows count more than once: "
            f"{plain(shown)}. Keep one of them.[/]",
            soft_wrap=True,
        )
    if len(copies) > SHOWN_COPIES:
        more = len(copies) - SHOWN_COPIES
        screen.print(f"[yellow]! {more:,} other contents are in several files too (--json).[/]")


def days_in_words(days: dict[date, int]) -> str:
    first, last, rows = min(days), max(days), sorted(days.values())
    return (
        f"{len(days):,} days from {first} to {last}, with {rows[0]:,} to {rows[-1]:,} rows, "
        f"in the median {median(rows):,.0f}"
    )


def next_command(days: list[date]) -> str:
    """The command that computes the newest days: of a log of years, all would take a night."""
    path = os.environ.get("EVERGREEN_SETTINGS", "")
    named = f" --settings {shown_path(Path(path), Path('here'))}" if path else ""
    return f"  evergreen{named} run --from {days[-RUN_DAYS:][0]} --to {days[-1]}"


def totals_of(report: Report) -> str:
    """The closing account, in one line."""
    totals = report.as_json()
    parts = f"{totals['landed']:,} to land + {totals['put_aside']:,} put aside"
    if totals["unreadable"]:
        parts += f" + {totals['unreadable']:,} of files with trouble"
    wrong = "" if report.closes() else "  [red]This does not add up.[/]"
    lines = totals["skipped"]
    skipped = f"; {lines:,} lines are headers, comments or blank"
    if lines == 1:
        skipped = "; 1 line is a header, a comment or blank"
    return f"{totals['rows']:,} rows read = {parts}{wrong}{skipped if lines else ''}"


def files_table(files: list[FileReport]) -> Table:
    table = Table(header_style="bold", box=None)
    table.add_column("file")
    for name in ("rows", "to land", "put aside", "days"):
        table.add_column(name, justify="right")
    table.add_column("from")
    table.add_column("to")
    shown = sorted(files, key=lambda file: not (file.trouble or file.aside))[:SHOWN_FILES]
    for file in shown:
        days = sorted(set(file.days) - set(file.far))
        aside = "[red]trouble[/]" if file.trouble else f"{sum(file.aside.values()):,}"
        ends = (days[0], days[-1]) if days else ("", "")
        counts = (f"{file.rows:,}", f"{file.landed:,}", aside, f"{len(days):,}")
        table.add_row(plain(file.file), *counts, *ends)
    if len(files) > len(shown):
        table.add_row(f"and {len(files) - len(shown):,} files of which every row is landed")
    return table


def reasons_table(files: list[FileReport]) -> Table | None:
    """Every reason, with the first example of all files."""
    table = Table("put aside", "rows", "first in", "line", "text", header_style="bold", box=None)
    readable = [file for file in files if not file.trouble]
    totals: Counter[str] = Counter()
    for file in readable:
        totals.update(file.aside)
    for reason, rows in totals.most_common():
        first = next(file for file in readable if reason in file.examples)
        example = first.examples[reason]
        table.add_row(
            reason, f"{rows:,}", plain(first.file), f"{example.line:,}", plain(example.text)
        )
    return table if totals else None
