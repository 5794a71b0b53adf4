"""`ranker.promotion = "by hand"` under the real Airflow: question, answer and champion."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from small_home import running_home

from jobs.local.airflow_client import Airflow
from jobs.local.demo import follow
from jobs.settings import days_between
from tests.small_logs import DAYS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ZERO = DAYS[0] - timedelta(days=1)
APPROVAL = "ranker_approval"
BY_HAND = '[ranker]\npromotion = "by hand"\n'


def until(what: str, check):
    """What `check` returns once it is not false."""
    for _ in range(180):
        if found := check():
            return found
        time.sleep(1)
    raise AssertionError(f"{what} did not come")


def ended(airflow: Airflow) -> dict | None:
    (run,) = airflow.runs(APPROVAL)
    return run if run["state"] in ("success", "failed") else None


def test_a_ranker_waits_for_a_person_and_serves_once_approved(tmp_path):
    """The days go on meanwhile; a day that runs again does not ask again."""
    with running_home(tmp_path, BY_HAND) as (settings, airflow, supervisor):
        outcome = follow(airflow, supervisor, days_between(ZERO, DAYS[2]))
        assert outcome.failures == []
        before = settings.lake.get("gate", DAYS[2]).facts
        assert before["champion_after"] == str(DAYS[0])
        assert before["proposed"] == str(DAYS[1])

        (run,) = until("the approval", lambda: airflow.runs(APPROVAL))
        details = (
            f"/dags/{APPROVAL}/dagRuns/{run['dag_run_id']}/taskInstances/approve/-1/hitlDetails"
        )
        asked = until("the question", lambda: waiting(airflow))
        assert asked["subject"] == f"Shall the ranker of {DAYS[1]} serve?"
        assert "| AUC |" in asked["body"]
        assert follow(airflow, supervisor, [DAYS[2]]).failures == []
        assert len(airflow.runs(APPROVAL)) == 1

        airflow.call("PATCH", details, json={"chosen_options": ["Approve"], "params_input": {}})
        assert until("the end", lambda: ended(airflow))["state"] == "success"
        after = settings.lake.get("gate", DAYS[2]).facts
        assert (after["champion_after"], after["proposed"]) == (str(DAYS[1]), "")
        assert after["ruled_by"]


def waiting(airflow: Airflow) -> dict | None:
    """The question that Airflow's page of required actions shows."""
    listed = airflow.rows("/dags/~/dagRuns/~/hitlDetails", "hitl_details")
    return listed[0] if listed else None
