"""What is known of the files of a log: read once, and again only when a file has changed.

    <home>/intake/index.json            file -> its signature, how it was read, its account
    <home>/intake/<digest>-<wanted>/    see `jobs.intake.taken`

Everything that asks for a day of the log, or for its first and last one, asks here, so no two
parsers can disagree about a row.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from statistics import median

from embeddings.durable import locked, replace_text, signature
from jobs.errors import BadInput
from jobs.intake.reading import Wanted
from jobs.intake.taken import ACCOUNT, PROGRESS, Account, folder_of, is_whole, take
from jobs.machine import usable_cpus

INDEX = "index.json"
# Rows on their own, so many days away from all others, and so few compared with a usual day, have a
# wrong time: a clock that was reset, or an empty field that became 0.
FAR_AWAY = timedelta(days=30)
FEW = 0.05
OUTLIER = "time_outlier"  # the fault of such rows
LATE = "late"  # and of those that come too late
DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?([01]\d)[-_]?([0-3]\d)(?!\d)")

LOGGED_EVERY_S = 5.0
log = logging.getLogger(__name__)

Taker = Callable[[list[tuple[Path, Wanted]], Path], list[Account]]


@dataclass(frozen=True)
class LogFile:
    """A file of the log as it was read. folder: where its rows are."""

    path: Path
    account: Account
    folder: Path

    @property
    def days(self) -> dict[date, int]:
        """Rows of each day."""
        return {date.fromisoformat(day): rows for day, rows in self.account.days.items()}

    def rows_of(self, day: date) -> Path:
        return self.folder / "days" / f"{day}.parquet"


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
        rows: dict[date, int] = {}
        for file in files:
            for day, count in file.days.items():
                rows[day] = rows.get(day, 0) + count
        return cls(files, body_of(rows), late_days)

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
        """Any day, where nothing is known of the file; else the days in its name, or those from the
        first that could be read to where the next file begins.
        """
        if named := days_in_name(file.path):
            return day in named
        if not file.days:
            return True
        first, last = min(file.days), max(file.days)
        begins = [min(other.days) for other in self.readable if other.days]
        after = min((begin for begin in begins if begin > last), default=date.max)
        return first <= day < after


def days_in_name(path: Path) -> set[date]:
    """The days that the name of a file speaks of, such as clicks-2024-03-01.csv."""
    days = set()
    for year, month, day in DATE.findall(path.name):
        try:
            days.add(date(int(year), int(month), int(day)))
        except ValueError:
            continue
    return days


def body_of(rows: Mapping[date, int]) -> tuple[date, date] | None:
    """The first and the last day with rows, apart from a few rows far away from all others."""
    if not rows:
        return None
    groups: list[list[date]] = []
    for day in sorted(rows):
        if groups and day - groups[-1][-1] <= FAR_AWAY:
            groups[-1].append(day)
        else:
            groups.append([day])
    largest = max(groups, key=lambda group: sum(rows[day] for day in group))
    few = max(1.0, FEW * median(rows[day] for day in largest))
    kept = []
    for group in groups:
        if group is largest or sum(rows[day] for day in group) > few:
            kept += group
    return kept[0], kept[-1]


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
    """
    found, unknown = looked_up(wanted, root)
    if unknown:
        # One process at a time: the others find what it has read.
        with locked(root / "lock"):
            found, unknown = looked_up(wanted, root)
            accounts = taker([(file, wanted[file]) for file in unknown], root)
            entries = {
                name: entry for name, entry in remembered(root).items() if Path(name).exists()
            }
            for file, account in zip(unknown, accounts, strict=True):
                found[file] = account
                entries[str(file)] = entry_of(file, wanted[file], account)
            replace_text(root / INDEX, json.dumps(entries))
    files = []
    for file in wanted:
        account = found[file]
        files.append(LogFile(file, account, folder_of(root, account.digest, wanted[file])))
    return Log.of(files, late_days)


def looked_up(wanted: Mapping[Path, Wanted], root: Path) -> tuple[dict[Path, Account], list[Path]]:
    """The accounts of the files that have not changed, and the other files."""
    entries = remembered(root)
    found: dict[Path, Account] = {}
    unknown: list[Path] = []
    for file, want in wanted.items():
        entry = entries.get(str(file), {})
        if entry.get("signature") != now_of(file) or entry.get("wanted") != want.digest():
            unknown.append(file)
            continue
        account = Account(**entry["account"])
        if is_whole(folder_of(root, account.digest, want), account):
            found[file] = account
        else:
            unknown.append(file)
    return found, unknown


def now_of(file: Path) -> list[int]:
    try:
        return signature(file)
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error}. Mend it, or move it away.") from error


def entry_of(file: Path, wanted: Wanted, account: Account) -> dict[str, object]:
    return {"signature": now_of(file), "wanted": wanted.digest(), "account": asdict(account)}


def remembered(root: Path) -> dict[str, dict]:
    """The index. Where it cannot be read, nothing is known."""
    try:
        return json.loads((root / INDEX).read_text())
    except (OSError, ValueError):
        return {}


def unused(root: Path, used: set[Path]) -> list[Path]:
    """The folders below `root` with rows of files that are not among those in use."""
    return sorted({account.parent for account in root.glob(f"*/{ACCOUNT}")} - used)
