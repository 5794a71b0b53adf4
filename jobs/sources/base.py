"""The seam of the sources: what a data set must provide so that its days can be landed.

A file in this folder that exposes a class named `SOURCE` is a source, and the file's name is its
kind. A new data set is therefore one new file, such as jobs/sources/shop.py:

    class ShopSettings(SourceSettings):
        currency: str = "EUR"

    class Shop:
        Settings = ShopSettings
        ...

    SOURCE = Shop

`kind = "shop"` in the settings file selects it. Settings are loaded in every process, the command
line included, so a source imports pyspark, pandas and pyarrow inside its functions only.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator

from jobs.section import Section

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


class SourceSettings(Section):
    """The [source] table. A source adds its own options in a subclass."""

    shapeless: ClassVar[frozenset[str]] = frozenset({"path"})
    """Options that shape no row of a day, and whose change invalidates no result."""

    kind: str
    """The source: a file of jobs/sources/, such as "table" or "edgelist"."""

    # Not part of the settings digest: a log may move. Its days are recognised by their files.
    path: Path
    """Where the log is stored."""

    # What the settings tell about the log, for `jobs.settings.effects`.

    @property
    def has_impressions(self) -> bool:
        """May the log have impressions, with labels?"""
        return True

    @property
    def has_values(self) -> bool:
        """May an engagement have another value than 1?"""
        return True

    @property
    def known_labels(self) -> frozenset[str] | None:
        """The labels of the impressions; None where the settings do not tell."""
        return None

    @property
    def known_kinds(self) -> frozenset[str] | None:
        """The kinds of the engagements; None where the settings do not tell."""
        return None


def known_timezone(name: str) -> str:
    """Return the name. Raises ValueError when there is no such time zone."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        # ZoneInfo raises ValueError for a name that is no valid path.
        message = "no such time zone; expected a name such as 'UTC' or 'Europe/Paris'"
        raise ValueError(message) from None
    return name


Timezone = Annotated[str, AfterValidator(known_timezone)]


class Source(Protocol):
    """A daily log, in the columns of jobs/lake/schema.py.

    A value that cannot be read is null and fails validation; it is never a wrong value.
    """

    Settings: ClassVar[type[SourceSettings]]

    @property
    def timezone(self) -> str:
        """The time zone of the log: a day runs from midnight to midnight there."""
        ...

    @property
    def slack_h(self) -> float:
        """Hours by which the log's own days may differ from midnight to midnight."""
        ...

    def __init__(self, settings: Any, memory: Path) -> None:
        """settings: an instance of `Settings`. memory: a folder to keep what was read of files."""
        ...

    def span(self) -> tuple[date, date]:
        """First and last day of the log."""
        ...

    def tables(self, day: date) -> tuple[str, ...]:
        """The tables that this source has on that day."""
        ...

    def files(self, day: date) -> list[Path]:
        """The files that have rows of that day; none where the log has none of it (any more).

        A landed day is landed again when the content of these files has changed.
        """
        ...

    def absent(self, table: str) -> frozenset[str]:
        """Columns of a table that this source lacks: always null, which validation accepts."""
        ...

    def table(self, spark: SparkSession, table: str, day: date) -> DataFrame:
        """The rows of one table on one day.

        Raises BadInput, naming the file, when a file is not what it claims to be.
        """
        ...

    def notes(self, day: date) -> dict[str, int | str]:
        """What the source did to the day's rows (repeats dropped, …).

        Complete only once the day's tables have been written. With `log_rows`, the number of rows
        that the log has of the day, `land` fails where it has not landed all of them.
        """
        ...
