"""The task of a step: no failure of what is written for people hides how the step itself ended."""

from __future__ import annotations

import logging
from datetime import date
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags import common
from jobs import parts
from jobs.errors import BadInput, SettingsError, Skip, UntrustedDay
from jobs.local import pages
from jobs.pipeline import provenance, running
from jobs.pipeline.tracking.runs import Tracker
from tests.ports import reserve_port
from tests.small_logs import DAYS, write_kuairand

DAY = date(2024, 3, 1)
SETTINGS = """
home = "home"
[source]
kind = "kuairand"
path = "log"
[mlflow]
uri = "{}"
"""


class TaskInstance:
    """As much of Airflow's as a step uses; XComs by their key, of the one task of these tests."""

    task_id = "of these tests"

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.xcoms: dict[str, object] = {}

    def xcom_push(self, key: str, value: object) -> None:
        if self.fails:
            raise ConnectionError("the API server does not respond")
        self.xcoms[key] = value

    def xcom_pull(self, task_ids: str, key: str) -> object:
        if self.fails:
            raise ConnectionError("the API server does not respond")
        return self.xcoms.get(key)


@pytest.fixture
def settings_file(tmp_path, monkeypatch):
    file = tmp_path / "my.toml"
    file.write_text(SETTINGS.format("off"))
    monkeypatch.setenv("EVERGREEN_SETTINGS", str(file))
    return file


def ending_with(outcome: Exception | None):
    """A step that ends with this error, or commits a partition."""

    def request(*_):
        if outcome is not None:
            raise outcome
        partition = SimpleNamespace(step="train", key=f"train/{DAY}", digest="d1", facts={})
        return SimpleNamespace(partition=partition, reused=True)

    return request


DONE = {"partition": f"train/{DAY}", "digest": "d1", "result": "reused"}


def run(name: str, ti: TaskInstance, key: str | None = str(DAY)) -> dict[str, str]:
    return common.execute(name, SimpleNamespace(partition_key=key), ti, None)


@pytest.mark.parametrize("failing", ["nothing", "xcom", "tracker", "both"])
@pytest.mark.parametrize(
    ("outcome", "raised"),
    [
        (None, None),
        (Skip("no impressions"), AirflowSkipException),
        (BadInput("no such file"), AirflowFailException),
        (UntrustedDay("too few rows"), AirflowFailException),
        (SettingsError("no such option"), AirflowFailException),
        (OSError("disk full"), OSError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_step_ends_as_it_ended_whatever_else_fails(
    settings_file, monkeypatch, caplog, outcome, raised, failing
):
    monkeypatch.setattr(running, "request", ending_with(outcome))
    if failing in ("tracker", "both"):
        settings_file.write_text(SETTINGS.format(f"http://127.0.0.1:{reserve_port()}"))
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    ti = TaskInstance(fails=failing in ("xcom", "both"))
    if raised is None:
        assert run("train", ti) == DONE
    else:
        with pytest.raises(raised) as caught:
            run("train", ti)
        assert str(outcome) in str(caught.value)
    warned = "the address of the MLflow run" in caplog.text
    assert warned == (failing in ("xcom", "both"))  # without MLflow there is no address


@pytest.mark.parametrize("key", [None, "", "yesterday", "2024-3-1", "2024-03-01T00:00:00"])
def test_a_run_without_a_day_fails_without_another_attempt(settings_file, key):
    with pytest.raises(AirflowFailException, match="Trigger it with a day as its key"):
        run("land", TaskInstance(), key)


def test_settings_that_cannot_be_read_fail_without_another_attempt(settings_file):
    settings_file.write_text("home = ")
    with pytest.raises(AirflowFailException, match="not valid TOML"):
        run("land", TaskInstance())


@pytest.mark.parametrize("part", [parts.EMBEDDING_STEPS, parts.RANKER_STEPS])
def test_a_run_says_once_per_task_that_its_settings_or_code_changed(
    settings_file, monkeypatch, caplog, part
):
    """The step runs all the same: what it needs is computed again where it is out of date."""
    monkeypatch.setattr(running, "request", ending_with(None))
    ti = TaskInstance()
    same = DONE
    assert run(part[0], ti) == run(part[1], ti) == same
    assert caplog.records == []
    settings_file.write_text(SETTINGS.format("off") + "[embedding]\ndim = 8\n")
    changed = run(part[1], ti)
    assert changed.items() >= same.items()
    assert changed["changed"].startswith("the settings changed from ")
    monkeypatch.setattr(provenance, "code_commit", lambda: "another commit")
    assert "and the code changed from" in run(part[-1], ti)["changed"]
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage().split(",")[0] for record in warnings] == [
        "Since this run began"
    ] * 2


def test_a_run_whose_first_task_left_no_record_is_not_said_to_have_changed(
    settings_file, monkeypatch, caplog
):
    monkeypatch.setattr(running, "request", ending_with(None))
    assert "changed" not in run("publish", TaskInstance())
    assert caplog.records == []


def test_the_step_that_publishes_links_to_its_version(settings_file, monkeypatch):
    """Where the registry has lost the version, the step ends as it ended, without a link."""
    facts = {"version": f"author/{DAY}@0123"}
    partition = SimpleNamespace(step="publish", key=f"publish/{DAY}", digest="d1", facts=facts)
    done = SimpleNamespace(partition=partition, reused=False)
    monkeypatch.setattr(running, "request", lambda *_: done)
    ti = TaskInstance()
    assert run("publish", ti)["result"] == "computed"
    assert "registry" not in ti.xcoms
    version = SimpleNamespace(id=f"author/{DAY}.r1")
    monkeypatch.setattr(pages, "published_version", lambda *_: version)
    run("publish", ti)
    assert ti.xcoms["registry"] == f"http://127.0.0.1:8090/embeddings/author/{DAY}.r1"
    link = common.RegistryVersion().get_link(None, ti_key=ti)
    assert link == ti.xcoms["registry"]


def test_the_link_to_mlflow_has_no_password(settings_file, monkeypatch):
    """Airflow keeps it in its database and shows it to everybody."""
    monkeypatch.setattr(running, "request", ending_with(None))
    page = "mlflow.example.org:5000/#/experiments/1/runs/2?workflowType=machine_learning"
    monkeypatch.setattr(Tracker, "address", lambda *_: f"https://user:secret@{page}")
    ti = TaskInstance()
    run("train", ti)
    assert ti.xcoms["mlflow"] == f"https://{page}"


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        (str(DAYS[0]), str(DAYS[1]), "has 2 days of the log, .* A decay needs at least three"),
        (None, "2020-01-01", "has 0 days of the log"),
    ],
)
def test_a_decay_that_cannot_be_measured_fails_without_another_attempt(
    settings_file, first, last, message
):
    write_kuairand(settings_file.parent / "log")
    with pytest.raises(AirflowFailException, match=message):
        common.report_decay({"from": first, "to": last, "seeds": 1})
