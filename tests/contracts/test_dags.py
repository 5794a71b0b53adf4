"""Every DAG parses quickly, runs the steps in order, and documents existing commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import pairwise

import pytest

from jobs.local.environment import ROOT
from jobs.pipeline.plan import EMBEDDING_STEPS, RANKER_STEPS, STEPS, module

FILES = sorted(p.stem for p in (ROOT / "dags").glob("*.py") if p.stem not in ("__init__", "common"))
HEAVY = ("pyspark", "pandas", "numpy", "torch", "mlflow", "great_expectations", "sqlalchemy.orm")
DAG_STEPS = {"embeddings_daily": EMBEDDING_STEPS, "ranker_daily": RANKER_STEPS}

# Airflow's own imports, some of them lazy, come first: only ours are measured.
PARSE = """
import json, sys, time
from importlib import import_module
import airflow.sdk
from airflow.sdk import CronPartitionTimetable, DAG, PartitionedAssetTimetable, chain, dag, task
task.pyspark
before, began = set(sys.modules), time.perf_counter()
module = import_module(f"dags.{sys.argv[1]}")
seconds = time.perf_counter() - began
dags = [x for x in vars(module).values() if isinstance(x, DAG)]
found = dags[0] if dags else vars(module)[sys.argv[1]]()
tasks = {}
for t in found.tasks:
    tasks[t.task_id] = {
        "retries": t.retries,
        "pool": t.pool,
        "down": sorted(t.downstream_task_ids),
        "outlets": [o.name for o in t.outlets],
        "links": [link.name for link in t.operator_extra_links],
    }
print(json.dumps({
    "seconds": seconds,
    "imported": sorted(set(sys.modules) - before),
    "doc": found.doc_md,
    "id": found.dag_id,
    "catchup": found.catchup,
    "max_active_runs": found.max_active_runs,
    "timezone": str(getattr(found.timetable, "timezone", "")),
    "cron": getattr(found.timetable, "expression", ""),
    "end_date": str(found.end_date),
    "order": [t.task_id for t in found.topological_sort()],
    "tasks": tasks,
}))
"""


@pytest.fixture(scope="module", params=FILES)
def parsed(request, tmp_path_factory) -> dict:
    """One DAG file, parsed in a separate process as Airflow parses it."""
    home = tmp_path_factory.mktemp("airflow")
    env = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "EVERGREEN_TIMEZONE": "Asia/Kolkata",
        "EVERGREEN_LATENESS": "3.5",
        "EVERGREEN_LAST_DAY": "2024-03-02",
    }
    command = [sys.executable, "-c", PARSE, request.param]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1]) | {"file": request.param}


def test_the_file_and_the_dag_have_one_name(parsed):
    assert parsed["id"] == parsed["file"]


def test_it_parses_in_milliseconds_and_imports_nothing_heavy(parsed):
    assert parsed["seconds"] < 0.5
    assert not [name for name in parsed["imported"] if name.startswith(HEAVY)]


def test_it_runs_the_steps_in_their_order_one_task_each(parsed):
    steps = DAG_STEPS[parsed["id"]]
    assert tuple(parsed["order"]) == steps
    for earlier, later in pairwise(steps):
        assert parsed["tasks"][earlier]["down"] == [later]


def test_every_task_is_retried(parsed):
    assert all(task["retries"] >= 1 for task in parsed["tasks"].values())


def test_exactly_the_steps_that_need_spark_share_its_pool(parsed):
    for name, task in parsed["tasks"].items():
        assert (task["pool"] == "spark") == module(name).SPARK, name


def test_days_run_one_at_a_time_and_without_catch_up(parsed):
    assert (parsed["max_active_runs"], parsed["catchup"]) == (1, False)


def test_the_nightly_run_follows_the_clock_of_the_log(parsed):
    """Three and a half hours after the day's end in India, up to the last day of the log."""
    if parsed["id"] == "embeddings_daily":
        assert (parsed["cron"], parsed["timezone"]) == ("30 3 * * *", "Asia/Kolkata")
        assert parsed["end_date"] == "2024-03-02 22:00:00+00:00"


def test_every_task_links_to_its_mlflow_run(parsed):
    assert all(task["links"] == ["MLflow run"] for task in parsed["tasks"].values())


def test_it_documents_its_purpose_and_what_to_do_on_failure(parsed):
    assert len(parsed["doc"]) > 300
    assert re.search(r"fail", parsed["doc"])


def test_only_publish_triggers_the_ranker(parsed):
    with_outlets = [name for name, task in parsed["tasks"].items() if task["outlets"]]
    assert with_outlets == (["publish"] if parsed["id"] == "embeddings_daily" else [])


def test_the_commands_in_its_prose_exist(parsed, tmp_path):
    """Airflow's own parser accepts every `airflow …` command in the prose."""
    code = (
        "import sys; from airflow.cli.cli_parser import get_parser;"
        "get_parser().parse_args(sys.argv[1:])"
    )
    env = os.environ | {"AIRFLOW_HOME": str(tmp_path)}
    for command in re.findall(r"`(airflow [^`]*)`", parsed["doc"]):
        arguments = [sys.executable, "-c", code, *command.split()[1:]]
        ran = subprocess.run(arguments, env=env, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr


def test_the_prose_of_the_embeddings_shows_how_to_run_old_days(parsed):
    """Otherwise the test above would pass on prose without any command."""
    shown = re.findall(r"`(airflow backfill [^`]*)`", parsed["doc"])
    assert bool(shown) == (parsed["id"] == "embeddings_daily")


def test_every_step_has_a_file_and_every_file_is_a_step_of_a_dag():
    assert sorted(FILES) == sorted(DAG_STEPS)
    files = {path.stem for path in (ROOT / "jobs" / "steps").glob("*.py")} - {"__init__"}
    assert files == set(STEPS)
