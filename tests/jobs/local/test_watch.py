"""What the watch starts and says: a pure table, and the states it reads from a lake and Airflow."""

from __future__ import annotations

import json
import os
import time
from datetime import date, timedelta
from itertools import product
from types import SimpleNamespace

import httpx
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from dags.common import look
from jobs.local import watch as watching
from jobs.local.airflow_client import Airflow
from jobs.local.watch import EXPLANATIONS, DayState, judge, watch
from jobs.settings import ServiceSettings
from tests.ports import reserve_port

DAY = date(2024, 3, 2)
EVE = DAY - timedelta(days=1)
COMPLETE = {"published": True, "wanted": True, "tested": True, "decided": True}
LOST = {"published": True, "wanted": True}


@pytest.mark.parametrize(
    ("facts", "verdict", "late"),
    [
        (COMPLETE, "complete", False),
        (LOST, "lost", True),
        (LOST | {"tested": True}, "lost", False),
        (LOST | {"young": True}, "young", True),
        (LOST | {"paused": True}, "paused", True),
        (LOST | {"run": "queued"}, "queued", True),
        (LOST | {"run": "running", "young": True}, "running", True),
        (LOST | {"run": "failed"}, "failed", True),
        (LOST | {"run": "success"}, "success", True),
        ({"published": True}, "not ranked", False),
        (LOST | {"refused": True, "wanted": False}, "refused", True),
        ({"refused": True}, "refused", True),
        ({}, "unpublished", True),
        ({"run": "failed"}, "unpublished", True),
        ({"run": "queued"}, "coming", True),
    ],
)
def test_a_lost_ranker_is_started_and_a_late_day_has_a_sentence(facts, verdict, late):
    state = DayState(DAY, **facts)
    assert state.verdict() == verdict
    findings = judge([DayState(EVE, **COMPLETE), state], DAY)
    assert findings.trigger == ([DAY] if verdict == "lost" else [])
    assert [line.split(":")[0] for line in findings.lines] == [str(EVE), str(DAY)]
    assert EXPLANATIONS[verdict] in findings.lines[1]
    assert bool(findings.alarm) == late
    if late:
        assert f"{DAY}: {EXPLANATIONS[verdict]}" in findings.alarm
        assert findings.on_its_way == (verdict in ("young", "queued", "running", "coming"))
    # Of a closed log, and of the days before the newest one, nothing is late.
    assert judge([state], None).alarm == judge([state], EVE).alarm == ""


def test_every_combination_of_facts_has_an_explanation():
    flags = ("published", "refused", "wanted", "tested", "decided", "young", "paused")
    for values in product((False, True), repeat=len(flags)):
        for run in ("", "queued", "running", "success", "failed"):
            state = DayState(DAY, run=run, **dict(zip(flags, values, strict=True)))
            assert state.verdict() in EXPLANATIONS


# With a lake, and a small server in place of Airflow


class Server:
    """Answers as Airflow would: runs of both DAGs, and whether the ranker is paused."""

    def __init__(self) -> None:
        self.runs: list[dict] = []
        self.paused = False
        self.started: list[dict] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        dag_id = request.url.path.split("/")[4]
        if request.method == "POST":
            self.started.append(json.loads(request.content) | {"dag_id": dag_id})
            return httpx.Response(200, json={})
        if request.url.path.endswith("dagRuns"):
            found = [run for run in self.runs if run["dag_id"] == dag_id]
            return httpx.Response(200, json={"dag_runs": found, "total_entries": len(found)})
        return httpx.Response(200, json={"is_paused": self.paused})


@pytest.fixture
def server(monkeypatch) -> Server:
    server = Server()

    def client(services: ServiceSettings) -> Airflow:
        airflow = Airflow(services)
        transport = httpx.MockTransport(server)
        airflow._http = httpx.Client(base_url=airflow.address, transport=transport)
        return airflow

    monkeypatch.setattr(watching, "Airflow", client)
    return server


def commit(settings, step: str, day: date, **facts) -> None:
    with settings.lake.writing(step, day, recipe="s") as staging:
        staging.facts |= facts
        if step == "validate":
            (staging.path / "impressions").mkdir()
            (staging.path / "impressions" / "part-0.parquet").touch()


def publish(settings, day: date, age_h: float = 5) -> None:
    commit(settings, "validate", day, trusted=True, rows_impressions=1)
    commit(settings, "publish", day)
    written = time.time() - age_h * 3600
    os.utime(settings.lake.get("publish", day).path, (written, written))


def decide(settings, day: date) -> None:
    commit(settings, "evaluate", day)
    commit(settings, "promote", day)


def run_of(day: date, state: str, dag_id: str = "ranker_daily", ended: str | None = None) -> dict:
    return {"dag_id": dag_id, "partition_key": str(day), "state": state, "end_date": ended}


def test_the_ranker_of_each_lost_day_is_started_in_order(settings, server):
    for n in range(4):
        publish(settings, EVE - timedelta(days=n))
    decide(settings, EVE - timedelta(days=2))
    findings = watch(settings, EVE)
    lost = [EVE - timedelta(days=3), EVE - timedelta(days=1), EVE]
    assert findings.trigger == lost
    assert server.started == [
        {"dag_id": "ranker_daily", "logical_date": None, "partition_key": str(day)} for day in lost
    ]


def test_a_run_of_an_older_version_of_the_day_does_not_count(settings, server):
    """A day that was run again, and whose second event was lost."""
    publish(settings, DAY)
    server.runs = [run_of(DAY, "success", ended="2024-03-03T00:00:00Z")]
    assert watch(settings, DAY).trigger == [DAY]
    server.runs = [run_of(DAY, "success", ended="2099-01-01T00:00:00Z")]
    assert watch(settings, DAY).trigger == []


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_run_that_has_not_ended_is_not_started_twice(settings, server, state):
    publish(settings, DAY)
    server.runs = [run_of(DAY, state)]
    findings = watch(settings, DAY)
    assert (findings.trigger, findings.on_its_way) == ([], True)


def test_a_version_of_this_moment_and_a_paused_ranker_are_left_alone(settings, server):
    publish(settings, DAY, age_h=0)
    assert watch(settings, DAY).trigger == []
    publish(settings, EVE)
    server.paused = True
    findings = watch(settings, DAY)
    assert findings.trigger == []
    assert "paused in Airflow" in findings.lines[0]


def test_days_before_the_chain_are_not_ranked(settings, server):
    publish(settings, EVE)
    ranker = settings.ranker.model_copy(update={"start_day": DAY})
    findings = watch(settings.model_copy(update={"ranker": ranker}), EVE)
    assert (findings.trigger, findings.alarm) == ([], "")


@pytest.mark.parametrize("live", [True, False])
def test_a_newer_day_is_missed_only_while_the_log_grows(settings, server, live):
    publish(settings, EVE)
    decide(settings, EVE)
    chosen = settings.model_copy(update={"services": ServiceSettings(live=live)})
    findings = watch(chosen, DAY)
    assert len(findings.lines) == (2 if live else 1)
    assert (f"{DAY}: not published" in findings.alarm) == live


def test_a_new_home_has_nothing_to_miss(settings, server):
    assert watch(settings, DAY) == watching.Findings()


# The task


@pytest.mark.parametrize(
    ("runs", "raised"),
    [
        ([run_of(DAY, "running", "embeddings_daily")], AirflowException),
        ([run_of(DAY, "failed", "embeddings_daily")], AirflowFailException),
        ([], AirflowFailException),
    ],
)
def test_the_task_fails_with_the_sentence_at_once_unless_the_day_is_on_its_way(
    settings, server, monkeypatch, runs, raised
):
    publish(settings, EVE)
    decide(settings, EVE)
    server.runs = runs
    monkeypatch.setattr("jobs.settings.load_settings", lambda: settings)
    with pytest.raises(AirflowException, match=f"No champion has been evaluated.*{DAY}") as caught:
        look(SimpleNamespace(partition_key=str(DAY)))
    assert type(caught.value) is raised


def test_the_task_logs_a_line_a_day_and_returns_what_it_started(
    settings, server, monkeypatch, caplog
):
    publish(settings, EVE)
    decide(settings, EVE)
    publish(settings, DAY)
    commit(settings, "evaluate", DAY)
    monkeypatch.setattr("jobs.settings.load_settings", lambda: settings)
    with caplog.at_level("INFO"):
        assert look(SimpleNamespace(partition_key=str(DAY))) == {"started": [str(DAY)]}
    assert f"{EVE}: published and decided." in caplog.text
    assert f"{DAY}: published, but ranker_daily was never started; it is started" in caplog.text


def test_airflow_that_does_not_respond_is_tried_again(settings, monkeypatch):
    services = ServiceSettings(airflow_port=reserve_port())
    stopped = settings.model_copy(update={"services": services})
    publish(stopped, DAY)
    monkeypatch.setattr("jobs.settings.load_settings", lambda: stopped)
    with pytest.raises(httpx.ConnectError):
        look(SimpleNamespace(partition_key=str(DAY)))
