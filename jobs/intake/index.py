"""What is known of the files of a log: read once, and again only when a file has changed.

    <home>/intake/index.json            file -> its signature, how it was read, its account
    <home>/intake/<digest>-<wanted>/    see `jobs.intake.taken`

Everything that asks for a day of the log, or for its first and last one, asks here, so no two
parsers can disagree about a row.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import median

from embeddings.durable import locked, replace_text
from jobs.errors import BadInput
from jobs.intake.reading import Wanted
from jobs.intake.taken import (
    ACCOUNT,
    ENOUGH_ROWS,
    PROGRESS,
    Account,
    digest_of,
    folder_of,
    is_whole,
    now_of,
    take,
)
from jobs.machine import usable_cpus

INDEX = "index.json"
# Rows so many days away from all others, fewer than a usual day has, and a small share of the log,
# have a wrong time: a clock that was reset or is ahead.
FAR_AWAY = timedelta(days=30)
FEW = 0.1
# Whatever their number, rows of other times, years away from all others, have none: what is empty
# became 0 or the last date that a database knows.
LIKELY = (date(1990, 1, 1), date(2100, 1, 1))
YEARS_AWAY = timedelta(days=3653)
OUTLIER = "time_outlier"  # the fault of such rows
LATE = "late"  # and of those that come too late
DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?([01]\d)[-_]?([0-3]\d)(?!\d)")

LOGGED_EVERY_S = 5.0
log = logging.getLogger(__name__)

Taker = Callable[[list[tuple[Path, Wanted]], Path], list[Account]]


@dataclass(frozen=True)
class LogFile:
    """A file of the log as it was read. folder: where its rows are. signature: before that."""

    path: Path
    account: Account
    folder: Path
    signature: list[int]

    @property
    def is_as_read(self) -> bool:
        """Is the file what it was, and are its rows there?"""
        return now_of(self.path) == self.signature and is_whole(self.folder, self.account)

    @property
    def days(self) -> dict[date, int]:
        """Rows of each day."""
        return {date.fromisoformat(day): rows for day, rows in self.account.days.items()}

    def rows_of(self, day: date) -> list[Path]:
        """The files with the rows of a day, in their order."""
        names = [name for name in self.account.bytes if name.startswith(f"{day}.")]
        return [self.folder / "days" / name for name in names]


@dataclass(frozen=True)
class Log:
    """All files of a log. body: the first and the last day, without rows far away; None: no rows.

    late_days: rows that are more days older than the newest of their file are put aside.
    """

    files: list[LogFile]
    body: tuple[date, date] | None
    late_days: int | None = None

    @classmethod
    def of(cls, files: list[LogFile], late_days: int | None = None) -> Log:
        return cls(files, body_of([file.days for file in files]), late_days)

    @property
    def readable(self) -> list[LogFile]:
        return [file for file in self.files if not file.account.trouble]

    @property
    def troubles(self) -> list[LogFile]:
        return [file for file in self.files if file.account.trouble]

    def of_day(self, day: date) -> list[LogFile]:
        """The readable files with rows of a day, strays that are judged with it included."""
        return [
            file
            for file in self.readable
            if (day in file.days and day not in self.all_strays(file)) or self.strays(file, day)
        ]

    def strays(self, file: LogFile, day: date) -> dict[date, str]:
        """The days of a file that are put aside, and why, if this is the day to judge them with."""
        found = self.all_strays(file)
        if not found or self.body is None:
            return {}
        return found if day == min(file.days.keys() - found, default=self.body[0]) else {}

    def all_strays(self, file: LogFile) -> dict[date, str]:
        """The days of a file that are put aside, and why."""
        if self.body is None:
            return {}
        first, last = self.body
        inside = [day for day in file.days if first <= day <= last]
        earliest = first
        if self.late_days is not None and inside:
            earliest = max(first, max(inside) - timedelta(days=self.late_days))
        strays = {}
        for day in sorted(file.days):
            if not first <= day <= last:
                strays[day] = OUTLIER
            elif day < earliest:
                strays[day] = LATE
        return strays

    def rows_of(self, day: date) -> int:
        """How many rows belong to a day, those included that are put aside with it."""
        rows = 0
        for file in self.of_day(day):
            found = self.strays(file, day)
            if day not in self.all_strays(file):
                rows += file.days.get(day, 0)
            rows += sum(file.days[stray] for stray in found)
        return rows

    def stopped(self, day: date) -> list[LogFile]:
        """The files that cannot be read and may hold rows of this day."""
        return [file for file in self.troubles if self._may_hold(file, day)]

    def _may_hold(self, file: LogFile, day: date) -> bool:
        """Any day, where nothing is known of the file; else those in its name, and those that were
        read of it. A file that was cut, and whose rows are in the order of time, may go on.
        """
        account = file.account
        seen = set(file.days) | days_in_name(file.path)
        if not seen:
            if self.body is None or not 0 < account.rows < ENOUGH_ROWS:
                return True
            return day >= self.body[1]  # a file that has only begun
        if account.complete or day in seen or days_in_name(file.path):
            return day in seen
        if not account.rises and not account.falls:
            return not self._has_a_file_per_day() and day > min(seen)
        if account.rises and account.falls:
            return True
        return day > min(seen) if account.rises else day < max(seen)

    def _has_a_file_per_day(self) -> bool:
        return all(len(file.days) <= 1 for file in self.readable)


def days_in_name(path: Path) -> set[date]:
    """The days that the name of a file speaks of, such as clicks-2024-03-01.csv."""
    days = set()
    for year, month, day in DATE.findall(path.name):
        try:
            days.add(date(int(year), int(month), int(day)))
        except ValueError:
            continue
    return days


def body_of(files: Sequence[Mapping[date, int]]) -> tuple[date, date] | None:
    """The first and the last day with rows, apart from rows far away from all others.

    files: the rows of each day of each file; how they are spread over files does not matter. None
    where there are no rows.
    """
    rows: Counter[date] = Counter()
    for days in files:
        rows.update(days)
    if not rows:
        return None
    eras = apart(rows, YEARS_AWAY)
    likely = [era for era in eras if era[-1] >= LIKELY[0] and era[0] < LIKELY[1]]
    groups = apart([day for era in likely or eras for day in era], FAR_AWAY)
    counts = [sum(rows[day] for day in group) for group in groups]
    largest = groups[counts.index(max(counts))]
    usual = median(rows[day] for day in largest)
    large = [place for place, count in enumerate(counts) if count >= max(usual, 2)]
    strays = sum(counts) - sum(counts[place] for place in large)
    if large and strays <= max(1, FEW * sum(counts)):
        groups = [groups[place] for place in large]
    return groups[0][0], groups[-1][-1]


def apart(days: Iterable[date], gap: timedelta) -> list[list[date]]:
    """The days in order, in groups with more than `gap` between one and the next."""
    groups: list[list[date]] = []
    for day in sorted(days):
        if groups and day - groups[-1][-1] <= gap:
            groups[-1].append(day)
        else:
            groups.append([day])
    return groups


class Logged:
    """Logs how far each file has been read, every few seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, file: Path, lines: int) -> None:
        now = time.monotonic()
        if now - self._last > LOGGED_EVERY_S:
            self._last = now
            log.info("Reading %s: %s lines so far.", file, f"{lines:,}")


def take_here(
    files: list[tuple[Path, Wanted]], root: Path, progress: PROGRESS | None = None
) -> list[Account]:
    """Read files in this process, as many at a time as there are CPUs."""
    progress = progress or Logged()
    if len(files) == 1:
        file, wanted = files[0]
        return [take(file, wanted, root, progress)]
    with ThreadPoolExecutor(usable_cpus()) as pool:
        return list(pool.map(lambda file: take(file[0], file[1], root, progress), files))


def read_log(
    wanted: Mapping[Path, Wanted],
    root: Path,
    taker: Taker = take_here,
    late_days: int | None = None,
) -> Log:
    """What is known of these files; those that are new or have changed are read first.

    wanted: each file of the log, and what to read of it. root: the folder that keeps their rows.
    Raises BadInput where it cannot be written and a file has to be read.
    """
    # Before they are read: a file that is written to meanwhile is read again.
    signatures = {file: now_of(file) for file in wanted}
    found, unknown = looked_up(wanted, signatures, root)
    if unknown:
        try:
            found = read_unknown(wanted, signatures, root, taker)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise BadInput(
                f"{unknown[0]} is new or has changed, and what is read of it cannot be kept: "
                f"{error}. Read it as a user who may write {root}."
            ) from error
    files = []
    for file in wanted:
        account = found[file]
        folder = folder_of(root, account.digest, wanted[file])
        files.append(LogFile(file, account, folder, signatures[file]))
    return Log.of(files, late_days)


def recalled(wanted: Mapping[Path, Wanted], root: Path, late_days: int | None = None) -> Log:
    """What was read of these files when they were read last; nothing is read now.

    Without the files that are new; one that has changed since is as it was.
    """
    entries = remembered(root)
    files = []
    for file, want in wanted.items():
        if entry := entries.get(key_of(file, want)):
            account = Account(**entry["account"])
            folder = folder_of(root, account.digest, want)
            files.append(LogFile(file, account, folder, entry["signature"]))
    return Log.of(files, late_days)


def read_unknown(
    wanted: Mapping[Path, Wanted],
    signatures: Mapping[Path, list[int]],
    root: Path,
    taker: Taker,
) -> dict[Path, Account]:
    """Read the files that are not known, one process at a time: others find what it has read."""
    with locked(root / "lock"):
        found, unknown = looked_up(wanted, signatures, root)
        moved = {
            file: account for file in unknown if (account := known_content(file, wanted, root))
        }
        found |= moved
        to_read = [file for file in unknown if file not in moved]
        accounts = taker([(file, wanted[file]) for file in to_read], root)
        found |= dict(zip(to_read, accounts, strict=True))
        entries = {}
        for key, entry in remembered(root).items():
            if Path(entry["file"]).exists():
                entries[key] = entry
        for file in unknown:
            entries[key_of(file, wanted[file])] = {
                "file": str(file),
                "signature": signatures[file],
                "account": asdict(found[file]),
            }
        replace_text(root / INDEX, json.dumps(entries))
        return found


def looked_up(
    wanted: Mapping[Path, Wanted], signatures: Mapping[Path, list[int]], root: Path
) -> tuple[dict[Path, Account], list[Path]]:
    """The accounts of the files that have not changed, and the other files."""
    entries = remembered(root)
    there = {folder.name for folder in os.scandir(root)} if root.exists() else set()
    found: dict[Path, Account] = {}
    unknown: list[Path] = []
    for file, want in wanted.items():
        entry = entries.get(key_of(file, want), {})
        if entry.get("signature") == signatures[file]:
            account = Account(**entry["account"])
            if folder_of(root, account.digest, want).name in there:
                found[file] = account
                continue
        unknown.append(file)
    return found, unknown


def known_content(file: Path, wanted: Mapping[Path, Wanted], root: Path) -> Account | None:
    """The account of a file that has another name or place now, or None."""
    want = wanted[file]
    size = now_of(file)[0]
    for key, entry in remembered(root).items():
        digest = entry["account"]["digest"]
        if entry["signature"][0] != size or not key.startswith(want.digest()):
            continue
        if not entry["account"]["trouble"] and digest == digest_of(file):
            account = Account(**entry["account"])
            return account if is_whole(folder_of(root, digest, want), account) else None
    return None


def key_of(file: Path, wanted: Wanted) -> str:
    return f"{wanted.digest()} {file}"


def remembered(root: Path) -> dict[str, dict]:
    """The index. Where it cannot be read, nothing is known."""
    try:
        return json.loads((root / INDEX).read_text())
    except (OSError, ValueError):
        return {}


def unused(root: Path, used: set[Path]) -> list[Path]:
    """The folders below `root` with rows of files that are not among those in use."""
    return sorted({account.parent for account in root.glob(f"*/{ACCOUNT}")} - used)
