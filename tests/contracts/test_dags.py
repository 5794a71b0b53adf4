"""What every DAG promises: it parses at once, tells what it is for, runs our steps in order, and its commands exist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from jobs.local.services import ROOT
from jobs.pipeline.plan import EMBEDDING_STEPS, RANKER_STEPS

FILES = sorted(p.stem for p in (ROOT / "dags").glob("*.py") if p.stem not in ("__init__", "common"))
HEAVY = ("pyspark", "pandas", "numpy", "torch", "mlflow", "great_expectations", "sqlalchemy.orm")
STEPS = {"embeddings_daily": EMBEDDING_STEPS, "ranker_daily": RANKER_STEPS}
NEED_SPARK = {"land", "validate", "matrix", "embed", "fold_in", "lookalike", "examples"}

PARSE = """
import json, sys, time
from importlib import import_module
import airflow.sdk
from airflow.sdk import CronPartitionTimetable, DAG, PartitionedAssetTimetable, chain, dag, task  # lazy
task.pyspark
before, began = set(sys.modules), time.perf_counter()
module = import_module(f"dags.{sys.argv[1]}")
seconds = time.perf_counter() - began
(found,) = [x for x in vars(module).values() if isinstance(x, DAG)] or [module.__dict__[sys.argv[1]]()]
print(json.dumps({
    "seconds": seconds, "imported": sorted(set(sys.modules) - before), "doc": found.doc_md, "id": found.dag_id,
    "catchup": found.catchup, "max_active_runs": found.max_active_runs, "paused": found.is_paused_upon_creation,
    "order": [t.task_id for t in found.topological_sort()],
    "tasks": {t.task_id: {
        "retries": t.retries, "pool": t.pool, "down": sorted(t.downstream_task_ids),
        "outlets": [o.name for o in t.outlets], "links": [link.name for link in t.operator_extra_links],
    } for t in found.tasks},
}))
"""


@pytest.fixture(scope="module", params=FILES)
def parsed(request, tmp_path_factory) -> dict:
    """One DAG file, read in a process of its own as Airflow reads it."""
    home = tmp_path_factory.mktemp("airflow")
    env = os.environ | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "false"}
    told = subprocess.run(
        [sys.executable, "-c", PARSE, request.param],
        env=env,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout.splitlines()[-1]) | {"file": request.param}


def test_the_file_and_the_dag_have_one_name(parsed):
    assert parsed["id"] == parsed["file"]


def test_it_parses_in_milliseconds_and_imports_nothing_heavy(parsed):
    assert parsed["seconds"] < 0.5
    assert not [m for m in parsed["imported"] if m.startswith(HEAVY)]


def test_it_runs_the_steps_in_their_order_one_task_each(parsed):
    steps = STEPS[parsed["id"]]
    assert tuple(parsed["order"]) == steps
    assert all(parsed["tasks"][a]["down"] == [b] for a, b in pairwise(steps))


def test_every_task_is_tried_again(parsed):
    assert all(task["retries"] >= 1 for task in parsed["tasks"].values())


def test_the_steps_that_need_spark_share_its_pool(parsed):
    assert {
        name for name, task in parsed["tasks"].items() if task["pool"] == "spark"
    } == NEED_SPARK & set(parsed["tasks"])


def test_days_run_one_after_the_other_and_only_when_asked(parsed):
    assert (parsed["max_active_runs"], parsed["catchup"]) == (1, False)


def test_every_task_leads_to_its_mlflow_run(parsed):
    assert all(task["links"] == ["MLflow run"] for task in parsed["tasks"].values())


def test_it_says_what_it_is_for_and_what_to_do_when_it_fails(parsed):
    assert len(parsed["doc"]) > 300
    assert re.search(r"fail", parsed["doc"])


def test_only_publishing_tells_the_ranker(parsed):
    told = [name for name, task in parsed["tasks"].items() if task["outlets"]]
    assert told == (["publish"] if parsed["id"] == "embeddings_daily" else [])


def test_the_commands_in_its_prose_exist(parsed, tmp_path):
    """Every `airflow …` in it is accepted by Airflow's own parser."""
    for command in re.findall(r"`(airflow [^`]*)`", parsed["doc"]):
        code = "import sys; from airflow.cli.cli_parser import get_parser; get_parser().parse_args(sys.argv[1:])"
        env = os.environ | {"AIRFLOW_HOME": str(tmp_path)}
        told = subprocess.run(
            [sys.executable, "-c", code, *command.split()[1:]],
            env=env,
            capture_output=True,
            text=True,
        )
        assert told.returncode == 0, told.stderr


def test_no_step_is_left_out():
    assert sorted(FILES) == sorted(STEPS)
    assert Path(ROOT / "dags").is_dir()
