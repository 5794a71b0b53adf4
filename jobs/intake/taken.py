"""One file of a log, read once: its rows by day in Parquet, and an account of every line.

    <digest of the file>-<what is wanted>/
        days/2024-03-01.parquet     the rows of a day, in the order of the file
        account.json                what became of every line; written last

The name says what the file held and how it was read, so the same file under another name, or in
another place, is not read again.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from embeddings.durable import place, sweep
from jobs.errors import BadInput
from jobs.intake.look import misread
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

BUFFERED = 1 << 26  # bytes of rows that are kept in memory before they are written
# With more lines that cannot be read, the settings describe another file.
MOST_FAULTS = 0.5
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
    read, or not to its end; its days are those of what was read.
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
        account.bytes = sizes(staging / "days")
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


def sizes(folder: Path) -> dict[str, int]:
    """Day -> bytes of its file."""
    return {file.stem: file.stat().st_size for file in sorted(folder.glob("*.parquet"))}


def read(file: Path, wanted: Wanted, folder: Path, progress: PROGRESS | None) -> Account:
    """The rows of a file into one Parquet file a day."""
    account = Account()
    try:
        with DaysWriter(folder, wanted.schema) as days:
            account.days = days.counts  # also of a file that ends too early
            for rows in placed(all_rows(file, wanted, account)):
                days.write(rows)
                account.rows += len(rows.day_R)
                account.lines += rows.lines
                account.skipped += rows.skipped
                count_faults(account, rows)
                if progress:
                    progress(file, account.lines)
        if account.rows and sum(account.faults.values()) > MOST_FAULTS * account.rows:
            account.trouble = f"{file}: {worst_fault(account, wanted)}"
        if account.trouble or long_ago(account):
            # Read as another unit, or from another column, the times may be plausible.
            account.trouble = misread(file, wanted) or account.trouble
    except BadInput as error:
        account.trouble = str(error)
        account.days = days_alone(file, wanted)
    except (*DAMAGE, UnicodeError) as error:
        account.trouble = (
            f"{file} cannot be read to its end: {error}. "
            "It may be truncated or not in the format that its name claims; fetch it again."
        )
    if not account.digest:
        with DigestedFile(file) as whole:
            account.digest = whole.digest()
    return account


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
    with the day that it most likely belongs to. Rows of a file without any day are not returned.
    """
    waiting: list[Rows] = []
    last = NO_DAY
    for rows in batches:
        known = np.flatnonzero(rows.day_R != NO_DAY)
        if last == NO_DAY and not len(known):
            waiting.append(rows)
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
    for rows in waiting:
        yield rows


def count_faults(account: Account, rows: Rows) -> None:
    column = rows.table["fault"]
    if column.null_count == len(column):
        return
    faulty = rows.table.select(["fault", "source_line", "raw"]).filter(column.is_valid())
    for entry in faulty["fault"].value_counts().to_pylist():
        reason = entry["values"]
        account.faults[reason] = account.faults.get(reason, 0) + entry["counts"]
        if reason not in account.examples:
            first = faulty.filter(pc.equal(faulty["fault"], reason)).slice(0, 1).to_pylist()[0]
            account.examples[reason] = [first["source_line"], (first["raw"] or "")[:SHOWN]]


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


class DaysWriter:
    """Writes rows to one Parquet file a day, in the order in which they come."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder = folder
        self.schema = schema
        self.counts: dict[str, int] = {}
        self._buffers: dict[int, list[pa.Table]] = {}
        self._writers: dict[int, parquet.ParquetWriter] = {}
        self._buffered = 0

    def __enter__(self) -> DaysWriter:
        self.folder.mkdir(parents=True)
        return self

    def write(self, rows: Rows) -> None:
        if not len(rows.day_R):
            return
        order = np.argsort(rows.day_R, kind="stable")
        days, starts = np.unique(rows.day_R[order], return_index=True)
        table = rows.table if len(days) == 1 else rows.table.take(pa.array(order))
        ends = [*starts.tolist()[1:], len(order)]
        for day, start, end in zip(days.tolist(), starts.tolist(), ends, strict=True):
            if day == NO_DAY:  # a file of which no line has a day
                continue
            self._buffers.setdefault(day, []).append(table.slice(start, end - start))
            name = str(date_of(day))
            self.counts[name] = self.counts.get(name, 0) + end - start
        self._buffered += table.nbytes
        if self._buffered > BUFFERED:
            self._flush()

    def _flush(self) -> None:
        for day, tables in self._buffers.items():
            if day not in self._writers:
                file = self.folder / f"{date_of(day)}.parquet"
                self._writers[day] = parquet.ParquetWriter(file, self.schema)
            self._writers[day].write_table(pa.concat_tables(tables).combine_chunks())
        self._buffers.clear()
        self._buffered = 0

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self._flush()
        for writer in self._writers.values():
            writer.close()
