"""What one pass over the rows of a day says about their times."""

from __future__ import annotations

from datetime import date

import pytest

from jobs.checks.counting import RESOLUTIONS, count_reasons, since_midnight
from jobs.sources.days import day_bounds_ms

ZONES = ["UTC", "Asia/Kathmandu", "America/St_Johns"]  # +5:45 and -3:30
DAY = date(2024, 3, 1)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("unit", [*RESOLUTIONS, ""])
def test_the_resolution_is_that_of_times_in_the_zone_of_the_log(spark, zone, unit):
    """Whole units of that zone's own day, which are not whole ones of the day in UTC."""
    start_ms, end_ms = day_bounds_ms(DAY, zone)
    step_ms = RESOLUTIONS.get(unit, 61_000)
    times = [(time_ms, "") for time_ms in range(start_ms, end_ms, step_ms)]
    rows = spark.createDataFrame(times, "time_ms long, reason string")
    assert count_reasons(rows, start_ms, 0.0).resolution == unit


@pytest.mark.parametrize("zone", ZONES)
def test_no_time_is_too_far_away_to_be_counted(spark, zone):
    """A number that the log calls a time may be any; the difference from midnight overflowed."""
    start_ms = day_bounds_ms(DAY, zone)[0]
    times = [-(2**63), 2**63 - 1, 0, start_ms, start_ms - 1]
    rows = spark.createDataFrame(
        [(time_ms, "") for time_ms in times], "time_ms long, reason string"
    )
    assert count_reasons(rows, start_ms, 0.0).reasons == {"": len(times)}
    for length in RESOLUTIONS.values():
        found = rows.selectExpr(f"{since_midnight(start_ms, length)} as rest").collect()
        assert [row["rest"] for row in found] == [(ms - start_ms) % length for ms in times]
