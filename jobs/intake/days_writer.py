"""Writing the rows of a file by day: one Parquet file a day, or several where days are many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from jobs.intake.reading import NO_DAY, Rows
from jobs.intake.times import date_of

BUFFERED = 1 << 25  # bytes of rows that are kept in memory before they are written
MOST_OPEN = 128  # files; a process may have a thousand


class DaysWriter:
    """Writes rows to <folder>/<day>.<part>.parquet, in the order in which they come.

    counts: rows of each day. Rows without a day are not written.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder = folder
        self.schema = schema
        self.counts: dict[str, int] = {}
        self._buffers: dict[int, list[pa.Table]] = {}
        self._open: dict[int, parquet.ParquetWriter] = {}  # the one last written to at the end
        self._parts: dict[int, int] = {}
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
            if day == NO_DAY:
                continue
            self._buffers.setdefault(day, []).append(table.slice(start, end - start))
            name = str(date_of(day))
            self.counts[name] = self.counts.get(name, 0) + end - start
        self._buffered += table.nbytes
        if self._buffered > BUFFERED:
            self._flush()

    def _flush(self) -> None:
        for day, tables in self._buffers.items():
            writer = self._open.pop(day, None) or self._next_part(day)
            self._open[day] = writer
            writer.write_table(pa.concat_tables(tables).combine_chunks())
        self._buffers.clear()
        self._buffered = 0

    def _next_part(self, day: int) -> parquet.ParquetWriter:
        if len(self._open) >= MOST_OPEN:
            self._open.pop(next(iter(self._open))).close()
        part = self._parts.get(day, 0)
        self._parts[day] = part + 1
        return parquet.ParquetWriter(self.folder / f"{date_of(day)}.{part}.parquet", self.schema)

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self._flush()
        for writer in self._open.values():
            writer.close()


def sizes(folder: Path) -> dict[str, int]:
    """Name of each file -> its bytes, in the order of days and parts."""
    found = {file.name: file.stat().st_size for file in folder.glob("*.parquet")}
    return {name: found[name] for name in sorted(found, key=day_and_part)}


def day_and_part(name: str) -> tuple[str, int]:
    day, part, _ = name.split(".")
    return day, int(part)
