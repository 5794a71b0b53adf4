"""Lists of edges, `src dst time [kind]`: messages, retweets, follows, answers.

consumer = src, producer = dst; there are no items. SNAP and KONECT publish temporal networks in
this format; KONECT's have a weight before the time.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from jobs.lake.schema import ENGAGEMENT_TABLE
from jobs.sources.base import SourceSettings, Timezone
from jobs.sources.dialect_settings import (
    Encoding,
    Marks,
    Separator,
    TimeUnit,
    require_apart,
)
from jobs.sources.file_log import FileLog

if TYPE_CHECKING:
    from jobs.intake.reading import Wanted

FieldName = Literal["src", "dst", "time", "kind", "value", "skip"]
KIND = "edge"  # of a line without one


class EdgelistSettings(SourceSettings):
    """Lists of edges, `src dst time [kind]`, separated by white space."""

    path: Path
    """A file, a folder, or a glob; compressed files too."""

    fields: list[FieldName] = Field(default=["src", "dst", "time", "kind"])
    """What the fields of a line are, in their order. KONECT's lists are `["src", "dst", "value",
    "time"]`; `skip` is a field that is not read. Fields after these are not read either. A line may
    lack those after `src`, `dst` and `time`."""

    kinds: dict[str, str] = Field(default={})
    """Kind of the edges of a file, by a pattern of its name: `{"a2q*" = "answer"}`."""

    separator: Separator = "whitespace"
    """Separator between the fields of a line."""

    comments: Marks = "#%"
    """A line that begins with one of these characters is skipped."""

    encoding: Encoding = "utf-8"
    """How the files write characters."""

    time_unit: TimeUnit = "s"
    """How `time` is written: seconds, milliseconds, … since 1970, or ISO texts."""

    timezone: Timezone = "UTC"
    """A day runs from midnight to midnight in this time zone."""

    late_days: int | None = Field(default=None, ge=0)
    """For a log with a file per day: rows that are more days older than the newest row of their
    file are put aside as `late`. Default: they land on their day, which is computed again."""

    @property
    def has_impressions(self) -> bool:
        return False

    @property
    def has_values(self) -> bool:
        return "value" in self.fields

    @property
    def known_kinds(self) -> frozenset[str] | None:
        return None if "kind" in self.fields else frozenset({KIND, *self.kinds.values()})

    @field_validator("fields")
    @classmethod
    def _validate_fields(cls, fields: list[str]) -> list[str]:
        for name in ("src", "dst", "time"):
            if fields.count(name) != 1:
                raise ValueError(f"expected each of src, dst and time once, as {name} is not")
        return fields

    @model_validator(mode="after")
    def _marks_are_apart(self) -> EdgelistSettings:
        require_apart(self.separator, self.comments)
        return self


class Edgelist(FileLog):
    Settings = EdgelistSettings
    table_name = ENGAGEMENT_TABLE

    def __init__(self, settings: EdgelistSettings, memory: Path) -> None:
        super().__init__(settings, settings.timezone, memory)
        self.settings = settings
        self.late_days = settings.late_days

    def absent(self, table: str) -> frozenset[str]:
        return frozenset({"item_id"})

    def wanted(self, file: Path) -> Wanted:
        from jobs.intake.dialect import Dialect
        from jobs.intake.reading import Field, Wanted

        named = self.settings.fields
        kind = kind_of_file(file, self.settings.kinds) or KIND
        fields = [
            Field("consumer_id", "src"),
            Field("producer_id", "dst"),
            Field("item_id", ""),
            Field("kind", "kind" if "kind" in named else "", constant=kind),
            Field("value", "value" if "value" in named else "", "number", 1.0),
        ]
        dialect = Dialect(
            separator=self.settings.separator,
            quote="",
            encoding=self.settings.encoding,
            comments=self.settings.comments,
            names=tuple(named),
            optional=len(named) - 1 - max(named.index(name) for name in ("src", "dst", "time")),
        )
        return Wanted(
            tuple(fields),
            "time",
            self.settings.time_unit,
            self.timezone,
            dialect,
            remedies=tuple((field, "Change source.fields.") for field in named),
        )


SOURCE = Edgelist


def kind_of_file(file: Path, kinds: dict[str, str]) -> str:
    """The kind of all rows of a file, by its name; empty where the settings name none."""
    for pattern, kind in kinds.items():
        if fnmatchcase(file.name, pattern):
            return kind
    return ""
