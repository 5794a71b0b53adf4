"""A log of six validated days that the tests of all reports share."""

from __future__ import annotations

import pytest
from ranker_lake import DAYS, commit_validated, impressions, ranker_settings

from jobs.reports.daily_log import Log, read_log
from jobs.settings import Settings


@pytest.fixture(scope="session")
def small_settings(spark, tmp_path_factory) -> Settings:
    """Settings of six validated days of 200 impressions. The tests only read them."""
    settings = ranker_settings(tmp_path_factory.mktemp("reports") / "home")
    for day in DAYS:
        commit_validated(settings, day, impressions(day))
    return settings


@pytest.fixture(scope="session")
def log(small_settings) -> Log:
    return read_log(small_settings, print)
