"""How times are read, against Python's own parser and calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.intake.times import date_of, day_numbers, to_ms

MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "America/Coyhaique", "Australia/Lord_Howe"]


def ms_of(moment: datetime) -> int:
    return (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def read(times: list, unit: str, zone: str = "UTC", kind: pa.DataType | None = None) -> list:
    return to_ms(pa.array(times, kind), unit, zone).to_pylist()


@pytest.mark.parametrize(
    ("text", "utc"),
    [  # local to New York, four hours behind UTC on that day
        ("2024-07-10 01:30:00", "2024-07-10T05:30"),
        ("2024-07-10T01:30", "2024-07-10T05:30"),
        ("2024-07-10 1:30", "2024-07-10T05:30"),
        ("2024/07/10", "2024-07-10T04:00"),
        ("2024/7/1", "2024-07-01T04:00"),
        ("20240710", "2024-07-10T04:00"),
        ("20240710T013000", "2024-07-10T05:30"),
        ("2024-07-10 24:00:00", "2024-07-11T04:00"),
        ("  2024-07-10T01:30:00.123456789 ", "2024-07-10T05:30:00.123"),
        ("2024-07-10T01:30:00,5", "2024-07-10T05:30:00.500"),
        ("2024-07-10T01:30:00Z", "2024-07-10T01:30"),
        ("2024-07-10 01:30:00+00", "2024-07-10T01:30"),
        ("2024-07-10 01:30:00+05", "2024-07-09T20:30"),
        ("2024-07-10 01:30:00+5:30", "2024-07-09T20:00"),
        ("2024-07-10T01:30+05:30", "2024-07-09T20:00"),
        ("2024-07-10T01:30-0800", "2024-07-10T09:30"),
        ("2024-07-10 01:30:00 UTC", "2024-07-10T01:30"),
        ("2024-07-10T01:30+02:00[Europe/Paris]", "2024-07-09T23:30"),
        ("2024-07-10T01:30[Asia/Tokyo]", None),
        ("2024-07-10T01:30+053", None),
        ("now", None),
        ("2024-07", None),
        ("2024-02-30", None),
        ("2024-13-01", None),
        ("2024-07-10 25:00", None),
        ("2024-07-10 24:00:00.5", None),  # 24:00 is a moment, not an hour
        ("2024-07-10 23:59:60", "2024-07-11T04:00"),
        ("2024-07-10 10:61", None),
        ("2024-07-10 10:00+19:00", None),
        ("0000-00-00 00:00:00", None),
        ("10.07.2024", None),
        ("1720575000", None),
        ("", None),
        (None, None),
    ],
)
def test_a_text_is_the_moment_that_it_says_or_none(text, utc):
    expected = utc and ms_of(datetime.fromisoformat(utc).replace(tzinfo=UTC))
    assert read([text], "iso", "America/New_York", pa.string()) == [expected]
    # Among usual ones, a faster parser is tried first.
    assert read([text, "2024-07-10 01:30:00"], "iso", "America/New_York")[0] == expected


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "text", ["0001-01-01", "0001-01-01T00:00:00", "9999-12-31", "9999-12-31 23:59:59.999"]
)
def test_the_first_and_the_last_date_of_databases_are_times(text, zone):
    """Which a log has where there is none: `index` puts them aside as far away from all others."""
    (ms,) = read([text], "iso", zone, pa.string())
    (day,) = day_numbers(np.array([ms]), zone)
    assert str(date_of(int(day))) == text[:10]


@given(moment=MOMENTS, zone=st.sampled_from(ZONES))
def test_a_local_text_is_what_a_clock_of_the_zone_shows(moment, zone):
    local = moment.replace(tzinfo=ZoneInfo(zone))
    texts = [moment.isoformat(" "), moment.isoformat("T", "milliseconds")]
    assert read(texts, "iso", zone) == [ms_of(local)] * 2


@given(moment=MOMENTS, minutes=st.integers(-18 * 60, 18 * 60))
def test_an_offset_is_added_whatever_the_zone_of_the_log(moment, minutes):
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert read([zoned.isoformat()], "iso", "Asia/Kolkata") == [ms_of(zoned)]


@given(ms=st.integers(-(10**13), 10**14))
def test_a_number_of_any_unit_is_the_same_moment(ms):
    for unit, scale in {"ms": 1, "us": 10**3, "ns": 10**6}.items():
        if abs(ms * scale) < 1 << 63:
            assert read([ms * scale], unit, kind=pa.int64()) == [ms]
            assert read([str(ms * scale)], unit) == [ms]
            assert read([f"{ms * scale:+}", "1.5", "x"], unit)[0] == ms
    assert read([ms // 1000], "s") == [ms // 1000 * 1000]
    assert read([f"{abs(ms) // 1000}.25"], "s") == [abs(ms) // 1000 * 1000 + 250]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Asia/Kolkata"])
def test_a_timestamp_of_parquet_is_read_in_every_unit(unit, zone):
    moment = datetime(2024, 7, 10, 1, 30)
    column = pa.array([moment, None], pa.timestamp(unit)).cast(pa.timestamp(unit, zone))
    shown = moment.replace(tzinfo=UTC if zone else ZoneInfo("Europe/Paris"))
    assert to_ms(column, "s", "Europe/Paris").to_pylist() == [ms_of(shown), None]


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()])
def test_a_date_of_parquet_is_midnight_in_the_zone_of_the_log(kind):
    midnight = datetime(2024, 7, 10, tzinfo=ZoneInfo("Europe/Paris"))
    column = pa.array([date(2024, 7, 10)], kind)
    assert to_ms(column, "s", "Europe/Paris").to_pylist() == [ms_of(midnight)]


@pytest.mark.parametrize("unit", ["s", "ms"])
def test_numbers_beyond_the_calendar_are_no_times(unit):
    beyond = [10**17, -(10**17), float("inf"), float("nan")]
    assert read(beyond[:2], unit) == [None, None]
    assert read([float(number) for number in beyond], unit) == [None] * 4
    assert read([str(number) for number in [*beyond, 10**30]], unit) == [None] * 5


@given(moment=MOMENTS, zone=st.sampled_from(ZONES))
def test_the_day_of_a_moment_is_that_of_a_calendar_in_the_zone(moment, zone):
    ms = ms_of(moment.replace(tzinfo=UTC))
    found = date_of(int(day_numbers(np.array([ms]), zone)[0]))
    assert found == moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date()


@pytest.mark.parametrize(
    ("unit", "number"), [("ns", 1709337599999999999), ("us", 1709337599999999)]
)
def test_a_time_does_not_depend_on_the_other_rows(unit, number):
    alone = read([str(number)], unit)
    assert alone == read([number], unit, kind=pa.int64()) == [1709337599999]
    assert read([str(number), "x", "1.5"], unit)[0] == alone[0]


@pytest.mark.parametrize("text", ["1709337599.9996", "1709337599.9994", "1709337599.1"])
def test_a_fraction_is_rounded_down_as_text_and_as_float(text):
    expected = [int(float(text) * 10_000 // 10)]
    assert read([text], "s") == read([float(text)], "s") == expected
