"""Every DAG parses quickly, runs the steps in order, and documents existing commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from itertools import pairwise

import pytest

from jobs.local.environment import ROOT
from jobs.local.pages import VERSION_FACTS
from jobs.parts import (
    ALL_STEPS,
    EMBEDDING_STEPS,
    LEARNING_STEPS,
    LEAVES,
    RANKER_STEPS,
    WORD_STEPS,
)
from jobs.pipeline.plan import module

FILES = sorted(p.stem for p in (ROOT / "dags").glob("*.py") if p.stem not in ("__init__", "common"))
HEAVY = ("pyspark", "pandas", "numpy", "torch", "mlflow", "great_expectations", "sqlalchemy.orm")
TUNING = ("embedding_tuning", "ranker_tuning")
DAG_STEPS = {
    "embeddings_daily": EMBEDDING_STEPS,
    "ranker_daily": RANKER_STEPS,
    "words_weekly": WORD_STEPS,
}

# Airflow's own imports, some of them lazy, come first: only ours are measured, in a fork for each
# file. CPU time, because other processes may have the cores.
PARSE = """
import json, os, sys, time
from importlib import import_module
import airflow.sdk
from airflow.sdk import CronPartitionTimetable, DAG, PartitionedAssetTimetable, chain, dag, task
task.pyspark

def parse(name):
    before, began = set(sys.modules), time.process_time()
    module = import_module(f"dags.{name}")
    seconds = time.process_time() - began
    dags = [x for x in vars(module).values() if isinstance(x, DAG)]
    found = dags[0] if dags else vars(module)[name]()
    tasks = {}
    for t in found.tasks:
        tasks[t.task_id] = {
            "owner": t.owner,
            "retries": t.retries,
            "pool": t.pool,
            "down": sorted(t.downstream_task_ids),
            "outlets": [o.name for o in t.outlets],
            "mapped": t.is_mapped,
            "links": [link.name for link in t.operator_extra_links],
        }
    return {
        "file": name,
        "seconds": seconds,
        "imported": sorted(set(sys.modules) - before),
        "doc": found.doc_md,
        "tags": sorted(found.tags),
        "id": found.dag_id,
        "catchup": found.catchup,
        "max_active_runs": found.max_active_runs,
        "timezone": str(getattr(found.timetable, "timezone", "")),
        "cron": getattr(found.timetable, "expression", ""),
        "scheduled": found.timetable.can_be_scheduled,
        "end_date": str(found.end_date),
        "order": [t.task_id for t in found.topological_sort()],
        "tasks": tasks,
    }

for name in sys.argv[1:]:
    if os.fork() == 0:
        print("parsed", json.dumps(parse(name)), flush=True)
        os._exit(0)
    os.wait()
"""


@cache
def parse_files(names: tuple[str, ...], further: str, promotion: str) -> tuple[dict, str]:
    """The DAG of each file that could be parsed, by its name, and what was printed as errors.

    Each is parsed in a process of its own, as Airflow does.
    """
    env = os.environ | {
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "EVERGREEN_TIMEZONE": "Asia/Kolkata",
        "EVERGREEN_LATENESS": "3.5",
        "EVERGREEN_LAST_DAY": "2024-03-02",
        "EVERGREEN_FURTHER_NAMES": further,
        "EVERGREEN_PROMOTION": promotion,
    }
    command = [sys.executable, "-c", PARSE, *names]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT)
    found = {}
    for line in ran.stdout.splitlines():
        if line.startswith("parsed "):
            parsed = json.loads(line.removeprefix("parsed "))
            found[parsed["file"]] = parsed
    return found, ran.stderr


def parse(name: str, further: str = "", promotion: str = "automatic") -> dict:
    """One DAG file; without other variables than usual, all are parsed together."""
    usual = (further, promotion) == ("", "automatic")
    found, errors = parse_files(tuple(FILES) if usual else (name,), further, promotion)
    assert name in found, errors
    return found[name]


@pytest.fixture(params=FILES)
def parsed(request) -> dict:
    return parse(request.param)


@pytest.fixture(params=DAG_STEPS)
def of_steps(request) -> dict:
    """A DAG whose tasks are steps."""
    return parse(request.param)


def test_the_file_and_the_dag_have_one_name(parsed):
    assert parsed["id"] == parsed["file"]


def test_it_parses_in_milliseconds_and_imports_nothing_heavy(parsed):
    assert parsed["seconds"] < 0.5
    assert not [name for name in parsed["imported"] if name.startswith(HEAVY)]


def test_it_runs_the_steps_in_their_order_one_task_each(of_steps):
    """A leaf runs beside the steps that follow the one before it."""
    steps = DAG_STEPS[of_steps["id"]]
    assert sorted(of_steps["order"]) == sorted(steps)
    down = {step: of_steps["tasks"][step]["down"] for step in steps}
    trunk = [step for step in steps if step not in LEAVES]
    for earlier, later in pairwise(trunk):
        beside = [steps[at] for at in range(1, len(steps)) if steps[at - 1] == earlier]
        assert down[earlier] == sorted({later, *beside})
    assert not any(down[leaf] for leaf in LEAVES if leaf in steps)
    assert not down[trunk[-1]]


def test_each_further_embedding_has_tasks_of_its_own_from_the_matrix_on():
    """Those of the first one, and of the data, are as they are without it."""
    alone = parse("embeddings_daily")["tasks"]
    several = parse("embeddings_daily", "author_als,author-2")["tasks"]
    groups = ("author_als.", "author-2.")
    assert set(several) - set(alone) == {g + step for g in groups for step in LEARNING_STEPS}
    for group in groups:
        for earlier, later in pairwise(LEARNING_STEPS):
            assert several[group + earlier]["down"] == [group + later]
        for step in LEARNING_STEPS:
            as_first = alone[step] | {"down": several[group + step]["down"], "outlets": []}
            assert several[group + step] == as_first
    assert several["matrix"]["down"] == sorted(["embed", *(g + "embed" for g in groups)])
    assert {name: several[name] for name in alone if name != "matrix"} == {
        name: alone[name] for name in alone if name != "matrix"
    }


def test_every_task_is_retried(parsed):
    assert all(task["retries"] >= 1 for task in parsed["tasks"].values())


def test_exactly_the_steps_that_need_spark_share_its_pool(of_steps):
    for name, task in of_steps["tasks"].items():
        assert (task["pool"] == "spark") == module(name).SPARK, name


def test_days_run_one_at_a_time_and_without_catch_up(parsed):
    assert not parsed["catchup"]
    # Several questions may wait for a person.
    assert (parsed["max_active_runs"] == 1) == (parsed["id"] != "ranker_approval")


def test_a_person_is_asked_after_the_day_only_where_one_promotes():
    automatic, by_hand = parse("ranker_daily"), parse("ranker_daily", promotion="by hand")
    added = set(by_hand["tasks"]) - set(automatic["tasks"])
    assert added == {"ask", "request_approval"}
    assert by_hand["tasks"]["promote"]["down"] == ["ask"]
    assert parse("ranker_approval", promotion="by hand")["tasks"]["approve"]["down"] == ["promote"]


def test_the_nightly_run_follows_the_clock_of_the_log():
    """Three and a half hours after the day's end in India, up to the last day of the log."""
    nightly = parse("embeddings_daily")
    assert (nightly["cron"], nightly["timezone"]) == ("30 3 * * *", "Asia/Kolkata")
    assert nightly["end_date"] == "2024-03-02 22:00:00+00:00"
    watch = parse("watch")
    assert (watch["cron"], watch["timezone"]) == ("30 9 * * *", "Asia/Kolkata")
    assert watch["end_date"] == "None"


def test_the_decay_of_a_closed_log_is_measured_on_demand_only():
    """Of a growing one on Mondays, after the watch."""
    decay = parse("decay_report")
    assert (decay["cron"], decay["timezone"]) == ("30 9 * * 1", "Asia/Kolkata")
    assert decay["end_date"] == "2024-03-02 22:00:00+00:00"


def test_the_week_that_has_ended_runs_on_mondays():
    weekly = parse("words_weekly")
    assert (weekly["cron"], weekly["timezone"]) == ("30 9 * * 1", "Asia/Kolkata")
    # The log ends on a Saturday; its last week runs on the Monday, at 9:30 in India.
    assert weekly["end_date"] == "2024-03-04 04:00:00+00:00"


@pytest.mark.parametrize("name", TUNING)
def test_options_are_tuned_on_demand_by_one_task_per_trial(name):
    found = parse(name)
    assert not found["scheduled"]
    assert found["order"] == ["begin", "trial", "result"]
    assert [task["mapped"] for task in found["tasks"].values()] == [False, True, False]


def test_every_task_links_to_its_mlflow_run_and_some_to_a_version_in_the_registry(of_steps):
    for name, task in of_steps["tasks"].items():
        version = ["Registry version"] if name in VERSION_FACTS else []
        assert task["links"] == ["MLflow run", *version], name


def test_it_has_an_owner_and_tags_of_its_own(parsed):
    assert {task["owner"] for task in parsed["tasks"].values()} == {"evergreen"}
    own = {"embeddings_daily": "embeddings", "ranker_daily": "ranker", "watch": "watch"}
    own |= {"decay_report": "decay", "ranker_approval": "ranker", "words_weekly": "words"}
    own |= dict.fromkeys(TUNING, "tuning")
    assert parsed["tags"] == sorted(["evergreen", own[parsed["id"]]])


def test_it_documents_its_purpose_and_what_to_do_on_failure(parsed):
    assert len(parsed["doc"]) > 300
    assert re.search(r"fail", parsed["doc"])


def test_only_publish_triggers_the_ranker(of_steps):
    with_outlets = [name for name, task in of_steps["tasks"].items() if task["outlets"]]
    assert with_outlets == (["publish"] if of_steps["id"] == "embeddings_daily" else [])


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
    assert bool(shown) == (parsed["id"] in ("embeddings_daily", "words_weekly"))


def test_every_dag_has_a_file_and_every_step_a_file_of_its_own():
    others = ["decay_report", "ranker_approval", "watch"]
    assert sorted(FILES) == sorted([*DAG_STEPS, *TUNING, *others])
    files = {path.stem for path in (ROOT / "jobs" / "steps").glob("*.py")} - {"__init__"}
    assert files == set(ALL_STEPS)
