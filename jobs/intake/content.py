"""What the values of a column look like, judged from some of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.intake import times, values
from jobs.intake.dialect import Dialect

Kind = Literal["time", "odd_time", "label", "category", "id", "number", "text", "empty"]

MOST = 0.98  # share of the values that must fit: a few may be broken
MOST_TIMES = 0.9  # the same of times, which little else looks like
PLAUSIBLE_MS = (631_152_000_000, 4_102_444_800_000)  # 1990 to 2100
LONGEST_SPAN_MS = 40 * 366 * times.DAY_MS  # ids spread wider than the times of one log
STEPS_MS = {"day": times.DAY_MS, "hour": 3_600_000, "minute": 60_000}
MOST_CATEGORIES = 50
PER_CATEGORY = 20  # values of each category, on average, that make it one
LONG_TEXT = 40  # characters on average; ids are shorter
# Times that people read and Evergreen does not: 3/2/2024, 02.03.2024, Wed Aug 27, 2 Mar 2024.
ODD_TIME = (
    r"^\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b"
    r"|^\[?([A-Z][a-z]{2},? )?\d{1,2}[ /-][A-Z][a-z]{2}[a-z]*[ /,-]"
    r"|^([A-Z][a-z]{2} )?[A-Z][a-z]{2}[a-z]* \d{1,2},? "
)
NULL_LIKE = ("na", "n.a.", "n/a", "-", "--", "?", "nil", "none", "undefined", "unknown", "(null)")
OFTEN = 0.05  # share of the values
CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?")
# What writers put where there is no time; of few such values the others say what the column is.
NO_TIME = r"^(?:-1|0+(?:\.0*)?|(?:0000-00-00|0001-01-01|1970-01-01|9999-12-31)(?:[T ].*)?)$"
OFFSET = r":\d\d(\.\d+)? ?([Zz]|UTC|GMT|[+-]\d{1,2}(:?\d{2})?)(\[.*\])?$"


@dataclass(frozen=True)
class Column:
    """A column, as its values in the sample look.

    unit: that of times; empty for Parquet's own. first_ms, last_ms: their range. step: the longest
    of STEPS_MS that all times are multiples of, or "". offset: have they one from UTC?
    whole: are all values whole numbers? low, high: the range of numbers. grows: no value is below
    the one before it. null_like: a frequent word that may stand for nothing, and is not read so.
    odd: the first value of a column of times that is none.
    """

    name: str
    kind: Kind
    rows: int
    distinct: int
    examples: tuple[str, ...] = ()
    unit: str = ""
    first_ms: int = 0
    last_ms: int = 0
    step: str = ""
    offset: bool = False
    whole: bool = False
    low: float = 0.0
    high: float = 0.0
    grows: bool = False
    null_like: str = ""
    odd: str = ""

    @property
    def numeric(self) -> bool:
        return self.kind == "number" or self.whole

    @property
    def is_clock(self) -> bool:
        """Has it clock times without a date, such as 10:30?"""
        return bool(self.examples) and all(map(CLOCK.fullmatch, self.examples))

    def in_words(self) -> str:
        """What it looks like, for a person."""
        match self.kind:
            case "time":
                how = {"iso": "ISO texts", "": "timestamps"}.get(
                    self.unit, f"{self.unit} since 1970"
                )
                step = f", whole {self.step}s" if self.step else ""
                return f"times: {how}, {day_of(self.first_ms)} to {day_of(self.last_ms)}{step}"
            case "odd_time":
                return f"times in a format that is not read: {self.examples[0]}"
            case "label":
                return f"0/1 ({', '.join(self.examples)})"
            case "category":
                what = "numbers" if self.whole else "texts"
                return f"{self.distinct} different {what}: {', '.join(self.examples)}"
            case "id":
                what = "whole numbers" if self.whole else "texts"
                return f"ids: {what}, {self.distinct:,} different"
            case "number":
                return f"numbers, {self.low:g} to {self.high:g}"
            case "text":
                return "free text"
        return "nothing"


def day_of(ms: int) -> str:
    return str(times.date_of(min(ms // times.DAY_MS, times.LAST_DAY)))


def column_of(name: str, array: pa.Array, dialect: Dialect) -> Column:
    """What the values of a column look like."""
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        ms = times.to_ms(array, "iso", "UTC").drop_null()
        text = array.cast(pa.string()).drop_null()
        offset = pa.types.is_timestamp(array.type) and array.type.tz is not None
        return time_column(name, text, ms, "", offset) if len(ms) else nothing(name)
    text = values.text(array, dialect)[0].drop_null()
    return text_column(name, text) if len(text) else nothing(name)


def nothing(name: str) -> Column:
    return Column(name, "empty", 0, 0)


def text_column(name: str, text: pa.Array) -> Column:
    """The same of values as text, none of them null."""
    unit = unit_of(text)
    if unit:
        offset = unit == "iso" and mostly(pc.match_substring_regex(text, OFFSET))
        return time_column(name, text, plausible(text, unit), unit, offset)
    numbers = numbers_of(text)
    words = text.unique()
    distinct = len(words)
    small = distinct <= min(MOST_CATEGORIES, max(2, len(text) // PER_CATEGORY))
    kind: Kind = "id"
    if distinct <= 2 and {str(word).lower() for word in words.to_pylist()} <= values.LABELS.keys():
        kind = "label"
    elif mostly(pc.match_substring_regex(text, ODD_TIME)):
        kind = "odd_time"
    elif numbers is not None and not (numbers % 1 == 0).all():
        kind = "number"
    elif small:
        kind = "category"
    elif numbers is None and is_prose(text):
        kind = "text"
    return described(name, kind, text, numbers)


def is_prose(text: pa.Array) -> bool:
    """Are these long texts of several words? Ids may be as long, in one word."""
    long = pc.mean(pc.utf8_length(text)).as_py() > LONG_TEXT
    return bool(long) and mostly(pc.match_substring(text, " "))


def described(name: str, kind: Kind, text: pa.Array, numbers: np.ndarray | None) -> Column:
    shown = tuple(word[:LONG_TEXT] for word in text.unique()[:3].to_pylist())
    distinct = len(text.unique())
    if numbers is None:
        null_like = null_like_of(text)
        return Column(name, kind, len(text), distinct, shown, null_like=null_like)
    return Column(
        name,
        kind,
        len(text),
        distinct,
        shown,
        whole=bool((numbers % 1 == 0).all()),
        low=float(numbers.min()),
        high=float(numbers.max()),
        grows=bool((np.diff(numbers) >= 0).all()),
    )


def null_like_of(text: pa.Array) -> str:
    for entry in pc.value_counts(text).to_pylist():
        if entry["values"].lower() in NULL_LIKE and entry["counts"] > OFTEN * len(text):
            return entry["values"]
    return ""


def first_odd(text: pa.Array, unit: str) -> str:
    """The first value that is no time in this unit, and no usual text for none."""
    none = pc.match_substring_regex(text, NO_TIME)
    odd = pc.and_(pc.is_null(times.to_ms(text, unit, "UTC")), pc.invert(none))
    return next((word[:LONG_TEXT] for word in text.filter(odd).to_pylist()), "")


def time_column(name: str, text: pa.Array, ms: pa.Array, unit: str, offset: bool) -> Column:
    moments = ms.to_numpy(zero_copy_only=False)
    step = next((step for step, size in STEPS_MS.items() if (moments % size == 0).all()), "")
    return Column(
        name,
        "time",
        len(text),
        len(text.unique()),
        tuple(text[:3].to_pylist()),
        unit=unit,
        first_ms=int(moments.min()),
        last_ms=int(moments.max()),
        step=step,
        offset=offset,
        whole=unit not in ("iso", ""),
        grows=bool((np.diff(moments) >= 0).all()),
        odd=first_odd(text, unit) if unit else "",
    )


def unit_of(text: pa.Array) -> str:
    """The unit in which these are times of 1990 to 2100, and of no more than 40 years; or ""."""
    given = text.filter(pc.invert(pc.match_substring_regex(text, NO_TIME)))
    if 2 * len(given) < len(text):
        return ""
    for unit in ("iso", *times.PER_MS):
        ms = plausible(given, unit)
        if len(ms) < max(1, MOST_TIMES * len(given)):
            continue
        if pc.max(ms).as_py() - pc.min(ms).as_py() <= LONGEST_SPAN_MS:
            return unit
    return ""


def plausible(text: pa.Array, unit: str) -> pa.Array:
    """The times of 1990 to 2100 among the values, in milliseconds."""
    plain = pc.replace_substring_regex(text, r"^\+", "")  # which Arrow does not take for a number
    ms = times.to_ms(plain, unit, "UTC").drop_null()
    first, last = PLAUSIBLE_MS
    return ms.filter(pc.and_(pc.greater_equal(ms, first), pc.less(ms, last)))


def numbers_of(text: pa.Array) -> np.ndarray | None:
    """The values as numbers, where nearly all are."""
    are = pc.match_substring_regex(text, f"^(?:{times.NUMBER.pattern})$")
    if not mostly(are):
        return None
    plain = pc.replace_substring_regex(text.filter(are), r"^\+", "")
    return plain.cast(pa.float64()).to_numpy()


def mostly(are: pa.BooleanArray) -> bool:
    return len(are) > 0 and (pc.sum(are).as_py() or 0) >= MOST * len(are)
