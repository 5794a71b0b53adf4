"""The daily loop under the real Airflow, Spark Connect, MLflow and registry, in a temporary home.

A small log of day zero and two days goes through both DAGs; then the last day runs again. Traces of
all of it are received, and logs are JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from small_home import running_home

from jobs.local.airflow_client import Airflow
from jobs.local.demo import DAGS, FINAL_STATES, follow
from jobs.local.environment import home_secrets
from jobs.local.outcome import Outcome
from jobs.local.supervisor import Supervisor
from jobs.parts import EMBEDDING_STEPS, RANKER_STEPS
from jobs.settings import Settings, days_between
from tests.otlp_receiver import Receiver, receiving
from tests.small_logs import DAYS

pytestmark = pytest.mark.timeout(900)  # a minute and a half on two idle cores
ZERO = DAYS[0] - timedelta(days=1)  # the history: embeddings, no impressions
LAST = DAYS[1]


class Loop:
    """The running services after both passes of the log, and the state after the first pass."""

    def __init__(
        self, settings: Settings, airflow: Airflow, supervisor: Supervisor, receiver: Receiver
    ) -> None:
        self.settings = settings
        self.airflow = airflow
        self.supervisor = supervisor
        self.receiver = receiver
        self.first = follow(airflow, supervisor, days_between(ZERO, LAST))
        self.lake_after_first = lake_bytes(settings)
        self.runs_after_first = mlflow_runs(settings)
        self.second = follow(airflow, supervisor, [LAST])


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    with receiving() as receiver, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.address)
        home = running_home(tmp_path_factory.mktemp("loop"), 'log_format = "json"\n')
        with home as (settings, airflow, supervisor):
            yield Loop(settings, airflow, supervisor, receiver)


def lake_bytes(settings: Settings) -> dict[str, bytes]:
    """Every committed file of the lake with its bytes; not what it remembers of these files."""
    root = settings.lake.root
    files = {}
    for path in root.rglob("*"):
        committed = "_staging" not in path.parts and path.suffix != ".seen"
        if path.is_file() and committed:
            files[str(path.relative_to(root))] = path.read_bytes()
    return files


def mlflow_runs(settings: Settings) -> set[tuple[str, str]]:
    """The experiment and the id of every run that the tracking server has."""
    found = mlflow(settings, "POST", "experiments/search", json={"max_results": 100})
    experiments = [experiment["experiment_id"] for experiment in found["experiments"]]
    query = {"experiment_ids": experiments, "max_results": 1000}
    runs = mlflow(settings, "POST", "runs/search", json=query).get("runs", [])
    return {(run["info"]["experiment_id"], run["info"]["run_id"]) for run in runs}


def mlflow(settings: Settings, method: str, path: str, **request) -> dict:
    """One request to the REST API of MLflow."""
    api = f"http://127.0.0.1:{settings.services.mlflow_port}/api/2.0/mlflow"
    return httpx.request(method, f"{api}/{path}", **request).raise_for_status().json()


def runs_of_day(airflow: Airflow, dag_id: str, day: date) -> list[dict]:
    return [run for run in airflow.runs(dag_id) if run["partition_key"] == str(day)]


def test_the_days_go_through_both_dags(loop):
    assert loop.first.failures == []
    every_step = set(itertools.product((DAYS[0], LAST), (*EMBEDDING_STEPS, *RANKER_STEPS)))
    of_day_zero = set(itertools.product([ZERO], EMBEDDING_STEPS))
    assert done(loop.first) == every_step | of_day_zero


def test_the_ranker_of_a_day_without_impressions_is_skipped_not_failed(loop):
    board = loop.first.board
    assert {board.cell(ZERO, step).state for step in RANKER_STEPS} == {"skipped"}
    (run,) = runs_of_day(loop.airflow, "ranker_daily", ZERO)
    assert run["state"] == "success"


def done(outcome: Outcome) -> set[tuple[date, str]]:
    """The steps that ran to their end, as (day, step)."""
    return {where for where, cell in outcome.board.cells.items() if cell.state == "done"}


def test_each_days_embeddings_start_the_ranker_of_that_day(loop):
    """Every day runs once and the last one twice, in each DAG; the asset triggers the ranker."""
    for dag_id in DAGS:
        keys = sorted(run["partition_key"] for run in loop.airflow.runs(dag_id))
        assert keys == [str(day) for day in (ZERO, DAYS[0], LAST, LAST)]
    runs = loop.airflow.runs("ranker_daily", order_by="id")[:3]
    assert [run["partition_key"] for run in runs] == [str(ZERO), str(DAYS[0]), str(LAST)]
    assert {run["run_type"] for run in runs} == {"asset_triggered"}
    for earlier, later in itertools.pairwise(runs):
        assert earlier["end_date"] <= later["start_date"]


def test_running_a_day_again_changes_no_byte_and_adds_no_version(loop):
    assert loop.second.failures == []
    assert done(loop.second) == {(day, step) for day, step in done(loop.first) if day == LAST}
    assert lake_bytes(loop.settings) == loop.lake_after_first
    url = f"http://127.0.0.1:{loop.settings.services.registry_port}"
    response = httpx.get(f"{url}/v1/embeddings/author/versions").raise_for_status()
    ids = [version["id"] for version in response.json()]
    assert sorted(ids) == [f"author/{day}.r1" for day in (ZERO, DAYS[0], LAST)]


def test_running_again_continues_the_mlflow_runs(loop):
    assert mlflow_runs(loop.settings) == loop.runs_after_first


def test_every_version_was_read_over_http_as_well(loop):
    for day in (ZERO, DAYS[0], LAST):
        facts = loop.settings.lake.get("consistency", day).facts
        assert (facts["over_http"], facts["ids_compared"] > 0) == (1, True)


def links_of(loop: Loop, dag_id: str, task_id: str) -> dict[str, str]:
    """What the task's page of the first run of the last day links to."""
    run = runs_of_day(loop.airflow, dag_id, LAST)[0]
    path = f"/dags/{dag_id}/dagRuns/{run['dag_run_id']}/taskInstances/{task_id}/links"
    return loop.airflow.call("GET", path)["extra_links"]


def test_the_navigation_leads_to_the_registry_and_to_mlflow(loop):
    addresses = {}
    for plugin in loop.airflow.rows("/plugins", "plugins"):
        for view in plugin["external_views"]:
            addresses[view["name"]] = view["href"]
    assert addresses.keys() == {"Registry", "MLflow"}
    for address in addresses.values():
        assert httpx.get(address).status_code == 200


@pytest.mark.parametrize(
    ("dag_id", "task_id"),
    [
        ("embeddings_daily", "publish"),
        ("embeddings_daily", "consistency"),
        ("ranker_daily", "promote"),
    ],
)
def test_an_airflow_task_links_to_the_version_that_it_published(loop, dag_id, task_id):
    """The champion's newest vectors are those of the day before its training day, or older."""
    link = links_of(loop, dag_id, task_id)["Registry version"]
    assert httpx.get(link).status_code == 200
    version = link.rpartition("/embeddings/")[2]
    published = [f"author/{day}.r1" for day in (ZERO, DAYS[0], LAST)]
    assert version in (published if task_id == "promote" else published[-1:])


def test_an_airflow_task_links_to_its_mlflow_run_and_the_run_links_back(loop):
    link = links_of(loop, "embeddings_daily", "publish")["MLflow run"]
    run_id = link.rpartition("/")[2].partition("?")[0]
    tracked = mlflow(loop.settings, "GET", "runs/get", params={"run_id": run_id})["run"]
    tags = {tag["key"]: tag["value"] for tag in tracked["data"]["tags"]}
    assert tags["evergreen.step"] == "publish"
    assert tags["evergreen.day"] == str(LAST)
    page = f":{loop.settings.services.airflow_port}/dags/embeddings_daily/runs/"
    assert page in tags["evergreen.airflow_address"]


def test_airflows_own_command_would_run_the_same_days(loop):
    """`airflow backfill create` on this home, as the description of the DAG shows it."""
    dag = ["--dag-id", "embeddings_daily", "--reprocess-behavior", "completed"]
    days = ["--from-date", str(ZERO), "--to-date", str(LAST)]
    backfill = ["airflow", "backfill", "create", *dag, *days, "--dry-run"]
    command = [sys.executable, "-m", "jobs.cli", *backfill]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    for day in (ZERO, DAYS[0], LAST):
        assert str(day) in result.stdout
    assert str(DAYS[2]) not in result.stdout


def test_a_trace_leads_from_the_run_to_the_step_to_its_spark_jobs(loop):
    """Every step that was computed, in either DAG; Airflow's tasks are above them."""
    for dag_id, steps in zip(DAGS, (EMBEDDING_STEPS, RANKER_STEPS), strict=True):
        for step in steps:
            spans = loop.receiver.named(step)
            of_last = [span for span in spans if span.attributes["evergreen.day"] == str(LAST)]
            assert len(of_last) == 1, f"{step}: it was computed once, and reused once"
            above = [step, f"worker.{step}", f"task_run.{step}", f"dag_run.{dag_id}"]
            assert loop.receiver.path(of_last[0]) == above
            assert of_last[0].attributes["evergreen.run"]
    jobs = loop.receiver.named("spark job")
    assert {loop.receiver.path(job)[-1] for job in jobs} == {f"dag_run.{dag_id}" for dag_id in DAGS}
    assert {loop.receiver.path(job)[1] for job in jobs} >= {"land", "validate", "matrix", "embed"}


def test_logs_are_json_and_name_the_step(loop):
    """Of the registry, of Airflow's services, and of a task."""
    logs = loop.settings.home / "logs"
    for service in ("registry", "airflow-scheduler"):
        lines = (logs / f"{service}.log").read_text().splitlines()
        assert lines
        assert all(json.loads(line)["level"] for line in lines)
    done = []  # lines of the tasks that found something to compute
    for task in (logs / "tasks").glob("**/task_id=embed/*.log"):
        lines = task.read_text().splitlines()
        done += [json.loads(line) for line in lines if " done after " in line]
    assert {(line["step"], line["embedding"]) for line in done} == {("embed", "author")}
    for line in done:
        assert line["event"].startswith(f"embed/{line['day']} done after ")


def test_no_run_is_scheduled_after_the_last_day_of_the_log(loop):
    """Without a last day, Airflow would run yesterday as soon as it starts."""
    assert {run["run_type"] for run in loop.airflow.runs("embeddings_daily")} == {"backfill"}


def ended(airflow: Airflow, dag_id: str, day: date, patience_s: float = 60) -> dict:
    """The newest run of a day, when it has ended."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        runs = airflow.runs_of_day(dag_id, day)
        if runs and runs[0]["state"] in FINAL_STATES:
            return runs[0]
        time.sleep(0.5)
    raise AssertionError(f"{dag_id} of {day} has not ended: {runs}")


def wait_for_backfills(airflow: Airflow, dag_id: str, patience_s: float = 90) -> None:
    """Until none is active: Airflow notices a while after the last run that one is complete."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        found = airflow.rows("/backfills", "backfills", dag_id=dag_id)
        if all(backfill["completed_at"] for backfill in found):
            return
        time.sleep(0.5)
    raise AssertionError(f"A backfill of {dag_id} has not ended.")


def test_a_failed_task_has_its_error_in_its_log(loop):
    """The day is not in the log: the run fails without a second try."""
    day = date(2023, 1, 1)
    loop.airflow.trigger("embeddings_daily", day)
    run = ended(loop.airflow, "embeddings_daily", day)
    tasks = loop.airflow.tasks("embeddings_daily", run["dag_run_id"])
    (land,) = [task for task in tasks if task["task_id"] == "land"]
    assert run["state"] == "failed"
    assert (land["state"], land["try_number"]) == ("failed", 1)
    assert f"BadInput: {day} is not in the log" in loop.airflow.log(land)


def test_nothing_changed_while_a_run_was_under_way(loop):
    """The first task records the settings and the code; no later one found others."""
    run = runs_of_day(loop.airflow, "ranker_daily", LAST)[0]
    path = f"/dags/ranker_daily/dagRuns/{run['dag_run_id']}/taskInstances/{{}}/xcomEntries/{{}}"
    began = loop.airflow.call("GET", path.format("examples", "began_with"))["value"]
    assert "settings" in str(began)
    result = loop.airflow.call("GET", path.format("promote", "return_value"))["value"]
    assert "promote/" in str(result)
    assert "changed" not in str(result)


def test_every_port_is_bound_to_loopback(loop):
    """Those of the services, of Spark's page, and between Spark's JVM and Python."""
    addresses = set()
    for running in loop.supervisor.running.values():
        for process in running.members():
            for connection in process.net_connections():
                if connection.status == psutil.CONN_LISTEN:
                    addresses.add(connection.laddr)
    services = loop.settings.services
    wanted = {services.airflow_port, services.mlflow_port}
    wanted |= {services.registry_port, services.spark_port}
    assert {address.port for address in addresses} > wanted
    hosts = {address.ip.removeprefix("::ffff:") for address in addresses}
    assert hosts == {"127.0.0.1"}


def test_a_secret_is_in_its_private_file_and_nowhere_else(loop):
    """Not in what `ps` shows, in a log, in a database, or in any file that others may read."""
    home = loop.settings.home
    secrets = {name: key.encode() for name, key in home_secrets(home).items()}
    places = {}
    for running in loop.supervisor.running.values():
        for process in running.members():
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            places[f"{running.service.name}: {words!r}"] = words
    n_processes = len(places)
    assert n_processes >= len(loop.supervisor.running)
    for file in home.rglob("*"):
        if file.is_file() and file.name != "secrets.json":
            places[str(file)] = file.read_bytes()
    assert len(places) > n_processes + 100
    found = []
    for place, content in places.items():
        for name, key in secrets.items():
            if key in content:
                found.append(f"{name} in {place}")
    assert found == []
    assert (home / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_the_watch_starts_a_ranker_whose_event_was_lost(loop):
    """As far as Airflow and the lake know, nothing ever started the ranker of the last day."""
    lake = loop.settings.lake
    for run in loop.airflow.runs_of_day("ranker_daily", LAST):
        loop.airflow.call("DELETE", f"/dags/ranker_daily/dagRuns/{run['dag_run_id']}")
    promoted = lake.get("promote", LAST)
    shutil.rmtree(promoted.path.parent)
    long_ago = time.time() - 7200
    os.utime(lake.get("publish", LAST).path, (long_ago, long_ago))
    loop.airflow.trigger("watch", LAST)
    watch = ended(loop.airflow, "watch", LAST)
    assert watch["state"] == "success"
    tasks = {task["task_id"]: task for task in loop.airflow.tasks("watch", watch["dag_run_id"])}
    assert "as they were published" in loop.airflow.log(tasks["verify"], lines=100)
    log = loop.airflow.log(tasks["look"], lines=100)
    assert f"{LAST}: published, but ranker_daily was never started; it is started now." in log
    assert f"{DAYS[0]}: published and decided." in log
    assert ended(loop.airflow, "ranker_daily", LAST)["state"] == "success"
    assert lake.get("promote", LAST).digest == promoted.digest


def test_a_backfill_is_requested_from_airflow_and_computes_what_is_missing(loop):
    """`evergreen backfill` lists one step, and Airflow's run of the day computes no other."""
    lake = loop.settings.lake
    wait_for_backfills(loop.airflow, "embeddings_daily")
    lost = lake.get("lookalike", LAST)
    shutil.rmtree(lost.path.parent)
    command = [sys.executable, "-m", "jobs.cli", "backfill", "--changed"]
    result = subprocess.run(
        [*command, "--from", str(ZERO), "--to", str(LAST)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    reused = len(EMBEDDING_STEPS + RANKER_STEPS) - 1
    plan = f"{LAST}  run 1, reuse {reused}, from lookalike on: lookalike is missing"
    assert plan in result.stdout
    assert "Airflow runs" in result.stdout
    run = ended(loop.airflow, "embeddings_daily", LAST)
    assert (run["state"], run["run_type"]) == ("success", "backfill")
    assert lake.get("lookalike", LAST).digest == lost.digest
    path = f"/dags/embeddings_daily/dagRuns/{run['dag_run_id']}/taskInstances/{{}}/xcomEntries"
    computed = []
    for step in EMBEDDING_STEPS:
        value = loop.airflow.call("GET", f"{path.format(step)}/return_value")["value"]
        if "computed" in str(value):
            computed.append(step)
    assert computed == ["lookalike"]


def test_the_decay_of_some_days_is_measured_on_demand(loop):
    """No run was scheduled; the days' rankers are too few to grow old, and the log says so."""
    assert loop.airflow.runs("decay_report") == []
    days = {"from": str(ZERO), "to": str(LAST), "seeds": 1}
    request = {"logical_date": None, "conf": days}
    path = "/dags/decay_report/dagRuns"
    run_id = loop.airflow.call("POST", path, json=request)["dag_run_id"]
    deadline = time.monotonic() + 240
    state = "queued"
    while state not in FINAL_STATES and time.monotonic() < deadline:
        time.sleep(0.5)
        state = loop.airflow.call("GET", f"{path}/{run_id}")["state"]
    (task,) = loop.airflow.tasks("decay_report", run_id)
    log = loop.airflow.log(task, lines=100)
    assert state == "success", log
    page = loop.settings.home / "reports" / "experiments" / "decay" / "decay.html"
    assert f"The report is {page}." in log
    assert "After 1 day without a refresh" in log
    assert "Left out: the ranker. There are too few days" in page.read_text()
    found = mlflow(loop.settings, "GET", "experiments/get-by-name?experiment_name=decay")
    assert found["experiment"]["lifecycle_stage"] == "active"


@pytest.mark.slow
def test_a_new_day_does_not_wait_for_a_backfill(loop):
    """Airflow counts the runs of a backfill apart: the new day runs beside its first days."""
    loop.airflow.backfill("embeddings_daily", ZERO, LAST)
    loop.airflow.trigger("embeddings_daily", DAYS[2])
    fresh = ended(loop.airflow, "embeddings_daily", DAYS[2], 300)
    last = ended(loop.airflow, "embeddings_daily", LAST, 300)
    assert fresh["state"] == last["state"] == "success"
    assert last["run_type"] == "backfill"
    assert fresh["end_date"] < last["start_date"]
