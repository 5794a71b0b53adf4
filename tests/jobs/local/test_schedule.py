"""The nightly run is for the day that has just ended in the log's zone: Airflow's own timetable.

The real class of Airflow walks a year of runs, changes of summer time included.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import httpx
import pytest
import structlog
from airflow.timetables.base import DagRunInfo, TimeRestriction
from airflow.timetables.trigger import CronPartitionTimetable

from jobs.local.airflow_client import Airflow
from jobs.local.schedule import daily_cron, last_run, run_time, watch_cron, weekly_cron
from jobs.settings import ServiceSettings

YEAR = 2024
FIRST = date(YEAR, 1, 1)
LATEST = datetime(YEAR + 1, 1, 5, tzinfo=UTC)
# Summer time begins at 2:00 in Los Angeles and Auckland, at midnight in Beirut, and in Nuuk at
# 23:00, on the eve of a Sunday.
CASES = [
    *[("America/Los_Angeles", hours) for hours in (0, 2.5, 3.5, 23)],
    *[("Asia/Kolkata", hours) for hours in (0, 3.5, 23)],
    *[("Pacific/Auckland", hours) for hours in (0, 2, 3.5, 23)],
    *[("UTC", hours) for hours in (0, 3.5, 23)],
    ("Asia/Beirut", 0),
    ("America/Nuuk", 23),
]


@pytest.fixture(autouse=True)
def quiet():
    """The timetable logs a line for every run."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.configure(**before)


def timetable(zone: str, lateness_h: float) -> CronPartitionTimetable:
    """The one of dags/embeddings_daily.py, as the scheduler has it."""
    cron = daily_cron(zone, lateness_h, YEAR)
    return CronPartitionTimetable(cron, timezone=zone, run_offset=-1, key_format="%Y-%m-%d")


def scheduled(table: CronPartitionTimetable, latest: datetime) -> Iterator[DagRunInfo]:
    """Its runs from the first day's on, as the scheduler creates them; two years at most."""
    earliest = datetime.combine(FIRST, time(), UTC) + timedelta(hours=13)  # FIRST has begun
    allowed = TimeRestriction(earliest, latest, catchup=True)
    last = None
    for _ in range(730):
        last = table.next_dagrun_info_v2(last_dagrun_info=last, restriction=allowed)
        if last is None:
            return
        yield last


@pytest.mark.parametrize(("zone", "lateness_h"), CASES)
def test_every_day_runs_once_when_it_has_ended_in_its_zone(zone, lateness_h):
    """Until the last day of a closed log, and not a day longer."""
    last_day = date(YEAR + 1, 1, 2)
    at = run_time(zone, lateness_h, YEAR)
    keys = []
    for info in scheduled(timetable(zone, lateness_h), last_run(str(last_day), zone, lateness_h)):
        local = info.run_after.astimezone(ZoneInfo(zone))
        day = date.fromisoformat(info.partition_key)
        keys.append(day)
        # By the clock of the zone: the day is over, and the next one is not.
        assert local.date() == day + timedelta(days=1)
        assert local.time() == at
    assert keys[-1] == last_day
    assert len(keys) >= 366
    for earlier, later in pairwise(keys):
        assert later - earlier == timedelta(days=1)


@pytest.mark.parametrize("lateness_h", [0, 3.5, 17.5, 18, 23, 23.99])
def test_the_watch_looks_hours_after_a_day_has_run_and_at_that_day(lateness_h):
    cron, offset = watch_cron("America/Los_Angeles", lateness_h, YEAR)
    table = CronPartitionTimetable(
        cron, timezone="America/Los_Angeles", run_offset=offset, key_format="%Y-%m-%d"
    )
    seen = {info.partition_key: info.run_after for info in scheduled(table, LATEST)}
    assert len(seen) >= 366
    for info in scheduled(timetable("America/Los_Angeles", lateness_h), LATEST):
        if info.partition_key in seen:
            waited = seen[info.partition_key] - info.run_after
            assert timedelta(hours=5) <= waited <= timedelta(hours=7)  # an hour for summer time


def requested_bounds(first: date, last: date) -> tuple[datetime, datetime]:
    """The bounds that our client of Airflow's API requests for a backfill of these days."""
    requests = []

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(json.loads(request.content))
        return httpx.Response(200, json={"created_at": "2024-05-01T00:00:00Z"})

    airflow = Airflow(ServiceSettings())
    transport = httpx.MockTransport(respond)
    airflow._http = httpx.Client(base_url=airflow.address, transport=transport)
    airflow.backfill("embeddings_daily", first, last)
    (request,) = requests
    return datetime.fromisoformat(request["from_date"]), datetime.fromisoformat(request["to_date"])


@pytest.mark.parametrize(("zone", "lateness_h"), CASES)
def test_a_backfill_runs_exactly_the_days_that_were_asked_for(zone, lateness_h):
    first, last = date(YEAR, 3, 8), date(YEAR, 4, 2)
    earliest, latest = requested_bounds(first, last)
    table = timetable(zone, lateness_h)
    runs = table.iter_partition_dagrun_infos(earliest=earliest, latest=latest)
    keys = [run.partition_key for run in runs]
    assert (keys[0], keys[-1], len(keys)) == (str(first), str(last), (last - first).days + 1)


@pytest.mark.parametrize(
    ("zone", "lateness_h", "expected"),
    [
        ("UTC", 0, "00:00"),
        ("UTC", 3.5, "03:30"),
        ("UTC", 23.9999, "23:59"),
        ("America/Los_Angeles", 1.5, "01:30"),  # in autumn twice a day: the first one is meant
        ("America/Los_Angeles", 2.5, "03:00"),  # in spring there is no 2:30
        ("Asia/Beirut", 0, "01:00"),
        ("America/Nuuk", 23, "22:59"),
        ("Pacific/Apia", 0, "00:00"),  # has skipped a whole day, long ago
    ],
)
def test_a_time_that_summer_time_skips_is_moved(zone, lateness_h, expected):
    assert run_time(zone, lateness_h, YEAR) == time.fromisoformat(expected)


def test_what_runs_once_a_week_runs_with_the_watch_of_a_monday():
    daily, _ = watch_cron("Asia/Kolkata", 3.5, 2024)
    assert (daily, weekly_cron("Asia/Kolkata", 3.5, 2024)) == ("30 9 * * *", "30 9 * * 1")
