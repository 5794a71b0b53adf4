"""Times as logs write them -> milliseconds since 1970 in UTC, and the days that they are in.

    text      2024-03-02, 2024/03/02, 20240302, with or without a clock time after T or a blank:
              09:30, 09:30:00, 09:30:00.123456789, 093000; without or with an offset from UTC:
              Z, +01, +0100, +01:00, +5:30
    numbers   s, ms, us or ns since 1970
    Parquet   timestamps of any unit with or without a zone, dates

What has no offset is local to the log's time zone. A clock time that occurs twice, when clocks are
set back, is the first of the two; one that does not occur is read with the offset before that.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.intake import values

# Milliseconds of one of each.
PER_MS = {"s": Decimal(1000), "ms": Decimal(1), "us": Decimal("1e-3"), "ns": Decimal("1e-6")}
QUARTER_HOUR_MS = 900_000  # every zone's offsets change at a multiple of it
DAY_MS = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = date(1970, 1, 1).toordinal()
FIRST_DAY = date.min.toordinal() - EPOCH_DAY
LAST_DAY = date.max.toordinal() - EPOCH_DAY
# The years 1 to 9999 in any time zone: some logs have their ends where there is no time.
FIRST_MS = (FIRST_DAY - 1) * DAY_MS
LAST_MS = (LAST_DAY + 2) * DAY_MS
# The quarters of an hour that `datetime` knows in every zone.
QUARTERS = ((FIRST_DAY + 1) * 96, LAST_DAY * 96 - 1)

ISO = (
    r"^(?P<year>\d{4})(?:-(?P<month>\d{1,2})-(?P<day>\d{1,2})|/(?P<month2>\d{1,2})/(?P<day2>\d{1,2})"
    r"|(?P<month3>\d{2})(?P<day3>\d{2}))"
    r"(?:(?:[Tt]| +)(?P<hour>\d{1,2})(?::?(?P<minute>\d{2})(?::?(?P<second>\d{2})"
    r"(?:[.,](?P<fraction>\d+))?)?)?"
    r" ?(?:(?P<zone>[Zz]|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{1,2}|[+-]\d:\d{2})"
    r"(?:\[[A-Za-z0-9_/+-]+\])?)?)?$"
)
# The usual one, which Arrow's own parser reads in the same way.
COMMON = r"^\d{4}-\d\d-\d\d[T ][0-2]\d:[0-5]\d:[0-5]\d(\.\d{1,6})?$"
LARGEST = (1 << 63) - 1  # of int64
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def to_ms(times: pa.Array, unit: str, zone: str) -> pa.Array:
    """Milliseconds as int64, null for what is no time of the years 1 to 9999.

    unit: "iso", or the unit of numbers; dates and timestamps are what they are.
    """
    if isinstance(times, pa.DictionaryArray):
        times = times.dictionary_decode()
    kind = times.type
    if pa.types.is_timestamp(kind):
        ms = milliseconds(times)
        return within_reach(ms if kind.tz else from_local(ms, zone))
    if pa.types.is_date(kind):
        days = times.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
        return within_reach(from_local(pc.multiply(days, DAY_MS), zone))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = pc.utf8_trim_whitespace(times)
        return within_reach(from_iso(text, zone) if unit == "iso" else from_texts(text, unit))
    if unit == "iso" and pa.types.is_integer(kind):  # 20240302
        return within_reach(from_iso(times.cast(pa.string()), zone))
    if pa.types.is_uint64(kind):  # what does not fit is beyond any year
        times = pc.if_else(
            pc.less_equal(times, pa.scalar(LARGEST, kind)), times, pa.scalar(None, kind)
        )
    if pa.types.is_integer(kind):
        return within_reach(scaled(times.cast(pa.int64()), unit))
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return within_reach(rounded(exact(times.cast(pa.float64()), kind), unit))
    return pa.nulls(len(times), pa.int64())


def exact(numbers: pa.Array, kind: pa.DataType) -> pa.Array:
    """Null for floats of few bits that stand for several whole numbers, such as seconds of 2024."""
    if kind not in (pa.float16(), pa.float32()):
        return numbers
    most = values.EXACT_OF[kind]
    return pc.if_else(pc.less_equal(pc.abs(numbers), most), numbers, pa.scalar(None, pa.float64()))


def milliseconds(times: pa.TimestampArray) -> pa.Array:
    """A timestamp's milliseconds, of whatever unit and zone; rounded down."""
    whole = times.cast(pa.int64())
    match times.type.unit:
        case "s":
            return pc.multiply(whole, 1000)
        case "ms":
            return whole
        case "us":
            return floor_divided(whole, 1000)
    return floor_divided(whole, 1_000_000)


def floor_divided(whole: pa.Array, divisor: int) -> pa.Array:
    mask = ~known(whole)
    return pa.array(whole.fill_null(0).to_numpy(zero_copy_only=False) // divisor, mask=mask)


def known(array: pa.Array) -> np.ndarray:
    return array.is_valid().to_numpy(zero_copy_only=False)


def within_reach(ms: pa.Array) -> pa.Array:
    """Null for what `datetime` cannot name."""
    inside = pc.and_(pc.greater_equal(ms, FIRST_MS), pc.less(ms, LAST_MS))
    return pc.if_else(inside, ms, pa.scalar(None, pa.int64()))


def from_texts(text: pa.Array, unit: str) -> pa.Array:
    """Numbers as texts."""
    if digits_only(text) or digits_only(pc.ascii_ltrim(text, characters="-")):
        try:
            return scaled(text.cast(pa.int64()), unit)
        except pa.ArrowInvalid:  # too large
            pass
    return pa.array([ms_of(word, unit) for word in text.to_pylist()], pa.int64())


def digits_only(text: pa.Array) -> bool:
    """Arrow reads 0x10 as 16, and no log means that."""
    return pc.all(pc.ascii_is_decimal(text)).as_py() is not False


def ms_of(word: str | None, unit: str) -> int | None:
    """One number as text in milliseconds, rounded down; None for no number, or one too large."""
    if word is None or not NUMBER.fullmatch(word):
        return None
    number = Decimal(word)
    if number.adjusted() > 25:  # beyond any year in any unit; its digits need not be written out
        return None
    ms = math.floor(number * PER_MS[unit])
    return ms if FIRST_MS <= ms < LAST_MS else None


def scaled(whole: pa.Array, unit: str) -> pa.Array:
    """Whole numbers of a unit, in milliseconds; rounded down."""
    if unit == "s":
        # Beyond any year already; the product would not fit.
        fits = pc.less(pc.abs_checked(pc.fill_null(whole, 0)), LAST_MS)
        return pc.multiply(pc.if_else(fits, whole, pa.scalar(None, pa.int64())), 1000)
    if unit == "ms":
        return whole
    return floor_divided(whole, 1000 if unit == "us" else 1_000_000)


def rounded(numbers: pa.Array, unit: str) -> pa.Array:
    """Numbers with fractions of a unit in milliseconds, rounded down.

    To whole microseconds first: a float of 0.1 s may be a little less than that.
    """
    exact_ms = numbers.to_numpy(zero_copy_only=False).astype(np.float64) * float(PER_MS[unit])
    unknown = ~(np.abs(np.nan_to_num(exact_ms, nan=np.inf)) < LAST_MS)
    ms = np.floor(np.round(np.where(unknown, 0, exact_ms) * 1000) / 1000)
    return pa.array(ms.astype(np.int64), mask=unknown)


def from_iso(text: pa.Array, zone: str) -> pa.Array:
    """Texts of ISO 8601 and its relatives; null for any other."""
    if not len(text):
        return pa.array([], pa.int64())
    if pc.all(pc.match_substring_regex(text, COMMON)).as_py():
        try:  # five times as fast
            return from_local(milliseconds(text.cast(pa.timestamp("us"))), zone)
        except pa.ArrowInvalid:
            pass
    parts = pc.extract_regex(text, ISO)
    fields = {field.name: parts.field(i) for i, field in enumerate(parts.type)}
    matched = known(parts)

    def whole(*names: str) -> np.ndarray:
        found = np.zeros(len(text), dtype=np.int64)
        for name in names:
            digits = pc.if_else(pc.equal(fields[name], ""), "0", fields[name])
            found += digits.fill_null("0").cast(pa.int64()).to_numpy(zero_copy_only=False)
        return found

    year = whole("year")
    month = whole("month", "month2", "month3")
    day = whole("day", "day2", "day3")
    hour, minute, second = whole("hour"), whole("minute"), whole("second")
    fine = matched & (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    fine &= (minute < 60) & (second <= 60)  # 60: a leap second
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    length = ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(int)
    fine &= day <= length
    days = months.astype("datetime64[D]").astype(np.int64) + day - 1
    fraction = pc.utf8_slice_codeunits(fields["fraction"], 0, 3)
    thousandths = pc.utf8_rpad(fraction, 3, "0").fill_null("000").cast(pa.int64())
    clock = ((hour * 60 + minute) * 60 + second) * 1000
    clock += thousandths.to_numpy(zero_copy_only=False)
    fine &= (hour < 24) | (clock == DAY_MS)  # 24:00 is the midnight after the day
    ms = days * DAY_MS + clock
    offset, has_offset, offset_fine = offsets_of(fields["zone"])
    fine &= offset_fine
    local = pa.array(ms, mask=~fine | has_offset)
    return pc.coalesce(
        from_local(local, zone), pa.array(ms - offset * 60_000, mask=~fine | ~has_offset)
    )


def offsets_of(zones: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Minutes east of UTC, whether an offset is there, and whether it is a possible one."""
    encoded = zones.fill_null("").dictionary_encode()
    minutes, there, fine = [], [], []
    for zone in encoded.dictionary.to_pylist():
        there.append(bool(zone))
        sign = -1 if zone.startswith("-") else 1
        digits = zone.lstrip("+-").replace(":", "")
        if not digits.isdigit():  # none, Z or UTC
            digits = "0"
        hours, rest = (digits, "0") if len(digits) <= 2 else (digits[:-2], digits[-2:])
        minutes.append(sign * (int(hours) * 60 + int(rest)))
        fine.append(int(hours) <= 18 and int(rest) < 60)
    index = encoded.indices.to_numpy(zero_copy_only=False)
    return np.array(minutes)[index], np.array(there)[index], np.array(fine)[index]


def from_local(ms: pa.Array, zone: str) -> pa.Array:
    """Clock times of a zone, as if they were UTC -> UTC."""
    if zone == "UTC":
        return ms
    mask = ~known(within_reach(ms)) if len(ms) else np.zeros(0, dtype=bool)
    local = pc.if_else(pa.array(~mask), ms, 0).to_numpy(zero_copy_only=False)
    quarters, index = np.unique(local // QUARTER_HOUR_MS, return_inverse=True)
    shift = np.array([local_offset_ms(int(quarter), zone) for quarter in quarters], dtype=np.int64)
    return pa.array(local - shift[index] if len(local) else local, mask=mask)


@lru_cache(maxsize=200_000)
def local_offset_ms(quarter: int, zone: str) -> int:
    """What a clock of the zone is ahead of UTC when it shows this quarter of an hour."""
    naive = moment_of(quarter).replace(tzinfo=None)
    offset = naive.replace(tzinfo=ZoneInfo(zone)).utcoffset()
    assert offset is not None, "every zone of ZoneInfo has an offset at any time"
    return int(offset.total_seconds() * 1000)


def day_numbers(ms: np.ndarray, zone: str) -> np.ndarray:
    """The day of each moment in a zone, in days since 1970-01-01; of the years 1 to 9999."""
    if zone == "UTC":
        return np.clip(ms // DAY_MS, FIRST_DAY, LAST_DAY)
    quarters, index = np.unique(ms // QUARTER_HOUR_MS, return_inverse=True)
    days = np.array([day_of_quarter(int(quarter), zone) for quarter in quarters], dtype=np.int64)
    return np.clip(days[index], FIRST_DAY, LAST_DAY) if len(ms) else ms


@lru_cache(maxsize=200_000)
def day_of_quarter(quarter: int, zone: str) -> int:
    offset = moment_of(quarter).astimezone(ZoneInfo(zone)).utcoffset()
    assert offset is not None, "every zone of ZoneInfo has an offset at any time"
    return (quarter * QUARTER_HOUR_MS + int(offset.total_seconds() * 1000)) // DAY_MS


def moment_of(quarter: int) -> datetime:
    """When a quarter of an hour begins; beyond the years of `datetime`, the nearest that it knows,
    at which zones have the same offset.
    """
    first, last = QUARTERS
    return EPOCH + timedelta(milliseconds=min(max(quarter, first), last) * QUARTER_HOUR_MS)


def date_of(day_number: int) -> date:
    """The date of a number of days since 1970-01-01."""
    return date.fromordinal(day_number + EPOCH_DAY)
