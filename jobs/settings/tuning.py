"""The tables [tuning], [tuning.embedding] and [tuning.ranker] of the settings file."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import Field, model_validator

from jobs.section import Section


class Range(Section):
    """The values that a trial of `evergreen tune` may choose: whole ones where both ends are."""

    low: int | float
    """The smallest value."""

    high: int | float
    """The largest value."""

    log: bool = False
    """Draw as many values below the geometric mean as above it."""

    @model_validator(mode="after")
    def _validate_ends(self) -> Range:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("expected low < high, and with log = true both above 0")
        return self

    @property
    def whole(self) -> bool:
        """Are only whole numbers chosen?"""
        return isinstance(self.low, int) and isinstance(self.high, int)


Ranges = dict[str, Range | Annotated[list[bool | int | float | str], Field(min_length=1)]]


class TuningSettings(Section):
    """What `evergreen tune` tries; it changes no other setting."""

    trials: int = Field(default=20, ge=1, le=10_000)
    """Trials of one study. With more, an existing study goes on."""

    days: int = Field(default=3, ge=1, le=3660)
    """Days that a trial is judged on, one after the other; it ends where it is below the median of
    the trials before it."""

    last_day: date | None = None
    """The last of these days. Default: the newest that is computed. What a study has chosen is
    proved on later days only, by the gate and the benchmarks of the loop."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of what is drawn: with one worker, a study is repeatable."""

    embedding: Ranges = Field(default_factory=dict)
    """Options of `[embedding]` or of its embedder, and the values to choose from:
    `epochs = { low = 5, high = 40 }`, or a list."""

    ranker: Ranges = Field(default_factory=dict)
    """The same of `[ranker]` and of its kind."""
