"""Examples of four days, which the tests of the ranker's steps share."""

from __future__ import annotations

import pytest
from ranker_lake import DAYS, commit_days, copied, ranker_settings

from jobs.settings import Settings
from jobs.steps import evaluate, examples, gate, promote, train


@pytest.fixture(scope="session")
def four_days(spark, tmp_path_factory) -> Settings:
    """Settings of a lake with them. The tests copy it."""
    settings = ranker_settings(tmp_path_factory.mktemp("days") / "home")
    commit_days(settings, DAYS[:4])
    for day in DAYS[:4]:
        examples.run(spark, settings, day)
    return settings


@pytest.fixture(scope="session")
def decided(four_days, tmp_path_factory) -> Settings:
    """Three days of the chain, and the examples of the fourth. The tests copy it."""
    settings = copied(four_days, tmp_path_factory.mktemp("decided") / "home")
    for day in DAYS[:3]:
        for job in (evaluate, train, gate, promote):
            job.run(None, settings, day)
    return settings
