"""One file of a log, read once: its rows by day in Parquet, and an account of every line.

    <digest of the file>-<what is wanted>/
        days/2024-03-01.0.parquet   the rows of a day, in the order of the file
        account.json                what became of every line; written last

The name says what the file held and how it was read, so the same file under another name, or in
another place, is not read again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from embeddings.durable import place, signature, sweep
from jobs.errors import BadInput
from jobs.intake.days_writer import DaysWriter, sizes
from jobs.intake.look import other_format
from jobs.intake.misread import clock_apart, misread
from jobs.intake.reading import (
    NO_DAY,
    TIME_UNREADABLE,
    Rows,
    Wanted,
    is_parquet,
    parquet_pieces,
    rows_of,
    text_pieces,
)
from jobs.intake.streams import DAMAGE, DigestedFile, opened
from jobs.intake.times import date_of

# With more lines that cannot be read, the settings describe another file; of a few lines, one or
# two may be half written.
MOST_FAULTS = 0.5
ENOUGH_ROWS = 20
MOST_WITHOUT_DAY = 500_000  # rows; they are kept in memory until one with a day comes
# Of an OSError: the file's own trouble, whereas a machine may have no descriptor or memory left.
FAULT_OF_FILE = (errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT, errno.EISDIR, errno.ELOOP)
MISREAD_BEFORE = "1970-02-15"  # as seconds read as milliseconds are, and weights read as seconds
SHOWN = 200  # characters of a line in messages
ACCOUNT = "account.json"
PROGRESS = Callable[[Path, int], None]  # a file, and how many of its lines have been read


@dataclass
class Account:
    """What became of every line of a file.

    days: date -> rows, those of the quarantine included; bytes: date -> size of the file with them.
    rows: records, or rows of Parquet, in total. skipped: headers, comments, blank lines. faults:
    reason -> rows; examples: reason -> line and text of the first. trouble: why the file cannot be
    read, or not to its end. complete: are these all days that it holds? rises, falls: is a row's
    day ever after, or before, that of the row above it? last: that of the last row.
    """

    digest: str = ""
    rows: int = 0
    lines: int = 0
    skipped: int = 0
    days: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[Any]] = field(default_factory=dict)
    trouble: str = ""
    complete: bool = True
    rises: bool = False
    falls: bool = False
    last: int = NO_DAY

    def count(self, rows: Rows) -> None:
        """Add rows of the file."""
        self.rows += len(rows.day_R)
        self.lines += rows.lines
        self.skipped += rows.skipped
        days = rows.day_R[rows.day_R != NO_DAY]
        if len(days):
            before = self.last if self.last != NO_DAY else days[0]
            steps = np.diff(days, prepend=before)
            self.rises |= bool((steps > 0).any())
            self.falls |= bool((steps < 0).any())
            self.last = int(days[-1])
        column = rows.table["fault"]
        if column.null_count == len(column):
            return
        faulty = rows.table.select(["fault", "source_line", "raw"]).filter(column.is_valid())
        for entry in faulty["fault"].value_counts().to_pylist():
            reason = entry["values"]
            self.faults[reason] = self.faults.get(reason, 0) + entry["counts"]
            if reason not in self.examples:
                first = faulty.filter(pc.equal(faulty["fault"], reason)).slice(0, 1).to_pylist()[0]
                self.examples[reason] = [first["source_line"], (first["raw"] or "")[:SHOWN]]

    def require_closed(self, file: Path) -> None:
        """Every row is in a day. A mismatch is a fault of ours: nothing is landed then."""
        landed = sum(self.days.values())
        if landed != self.rows and not self.trouble:
            raise BadInput(
                f"{file}: {self.rows:,} rows were read and {landed:,} of them have a day. "
                "This is a fault of Evergreen; nothing was landed."
            )


def take(file: Path, wanted: Wanted, root: Path, progress: PROGRESS | None = None) -> Account:
    """Read a file and keep its rows by day below `root`. Returns its account.

    A file that cannot be read is an account with `trouble`, without rows.
    """
    sweep(root / "_staging")
    staging = staged(root)
    try:
        account = read(file, wanted, staging / "days", progress)
        account.require_closed(file)
        account.bytes = {} if account.trouble else sizes(staging / "days")
        if account.trouble:
            shutil.rmtree(staging / "days", ignore_errors=True)
        (staging / ACCOUNT).write_text(json.dumps(asdict(account), indent=1))
        folder = folder_of(root, account.digest, wanted)
        if not is_whole(folder, account):  # what somebody has damaged
            shutil.rmtree(folder, ignore_errors=True)
        place(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return account


def staged(root: Path) -> Path:
    folder = root / "_staging" / uuid.uuid4().hex
    folder.mkdir(parents=True)
    return folder


def folder_of(root: Path, digest: str, wanted: Wanted) -> Path:
    return root / f"{digest[:32]}-{wanted.digest()}"


def long_ago(account: Account) -> bool:
    """Are all times close to 1970, as if something else was read as a time?"""
    return bool(account.days) and max(account.days) < MISREAD_BEFORE


def is_whole(folder: Path, account: Account) -> bool:
    """Are the rows of every day there, all bytes of them?"""
    if not (folder / ACCOUNT).exists():
        return False
    if account.trouble:
        return True
    return sizes(folder / "days") == account.bytes


def read(file: Path, wanted: Wanted, folder: Path, progress: PROGRESS | None) -> Account:
    """The rows of a file by day. What fails here is the fault of the file, or raised."""
    account = Account()
    with DaysWriter(folder, wanted.schema) as days:
        account.days = days.counts  # also of a file that ends too early
        for rows in until_trouble(file, wanted, account):
            days.write(rows)
            account.count(rows)
            if progress:
                progress(file, account.lines)
    if not account.trouble:
        account.trouble = too_many_faults(file, wanted, account) or clock_apart(file, wanted)
    if (account.trouble or long_ago(account)) and not other_format(file):
        # Read as another unit, or from another column, the times may be plausible.
        account.trouble = misread(file, wanted) or account.trouble
    account.digest = account.digest or digest_of(file)
    return account


def digest_of(file: Path) -> str:
    """The digest of a file's bytes; of a file that may not be read, of what is known of it."""
    try:
        with DigestedFile(file) as whole:
            return whole.digest()
    except OSError:
        return hashlib.sha256(json.dumps(now_of(file)).encode()).hexdigest()


def now_of(file: Path) -> list[int]:
    """The signature of a file, or of a link that leads nowhere."""
    try:
        return signature(file)
    except OSError:
        stat = file.lstat()
        return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def until_trouble(file: Path, wanted: Wanted, account: Account) -> Iterator[Rows]:
    """The rows of a file, up to where it cannot be read, which the account then says.

    Raises OSError where the machine is in trouble, and not the file.
    """
    try:
        if other := other_format(file):
            raise BadInput(other)
        yield from placed(all_rows(file, wanted, account))
    except BadInput as error:
        account.trouble = str(error)
        account.days.update(days_alone(file, wanted))
    except UnicodeError as error:
        account.complete = False
        account.trouble = (
            f"{file} cannot be read: {error}. Change the settings in [source], or mend the file."
        )
    except DAMAGE as error:
        account.complete = False
        if isinstance(error, OSError) and error.errno is not None:
            if error.errno not in FAULT_OF_FILE:
                raise
            account.trouble = (
                f"{file} cannot be read: {error.strerror}. Let this user read it, or take it out "
                "of the log."
            )
            return
        account.trouble = (
            f"{file} cannot be read to its end: {error}. "
            "It may be truncated or not in the format that its name claims; fetch it again."
        )


def too_many_faults(file: Path, wanted: Wanted, account: Account) -> str:
    """Why a file is not read that has hardly a row without a fault; empty for any other."""
    faults = sum(account.faults.values())
    if account.rows and not account.days:
        account.complete = account.rows >= ENOUGH_ROWS
        return f"{file}: {worst_fault(account, wanted)}"
    if account.rows >= ENOUGH_ROWS and faults > MOST_FAULTS * account.rows:
        return f"{file}: {worst_fault(account, wanted)}"
    return ""


def days_alone(file: Path, wanted: Wanted) -> dict[str, int]:
    """The days of a file that lacks a column, if it has the one of the times."""
    days: dict[str, int] = {}
    try:
        for rows in all_rows(file, replace(wanted, fields=()), Account()):
            for day in np.unique(rows.day_R[rows.day_R != NO_DAY]).tolist():
                days[str(date_of(day))] = 0
    except (*DAMAGE, BadInput, UnicodeError):
        return days
    return days


def all_rows(file: Path, wanted: Wanted, account: Account) -> Iterator[Rows]:
    if is_parquet(file):
        for piece in parquet_pieces(file, wanted):
            yield rows_of(piece, wanted)
        return
    with opened(file) as (raw, stream):
        for piece in text_pieces(stream, wanted, file):
            yield rows_of(piece, wanted)
        account.digest = raw.digest()


def placed(batches: Iterator[Rows]) -> Iterator[Rows]:
    """Rows without a day get that of the row before them, the first ones that of the row after.

    Files are mostly in the order of time: so a line that cannot be read is judged, and put aside,
    with the day that it most likely belongs to. Of a file without any day, rows keep NO_DAY. Raises
    BadInput where so many rows come without a day that the settings must be wrong.
    """
    waiting: list[Rows] = []
    last = NO_DAY
    for rows in batches:
        known = np.flatnonzero(rows.day_R != NO_DAY)
        if last == NO_DAY and not len(known):
            waiting.append(rows)
            require_some_day(waiting)
            continue
        if last == NO_DAY:
            last = rows.day_R[known[0]]
            for earlier in waiting:
                earlier.day_R[:] = last
                yield earlier
            waiting = []
        # The index of the newest row with a day, at or before each row.
        index = np.full(len(rows.day_R), -1)
        index[known] = known
        index = np.maximum.accumulate(index) if len(index) else index
        rows.day_R[:] = np.where(index < 0, last, rows.day_R[index])
        if len(rows.day_R):
            last = rows.day_R[-1]
        yield rows
    yield from waiting


def require_some_day(waiting: list[Rows]) -> None:
    """Rows without a day are kept in memory: raise BadInput where they are too many."""
    count = sum(len(rows.day_R) for rows in waiting)
    if count > MOST_WITHOUT_DAY:
        first = next(rows.table for rows in waiting if len(rows.day_R)).slice(0, 1).to_pylist()[0]
        raise BadInput(
            f"None of the first {count:,} rows has a time that can be read, such as "
            f"line {first['source_line']}: {(first['raw'] or '')[:SHOWN]!r}. Change the column or "
            "the unit of the time in [source]."
        )


def worst_fault(account: Account, wanted: Wanted) -> str:
    """The most frequent reason, with an example, and how the time is read where it is that."""
    reason, rows = max(account.faults.items(), key=lambda item: item[1])
    line, text = account.examples[reason]
    how = ""
    if reason == TIME_UNREADABLE:
        how = f" Column '{wanted.time}' is read as source.time_unit = '{wanted.unit}'."
    return (
        f"{rows:,} of {account.rows:,} rows cannot be read: {reason}, first in line {line}: "
        f"{text!r}.{how} Change the settings in [source], or mend the file."
    )
