"""The texts of a week as a Spark table: conversation, time_ms, text."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from jobs.errors import BadInput, SettingsError
from jobs.intake.times import to_ms
from jobs.settings import Settings
from jobs.settings.words import WordsSettings
from jobs.sources import open_source
from jobs.sources.days import midnight_ms
from jobs.sources.simulated import SimulatedSettings
from jobs.words.weeks import DAY, WEEK, words_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

COLUMNS = ("conversation", "time_ms", "text")
ROWS = "file string, conversation binary, time_ms long, text binary"
# As in Twitter's API: Wed Jan 01 00:00:48 +0000 2014.
TWITTER = re.compile(r"\w{3} (\w{3}) (\d\d) (\d\d:\d\d:\d\d) ([+-]\d{4}) (\d{4})")
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def texts_of_week(spark: SparkSession, settings: Settings, week: date) -> DataFrame:
    """file, and COLUMNS: the texts from Monday to the Sunday `week`, in the log's time zone.

    A line that is no text with a time has no time_ms. Raises BadInput where no file is there.
    """
    zone = open_source(settings).timezone
    bounds = (midnight_ms(week - WEEK + DAY, zone), midnight_ms(week + DAY, zone))
    cfg = words_of(settings)
    if cfg.texts == "simulated":
        return simulated(spark, settings, week)
    files = [str(file) for file in files_of(cfg)]
    lines = spark.read.text(files).selectExpr("_metadata.file_path as file", "value")
    rows = lines.mapInArrow(reader(cfg, zone), ROWS)
    within = f"time_ms is null or (time_ms >= {bounds[0]} and time_ms < {bounds[1]})"
    return as_texts(rows).where(within)


def as_texts(rows: DataFrame) -> DataFrame:
    """Texts that a task declared as bytes, see jobs.features.lookups."""
    texts = ("conversation", "text")
    casts = [f"cast({name} as string) {name}" if name in texts else name for name in COLUMNS]
    return rows.selectExpr("file", *casts)


def files_of(cfg: WordsSettings) -> list[Path]:
    """The files that the settings name, sorted. Raises BadInput where there is none."""
    files = [Path(name) for name in sorted(glob.glob(str(cfg.path), recursive=True))]
    files = [file for file in files if file.is_file()]
    if not files:
        raise BadInput(
            f"words.path is {cfg.path}, and there is no such file. Expected a glob of files with a "
            "JSON object per line."
        )
    return files


# Lines of JSON


def reader(cfg: WordsSettings, zone: str) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """What a worker does: files and their lines in, ROWS out."""

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for batch in batches:
            records = [fields_of(cfg, line) for line in batch.column(1).to_pylist()]
            times = [record[1] for record in records]
            columns = {
                "file": batch.column(0).cast(pa.string()),
                "conversation": pa.array([record[0] for record in records], pa.binary()),
                "time_ms": times_of(times, cfg.time_unit, zone),
                "text": pa.array([record[2] for record in records], pa.binary()),
            }
            yield pa.RecordBatch.from_pydict(columns)

    return run


def fields_of(cfg: WordsSettings, line: str) -> tuple[bytes | None, str | None, bytes | None]:
    """The conversation, the time as text, and the text of a line; None for what it lacks."""
    try:
        record = json.loads(line)
        text, time = record[cfg.text], record[cfg.time]
    except (ValueError, LookupError, TypeError):
        return None, None, None
    if not isinstance(text, str) or not isinstance(time, str | int | float):
        return None, None, None
    conversation = record.get(cfg.conversation) if cfg.conversation else None
    # Exports write an empty one where a text stands alone.
    named = None if conversation in (None, "") else str(conversation).encode("utf-8", "replace")
    return named, spelt_time(str(time)), text.encode("utf-8", "replace")


def spelt_time(time: str) -> str:
    """A time of Twitter's API as ISO 8601; any other as it is."""
    found = TWITTER.fullmatch(time)
    if not found or found[1] not in MONTHS:
        return time
    month, day, clock, zone, year = found.groups()
    return f"{year}-{MONTHS.index(month) + 1:02d}-{day}T{clock}{zone}"


def times_of(times: list[str | None], unit: str, zone: str) -> Any:
    """Milliseconds since 1970, null for what is no time."""
    import pyarrow as pa

    return to_ms(pa.array(times, pa.string()), unit, zone)


# The simulated world


def simulated(spark: SparkSession, settings: Settings, week: date) -> DataFrame:
    """The texts of the week's days that the simulated log has; each is a conversation by itself."""
    source = simulated_source(settings)
    first, last = source.first_day, source.last_day
    days = [week - n * DAY for n in range(6, -1, -1)]
    numbers = [(day - first).days for day in days if first <= day <= last]
    world, midnight = source.world(), midnight_ms(first, "UTC")

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        from jobs.words.world import written

        for batch in batches:
            for at in batch.column(0).to_pylist():
                lines = written(world, numbers[at])
                start = midnight + numbers[at] * 86_400_000
                names = [f"{numbers[at]}/{row}".encode() for row in range(len(lines))]
                columns = {
                    "file": pa.nulls(len(lines), pa.string()),
                    "conversation": pa.array(names, pa.binary()),
                    "time_ms": pa.array(range(start, start + len(lines)), pa.int64()),
                    "text": pa.array([line.encode() for line in lines], pa.binary()),
                }
                yield pa.RecordBatch.from_pydict(columns)

    return as_texts(spark.range(len(numbers)).mapInArrow(run, ROWS))


def simulated_source(settings: Settings) -> SimulatedSettings:
    """The world of `[source]`. Raises SettingsError where the log is another one."""
    if not isinstance(settings.source, SimulatedSettings):
        raise SettingsError(
            f'words.texts is "simulated", and source.kind is "{settings.source.kind}": the texts '
            'are those of a simulated log. Set source.kind = "simulated", or words.texts = "jsonl".'
        )
    return settings.source


def local_path(address: str) -> Path:
    """The path of a file as Spark names it, such as file:///tweets/a%20b.jsonl."""
    return Path(unquote(urlsplit(address).path))
