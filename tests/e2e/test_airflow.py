"""The daily loop under the real Airflow, Spark Connect, MLflow and registry, on ports and in a home of its own.

A small log of day zero and two days goes through both DAGs; then the last day goes through both again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest

from jobs.local.airflow_client import Airflow
from jobs.local.demo import DAGS, await_dags, follow
from jobs.local.services import running_services
from jobs.pipeline.plan import EMBEDDING_STEPS, RANKER_STEPS
from jobs.settings import Settings, load_settings
from tests.jobs.local.test_supervisor import free_port
from tests.small_logs import DAYS, write_kuairand

pytestmark = pytest.mark.timeout(900)  # a minute and a half on two idle cores
ZERO = DAYS[0] - timedelta(days=1)  # the history: embeddings, no impressions
LAST = DAYS[1]
SETTINGS = """
home = "home"
[source]
kind = "kuairand"
path = "log"
[spark]
master = "local[2]"
driver_memory = "1g"
[matrix]
min_engagements = 1
[embedding]
name = "author"
dim = 2
[services]
live = false
airflow_port = {}
mlflow_port = {}
registry_port = {}
spark_port = {}
"""


class Loop:
    """The services with the log run through them twice, and what was found after each time."""

    def __init__(self, settings: Settings, airflow: Airflow, supervisor) -> None:
        self.settings, self.airflow = settings, airflow
        days = [ZERO + timedelta(days=n) for n in range((LAST - ZERO).days + 1)]
        self.first = follow(airflow, supervisor, days)
        self.lake_after_first, self.runs_after_first = lake_bytes(settings), mlflow_runs(settings)
        self.second = follow(airflow, supervisor, [LAST])


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("loop")
    write_kuairand(folder / "log", history=True)
    file = folder / "small.toml"
    file.write_text(SETTINGS.format(*(free_port() for _ in range(4))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_SETTINGS", str(file))
        settings = load_settings()
        with running_services(settings) as supervisor:
            airflow = Airflow(settings.services.airflow_port)
            await_dags(airflow, supervisor)
            yield Loop(settings, airflow, supervisor)


def lake_bytes(settings: Settings) -> dict[str, bytes]:
    """Every committed file of the lake with its bytes."""
    root = settings.lake.root
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and "_staging" not in p.parts
    }


def mlflow_runs(settings: Settings) -> set[tuple[str, str]]:
    """Every run that the tracking server has: its experiment and id."""
    api = mlflow_api(settings)
    found = (
        httpx.post(f"{api}/experiments/search", json={"max_results": 100})
        .raise_for_status()
        .json()["experiments"]
    )
    asked = {"experiment_ids": [e["experiment_id"] for e in found], "max_results": 1000}
    runs = httpx.post(f"{api}/runs/search", json=asked).raise_for_status().json().get("runs", [])
    return {(run["info"]["experiment_id"], run["info"]["run_id"]) for run in runs}


def mlflow_api(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.services.mlflow_port}/api/2.0/mlflow"


def test_the_days_go_through_both_dags(loop):
    assert loop.first.failures == []
    board = loop.first.board
    assert {(d, s) for d in (DAYS[0], LAST) for s in (*EMBEDDING_STEPS, *RANKER_STEPS)} <= done(
        loop.first
    )
    assert {board.cell(ZERO, s).state for s in EMBEDDING_STEPS} == {"done"}


def test_the_ranker_of_a_day_without_impressions_is_skipped_not_failed(loop):
    assert {loop.first.board.cell(ZERO, s).state for s in RANKER_STEPS} == {"skipped"}
    (run,) = [r for r in loop.airflow.runs("ranker_daily") if r["partition_key"] == str(ZERO)]
    assert run["state"] == "success"


def done(outcome) -> set[tuple[date, str]]:
    return {where for where, cell in outcome.board.cells.items() if cell.state == "done"}


def test_each_days_embeddings_start_the_ranker_of_that_day(loop):
    """Every day once and the last one twice, in each DAG; the ranker's by the asset, in the order of the days."""
    for dag_id in DAGS:
        keys = sorted(run["partition_key"] for run in loop.airflow.runs(dag_id))
        assert keys == [str(day) for day in (ZERO, DAYS[0], LAST, LAST)]
    runs = loop.airflow.runs("ranker_daily", order_by="id")[:3]
    assert [run["partition_key"] for run in runs] == [str(ZERO), str(DAYS[0]), str(LAST)]
    assert {run["run_type"] for run in runs} == {"asset_triggered"}
    assert (
        runs[0]["end_date"] <= runs[1]["start_date"] <= runs[1]["end_date"] <= runs[2]["start_date"]
    )


def test_running_a_day_again_changes_no_byte_and_adds_no_version(loop):
    assert loop.second.failures == []
    assert done(loop.second) == {(day, step) for day, step in done(loop.first) if day == LAST}
    assert lake_bytes(loop.settings) == loop.lake_after_first
    url = f"http://127.0.0.1:{loop.settings.services.registry_port}"
    assert (
        httpx.get(f"{url}/api/embeddings/author/versions").raise_for_status().text.count(".r1") >= 3
    )
    assert ".r2" not in httpx.get(f"{url}/api/embeddings/author/versions").text


def test_running_again_continues_the_mlflow_runs(loop):
    assert mlflow_runs(loop.settings) == loop.runs_after_first


def test_an_airflow_task_leads_to_its_mlflow_run_and_that_back_to_it(loop):
    (run,) = [r for r in loop.airflow.runs("embeddings_daily") if r["partition_key"] == str(LAST)][
        :1
    ]
    path = f"/dags/embeddings_daily/dagRuns/{run['dag_run_id']}/taskInstances/publish/links"
    link = loop.airflow.call("GET", path)["extra_links"]["MLflow run"]
    run_id = link.rpartition("/")[2].partition("?")[0]
    told = (
        httpx.get(f"{mlflow_api(loop.settings)}/runs/get", params={"run_id": run_id})
        .raise_for_status()
        .json()
    )
    tags = {tag["key"]: tag["value"] for tag in told["run"]["data"]["tags"]}
    assert tags["evergreen.step"] == "publish"
    assert tags["evergreen.day"] == str(LAST)
    assert (
        f":{loop.settings.services.airflow_port}/dags/embeddings_daily/runs/"
        in tags["evergreen.airflow_address"]
    )


def test_airflows_own_command_would_make_the_same_runs(loop):
    """`airflow backfill create` on this home, as the DAG's page says it."""
    days = [
        "--from-date",
        str(ZERO),
        "--to-date",
        str(LAST),
        "--reprocess-behavior",
        "completed",
        "--dry-run",
    ]
    command = ["airflow", "backfill", "create", "--dag-id", "embeddings_daily", *days]
    told = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *command], capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 0, told.stderr
    assert [str(day) in told.stdout for day in (ZERO, DAYS[0], LAST, DAYS[2])] == [
        True,
        True,
        True,
        False,
    ]


def test_nothing_runs_that_was_not_asked_for(loop):
    """Airflow would start the run of yesterday by itself, had the log no last day."""
    assert {run["run_type"] for run in loop.airflow.runs("embeddings_daily")} == {"backfill"}


def test_a_failed_task_tells_its_error(loop):
    """A day that the log does not have: the run fails at once, without another try, and its log says why."""
    day = str(date(2023, 1, 1))
    loop.airflow.call(
        "POST", "/dags/embeddings_daily/dagRuns", json={"logical_date": None, "partition_key": day}
    )
    for _ in range(120):
        (run,) = [r for r in loop.airflow.runs("embeddings_daily") if r["partition_key"] == day]
        if run["state"] in ("success", "failed"):
            break
        time.sleep(0.5)
    (land,) = [
        t
        for t in loop.airflow.tasks("embeddings_daily", run["dag_run_id"])
        if t["task_id"] == "land"
    ]
    assert (run["state"], land["state"], land["try_number"]) == ("failed", "failed", 1)
    assert day in json.dumps(loop.airflow.log(land))
