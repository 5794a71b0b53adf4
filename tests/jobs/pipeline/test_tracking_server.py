"""A tracking server that is not there, that goes away while a step runs, or that fails."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.process import BaseProcess
from urllib.request import urlopen

import pytest
from ports import reserve_port
from tracked_runs import FORK, commit, execute, in_child, runs, step_run, tag

from jobs.pipeline import plan
from jobs.pipeline.tracking.connection import open_client
from jobs.pipeline.tracking.models import ModelRegistry
from jobs.pipeline.tracking.runs import Tracker, TrackingError
from jobs.settings import Settings


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    """What a user sets is kept: these tests do not wait for retries."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def tracked_at(settings: Settings, port: int) -> Settings:
    mlflow = settings.mlflow.model_copy(update={"uri": f"http://user:secret@127.0.0.1:{port}"})
    return settings.model_copy(update={"mlflow": mlflow})


def serve(settings: Settings, port: int) -> None:
    """MLflow's server on the database of the settings."""
    from mlflow.server import constants

    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = settings.mlflow_uri
    os.environ[constants.REGISTRY_STORE_URI_ENV_VAR] = settings.mlflow_uri
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = str(settings.home / "mlflow/artifacts")
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    import uvicorn

    warnings.simplefilter("ignore")  # the server's own, about its libraries
    from mlflow.server.fastapi_app import app

    uvicorn.run(app, port=port, log_level="error")


@contextmanager
def server(settings: Settings, port: int) -> Iterator[BaseProcess]:
    """The server in a process of its own, forked because MLflow takes seconds to import."""
    process = FORK.Process(target=in_child, args=(lambda: serve(settings, port),))
    process.start()
    try:
        wait_for(f"http://127.0.0.1:{port}/health")
        yield process
    finally:
        stop(process)


def wait_for(address: str) -> None:
    for _ in range(300):
        try:
            urlopen(address).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{address} does not answer")


def stop(process: BaseProcess) -> None:
    process.kill()
    process.join()


@contextmanager
def failing_server() -> Iterator[int]:
    """The port of a proxy whose MLflow is gone."""

    class Unavailable(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(503)

        do_POST = do_GET

        def log_message(self, format, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Unavailable) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy.server_port
        proxy.shutdown()


@contextmanager
def no_server() -> Iterator[int]:
    yield reserve_port()


@pytest.mark.parametrize("down", [no_server, failing_server])
def test_without_a_server_a_step_fails_before_it_computes(tracked_settings, down):
    """One error with the address, without its password; a link is not worth an error."""
    day = date(2035, 1, 1)
    with down() as port:
        settings = tracked_at(tracked_settings, port)
        message = rf"http://127.0.0.1:{port} failed to start the run of gate {day}: .*mlflow.uri"
        with pytest.raises(TrackingError, match=f"(?s){message}") as caught:
            execute(settings, "gate", day)
        assert "secret" not in str(caught.value)
        assert len(str(caught.value)) < 800
        assert settings.lake.find("gate", day) is None
        assert Tracker(settings).address(plan.tracked(settings, "gate"), day) is None
        with pytest.raises(TrackingError, match="look for the alias 'champion'"):
            ModelRegistry(Tracker(settings)).alias_day("champion")


def test_a_server_that_goes_away_costs_no_result(tracked_settings, client):
    """A step's own error is still raised; a partition is kept, and recorded when it is back."""
    failed, lost = date(2035, 1, 2), date(2035, 1, 3)
    port = reserve_port()
    settings = tracked_at(tracked_settings, port)
    gate = plan.tracked(settings, "gate")
    with server(tracked_settings, port) as process:
        execute(settings, "gate", failed)
        address = Tracker(settings).address(gate, failed)
        execute(settings, "gate", failed)
        _, (first, second) = runs(client, "ranker", failed)
        assert first.info.run_id in address
        assert second.info.run_id in Tracker(settings).address(gate, failed)
        refused = pytest.raises(TrackingError, match=f"failed to record gate/{lost}")
        with refused, step_run(settings, "gate", lost) as run:
            partition = commit(settings, "gate", lost, difference=0.25)
            with pytest.raises(ZeroDivisionError) as caught, step_run(settings, "examples", lost):
                stop(process)
                1 / 0  # noqa: B018
            assert "failed to record the failure of examples" in caught.value.__notes__[0]
            run.record(partition)
    assert settings.lake.get("gate", lost) == partition
    # The same database without the server, which would take seconds to start again.
    tracker = Tracker(tracked_settings)
    assert not tracker.recorded(gate, partition)
    with step_run(tracked_settings, "gate", lost, computes=False) as run:
        run.record(partition)
    assert tracker.recorded(gate, partition)
    _, nested = runs(client, "ranker", lost)
    (recorded,) = [run for run in nested if tag(run, "step") == "gate"]
    assert recorded.data.metrics == {"difference": 0.25}


def test_artifacts_of_the_server_are_reached_without_it(tmp_path):
    """Its experiments name them `mlflow-artifacts:/…`; it keeps them beside its database."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = open_client(uri, tmp_path)
    experiment = client.create_experiment("served", artifact_location="mlflow-artifacts:/7")
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "a plot", "report/plot of the day.txt")
    assert (tmp_path / "artifacts/7" / run / "artifacts/report/plot of the day.txt").exists()
    assert [file.path for file in client.list_artifacts(run, "report")] == [
        "report/plot of the day.txt"
    ]


def test_a_database_that_does_not_answer_is_named_at_once(tmp_path):
    """MLflow itself would ask for minutes."""
    uri = "postgresql+psycopg://somebody@127.0.0.1:1/evergreen_mlflow"
    with pytest.raises(TrackingError, match="127.0.0.1:1/evergreen_mlflow cannot be opened") as no:
        open_client(uri, tmp_path)
    assert "somebody" not in str(no.value)
