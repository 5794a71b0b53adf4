"""The words of two weeks under the real Airflow, Spark Connect and registry, by one backfill."""

from __future__ import annotations

import time
from datetime import date

import httpx
import pytest

from jobs.local.airflow_client import Airflow
from jobs.local.demo import FINAL_STATES
from jobs.local.services import running_services
from jobs.parts import WORD_STEPS
from jobs.settings import load_settings
from tests.ports import reserve_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MONDAYS = (date(2024, 1, 1), date(2024, 1, 8))
SUNDAYS = (date(2024, 1, 7), date(2024, 1, 14))
SETTINGS = """
home = "home"
[source]
kind = "simulated"
consumers = 10
producers = 150
topics = 4
days = 14
[words]
texts = "simulated"
dim = 8
epochs = 3
[mlflow]
uri = "off"
[spark]
master = "local[2]"
driver_memory = "1g"
partitions = 1
members = 1
[services]
live = false
airflow_port = {}
mlflow_port = {}
registry_port = {}
spark_port = {}
"""


def test_two_weeks_are_backfilled_and_published(tmp_path, monkeypatch):
    file = tmp_path / "words.toml"
    file.write_text(SETTINGS.format(*(reserve_port() for _ in range(4))))
    monkeypatch.setenv("EVERGREEN_SETTINGS", str(file))
    settings = load_settings()
    with Airflow(settings.services) as airflow, running_services(settings) as supervisor:
        wait_until(lambda: "words_weekly" in airflow.dags(), supervisor, 120)
        airflow.backfill("words_weekly", MONDAYS[0], MONDAYS[-1])
        wait_until(lambda: len(ended(airflow)) == len(MONDAYS), supervisor, 700)
        assert {run["partition_key"]: run["state"] for run in ended(airflow)} == {
            str(monday): "success" for monday in MONDAYS
        }
        url = f"http://127.0.0.1:{settings.services.registry_port}"
        versions = httpx.get(f"{url}/v1/embeddings/words/versions").raise_for_status().json()
        assert sorted(row["id"] for row in versions) == [f"words/{day}.r1" for day in SUNDAYS]
        assert httpx.get(f"{url}/embeddings/words").status_code == 200
        assert "words with the most" in httpx.get(f"{url}/embeddings/words/latest").text
    for step in WORD_STEPS:
        assert settings.lake.days(step) == list(SUNDAYS)


def ended(airflow: Airflow) -> list[dict]:
    return [run for run in airflow.runs("words_weekly") if run["state"] in FINAL_STATES]


def wait_until(done, supervisor, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while not done():
        supervisor.check()
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(1)
