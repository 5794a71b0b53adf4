"""One tracking database for all tests of tracking: creating its tables takes seconds."""

from __future__ import annotations

import pytest
from mlflow.tracking import MlflowClient
from ranker_lake import DAYS, commit_days, ranker_settings

from jobs.pipeline.tracking.runs import Tracker
from jobs.settings import Settings


@pytest.fixture(scope="session")
def tracked_settings(tmp_path_factory) -> Settings:
    home = tmp_path_factory.mktemp("tracked") / "h [1]{a}é" / "home"
    settings = ranker_settings(home, mlflow_uri="")
    commit_days(settings, DAYS[:4], n=5)
    return settings


@pytest.fixture
def client(tracked_settings) -> MlflowClient:
    return Tracker(tracked_settings).client
