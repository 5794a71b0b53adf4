"""The client of Airflow's API, with responses of a small server in place of Airflow."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from jobs.local.airflow_client import PAGE, Airflow, AirflowError
from jobs.settings import ServiceSettings


def client_of(
    respond: Callable[[httpx.Request], httpx.Response], services: ServiceSettings | None = None
) -> Airflow:
    airflow = Airflow(services or ServiceSettings())
    transport = httpx.MockTransport(respond)
    airflow._http = httpx.Client(base_url=airflow.address, transport=transport)
    return airflow


def test_a_token_is_fetched_when_it_is_missing_or_has_expired():
    valid = "first"

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(200, json={"access_token": valid})
        if request.headers.get("Authorization") != f"Bearer {valid}":
            return httpx.Response(401)
        return httpx.Response(200, json={"authorized_with": valid})

    airflow = client_of(respond)
    assert airflow.call("GET", "/version") == {"authorized_with": "first"}
    valid = "second"
    assert airflow.call("GET", "/version") == {"authorized_with": "second"}


def test_a_login_that_is_required_is_an_error_with_the_variable_that_requires_it():
    def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403 if request.url.path == "/auth/token" else 401)

    with pytest.raises(AirflowError, match=r"requires a login.*ALL_ADMINS"):
        client_of(respond).call("GET", "/version")


def test_a_refused_request_is_an_error_with_its_reason():
    airflow = client_of(lambda request: httpx.Response(409, text="another backfill is active"))
    message = r"POST /backfills with status 409: another backfill is active"
    with pytest.raises(AirflowError, match=message):
        airflow.call("POST", "/backfills")


def test_a_listing_is_read_page_by_page():
    n_rows = 2 * PAGE + 1
    everything = [{"dag_id": f"dag-{number}"} for number in range(n_rows)]
    offsets = []

    def respond(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        limit = int(request.url.params["limit"])
        offsets.append(offset)
        page = everything[offset : offset + limit]
        return httpx.Response(200, json={"dags": page, "total_entries": n_rows})

    assert client_of(respond).dags() == [row["dag_id"] for row in everything]
    assert offsets == [0, PAGE, 2 * PAGE]


def test_the_log_ends_with_the_exception_and_has_no_folding_marks():
    events = [
        {"event": "::group::Pre task execution logs"},
        {"event": "starting"},
        {
            "event": "Task failed",
            "error_detail": [{"exc_type": "BadInput", "exc_value": "the day is not in the log"}],
        },
    ]
    task = {"dag_id": "d", "dag_run_id": "r", "task_id": "land", "try_number": 2}

    def respond(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/v2/dags/d/dagRuns/r/taskInstances/land/logs/2"
        return httpx.Response(200, json={"content": events})

    log = client_of(respond).log(task)
    assert log.splitlines() == ["starting", "Task failed", "BadInput: the day is not in the log"]
    assert client_of(respond).log(task, lines=1).endswith("BadInput: the day is not in the log")


def test_a_password_is_exchanged_for_a_token_and_never_part_of_an_error():
    valid = "the right password"

    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            login = {"username": "evergreen", "password": valid}
            right = request.method == "POST" and json.loads(request.content) == login
            return httpx.Response(201, json={"access_token": "t"}) if right else httpx.Response(401)
        authorized = request.headers.get("Authorization") == "Bearer t"
        return httpx.Response(200 if authorized else 401, json={"ok": authorized})

    assert client_of(respond, ServiceSettings(password=valid)).call("GET", "/dags") == {"ok": True}
    wrong = client_of(respond, ServiceSettings(password="the wrong password"))
    with pytest.raises(
        AirflowError, match=r"refused the login of 'evergreen'.*password"
    ) as refused:
        wrong.call("GET", "/dags")
    assert "the wrong password" not in str(refused.value)
