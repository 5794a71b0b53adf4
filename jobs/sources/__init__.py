"""Sources: where a day's rows come from. Adding a data set is adding one file here that answers `Source`."""

from __future__ import annotations

from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Protocol

from pydantic import TypeAdapter

from jobs.settings import Settings, SourceSettings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


class Source(Protocol):
    """A daily log, in the columns of jobs/lake/schema.py; a value that cannot be read is null and fails validation."""

    name: str
    timezone: str  # a day runs from midnight to midnight there
    slack_h: float  # hours by which the log's own day may differ from that

    def span(self) -> tuple[date, date]:
        """First and last day of the log."""
        ...

    def tables(self, day: date) -> tuple[str, ...]:
        """The tables this source has on that day."""
        ...

    def absent(self, table: str) -> frozenset[str]:
        """Columns of a table that this source does not have: null in every row, and not missed by validation."""
        ...

    def table(self, spark: SparkSession, table: str, day: date) -> DataFrame:
        """One table's rows of one day. Raises BadInput, naming the file, when it is not what it claims to be."""
        ...

    def notes(self, day: date) -> dict[str, int | str]:
        """What the adapter did to the day's rows (repeats dropped, …), told once its tables are written."""
        ...


def open_source(settings: Settings) -> Source:
    """The source that the settings name; one object a process, so that what it learned of its files is kept."""
    return _open(settings.source.model_dump_json())


@cache
def _open(source_json: str) -> Source:
    from jobs.sources import edgelist, kuairand, table

    kinds = {"kuairand": kuairand.KuaiRand, "table": table.Table, "edgelist": edgelist.Edgelist}
    source = TypeAdapter(SourceSettings).validate_json(source_json)
    return kinds[source.kind](source)
