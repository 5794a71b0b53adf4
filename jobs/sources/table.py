"""Any log in CSV or Parquet, described by settings alone.

`source.columns` maps our column names to the log's. With `source.labels` a row is an impression,
without them an engagement.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, ValidationInfo, field_validator, model_validator

from jobs.intake.dialect import NULLS
from jobs.lake.schema import ENGAGEMENT_TABLE, ENGAGEMENTS, IMPRESSION_TABLE, IMPRESSIONS
from jobs.sources.base import SourceSettings, Timezone
from jobs.sources.dialect_settings import (
    Encoding,
    Marks,
    OneMark,
    Separator,
    TimeUnit,
    require_apart,
)
from jobs.sources.edgelist import kind_of_file
from jobs.sources.file_log import FileLog

if TYPE_CHECKING:
    from jobs.intake.dialect import Dialect
    from jobs.intake.reading import Field as WantedField
    from jobs.intake.reading import Wanted

REQUIRED = frozenset({"consumer_id", "producer_id", "time"})
KIND = "engagement"  # of a row of a log without kinds


class TableSettings(SourceSettings):
    """Any log in CSV or Parquet, described by settings alone."""

    younger: ClassVar[frozenset[str]] = frozenset({"label_times"})
    """Options that change no result at their defaults: lakes are older than these."""

    path: Path
    """A file, a folder, or a glob. Text may be compressed with gzip, bzip2, xz or Zstandard; what a
    file is, is seen from its content."""

    columns: dict[str, str]
    """Our names and the log's: `consumer_id`, `producer_id` and `time` are required; `item_id` is
    optional, and so are `kind` and `value` of engagements and `dwell_ms` of impressions."""

    labels: dict[str, str] = Field(default={})
    """Label and the log's 0/1 column. With labels a row is an impression, without an engagement."""

    label_times: dict[str, str] = Field(default={})
    """Label and the log's column that says when it became 1, in `time_unit`; empty where it did
    not. See `validation.label_window_hours`."""

    context: list[str] = Field(default=[])
    """Further columns known when the item is shown, as categories; only with labels."""

    kinds: dict[str, str] = Field(default={})
    """Kind of the engagements of a file, by a pattern of its name: `{"like*" = "like"}`. It stands
    where the file has no `kind`."""

    time_unit: TimeUnit = "s"
    """How `time` is written: seconds, milliseconds, microseconds or nanoseconds since 1970, or ISO
    texts. Timestamps and dates of Parquet are read as what they are."""

    timezone: Timezone = "UTC"
    """A day runs from midnight to midnight in this time zone; ISO times without an offset are local
    to it."""

    separator: Separator = ","
    """Separator between the fields of a line, one or more characters."""

    quote: OneMark = '"'
    """Around fields that hold a separator or a line break. Empty: no field is quoted, as it must be
    with `separator = "whitespace"`."""

    escape: OneMark = ""
    """Before a character that would end a field, such as `\\`. Empty, or the same as `quote`:
    quotes are doubled."""

    encoding: Encoding = "utf-8"
    """How the files write characters, such as "latin-1". What cannot be read in it goes aside."""

    comments: Marks = ""
    """A line that begins with one of these characters is skipped."""

    names: list[str] = Field(default=[])
    """Names of the columns of files without a header line, in their order."""

    late_days: int | None = Field(default=None, ge=0)
    """For a log with a file per day: rows that are more days older than the newest row of their
    file are put aside as `late`. Default: they land on their day, which is computed again."""

    nulls: list[str] = Field(default=list(NULLS))
    """Texts that mean that nothing is there."""

    @property
    def table(self) -> str:
        """The table that the rows belong to."""
        return IMPRESSION_TABLE if self.labels else ENGAGEMENT_TABLE

    @property
    def known_columns(self) -> frozenset[str]:
        """Our names that `columns` may map: the table's columns, with `time` for time_ms."""
        fixed = IMPRESSIONS if self.labels else ENGAGEMENTS
        return frozenset(fixed) - {"time_ms"} | {"time"}

    @property
    def has_impressions(self) -> bool:
        return bool(self.labels)

    @property
    def has_values(self) -> bool:
        return "value" in self.columns

    @property
    def known_labels(self) -> frozenset[str] | None:
        return frozenset(self.labels) or None

    @property
    def known_kinds(self) -> frozenset[str] | None:
        if self.labels or "kind" in self.columns:
            return self.known_labels
        return frozenset({KIND, *self.kinds.values()})

    @field_validator("escape")
    @classmethod
    def _doubled_quotes(cls, escape: str, given: ValidationInfo) -> str:
        """Spark writes doubled quotes as an escape that is the quote."""
        return "" if escape == given.data.get("quote") else escape

    @model_validator(mode="after")
    def _marks_are_apart(self) -> TableSettings:
        require_apart(self.separator, self.comments, self.quote, self.escape)
        return self

    @model_validator(mode="after")
    def _columns_are_ours(self) -> TableSettings:
        named = self.columns | self.labels | self.label_times
        if empty := sorted(ours for ours, column in named.items() if not column.strip()):
            raise ValueError(
                f"{empty} have an empty name; expected that of the log's column. Name it, or leave "
                "the option out"
            )
        if missing := sorted(REQUIRED - self.columns.keys()):
            raise ValueError(
                f"columns lacks {missing}: name the log's column for each of {sorted(REQUIRED)}"
            )
        if unknown := sorted(self.columns.keys() - self.known_columns):
            given = "labels are given" if self.labels else "no labels are given"
            raise ValueError(
                f"columns has {unknown}, which {self.table} ({given}) do not have; "
                f"they may have {sorted(self.known_columns)}"
            )
        if unknown := sorted(self.label_times.keys() - self.labels.keys()):
            raise ValueError(
                f"label_times has {unknown}, which labels does not have; it has {[*self.labels]}"
            )
        if self.context and not self.labels:
            raise ValueError("context applies to impressions: give labels too, or leave it out")
        if self.kinds and self.labels:
            raise ValueError("kinds applies to logs without labels: the labels are the kinds")
        return self


class Table(FileLog):
    Settings = TableSettings

    def __init__(self, settings: TableSettings, memory: Path) -> None:
        super().__init__(settings, settings.timezone, memory)
        self.settings = settings
        self.late_days = settings.late_days
        self.table_name = settings.table

    def absent(self, table: str) -> frozenset[str]:
        # The other optional columns, kind and value, have defaults instead of nulls.
        return frozenset({"item_id", "dwell_ms"} - self.settings.columns.keys())

    def wanted(self, file: Path) -> Wanted:
        from jobs.intake.reading import Wanted

        return Wanted(
            tuple(self._fields(file)),
            self.settings.columns["time"],
            self.settings.time_unit,
            self.timezone,
            self._dialect(),
            remedies=tuple(self._remedies().items()),
        )

    def _dialect(self) -> Dialect:
        from jobs.intake.dialect import Dialect

        given = self.settings
        return Dialect(
            separator=given.separator,
            quote=given.quote,
            escape=given.escape,
            encoding=given.encoding,
            comments=given.comments,
            names=tuple(given.names),
            nulls=tuple(given.nulls),
        )

    def _fields(self, file: Path) -> list[WantedField]:
        """The log's columns as ours. `kind` is "engagement" and `value` is 1 by default."""
        from jobs.intake.reading import Field

        column = self.settings.columns.get
        fields = [Field(name, column(name, "")) for name in ("consumer_id", "producer_id")]
        fields.append(Field("item_id", column("item_id", "")))
        if self.table_name == ENGAGEMENT_TABLE:
            kind = kind_of_file(file, self.settings.kinds) or KIND
            # Where the log has kinds, a row without one is for validation to judge.
            default = None if column("kind") and not self.settings.kinds else kind
            value = 1.0 if not column("value") else None
            fields.append(Field("kind", column("kind", ""), constant=default))
            fields.append(Field("value", column("value", ""), "number", value))
            return fields
        fields.append(Field("dwell_ms", column("dwell_ms", ""), "whole"))
        for label, name in self.settings.labels.items():
            fields.append(Field(f"label_{label}", name, "label"))
        for label, name in self.settings.label_times.items():
            fields.append(Field(f"at_{label}", name, "time"))
        for name in self.settings.context:
            fields.append(Field(f"ctx_{name}", name))
        return fields

    def _remedies(self) -> dict[str, str]:
        """Every column that the settings name -> what to do when a file lacks it."""
        named: dict[str, str] = {}  # of several settings that name one column, the first
        for name, column in self.settings.columns.items():
            named.setdefault(column, f"source.columns.{name}")
        for label, column in self.settings.labels.items():
            named.setdefault(column, f"source.labels.{label}")
        for label, column in self.settings.label_times.items():
            named.setdefault(column, f"source.label_times.{label}")
        for column in self.settings.context:
            named.setdefault(column, "source.context")
        return {column: f"Change {setting}, which names it." for column, setting in named.items()}


SOURCE = Table
