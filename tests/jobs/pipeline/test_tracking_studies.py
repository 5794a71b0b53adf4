"""Studies in a real MLflow: a run for each, and nested ones for their trials."""

from __future__ import annotations

import os
import signal
import sqlite3
from datetime import date
from pathlib import Path

from ranker_lake import DAYS
from tracked_runs import FORK

from jobs.settings import Settings
from jobs.settings.tuning import TuningSettings
from jobs.tuning import run
from jobs.tuning.study import Plan

VALUE = {DAYS[0]: 0.5, DAYS[1]: 0.6, DAYS[2]: 0.7}


def test_runs_are_nested_and_a_killed_one_is_closed(tracked_settings, client):
    """Both databases have a table of one name, so they are two."""
    tuning = TuningSettings(embedding={"dim": [2, 3, 4]})
    settings: Settings = tracked_settings.model_copy(update={"tuning": tuning})
    plan = Plan.of(settings, "embedding", list(VALUE))

    def killed(of_trial: Settings, day: date) -> float:
        if day == DAYS[1]:
            os.kill(os.getpid(), signal.SIGKILL)
        return VALUE[day]

    child = FORK.Process(target=run.run_trial, args=(settings, plan, 0, killed))
    child.start()
    child.join()
    for slot in range(2):
        run.run_trial(settings, plan, slot, lambda of_trial, day: VALUE[day])
    result = run.finish(settings, plan)
    experiment = client.get_experiment_by_name("tuning").experiment_id
    runs = client.search_runs([experiment], order_by=["attributes.start_time ASC"])
    (parent,) = [found for found in runs if "mlflow.parentRunId" not in found.data.tags]
    nested = [found for found in runs if found is not parent]
    assert {found.data.tags["mlflow.parentRunId"] for found in nested} == {parent.info.run_id}
    assert [found.info.status for found in nested] == ["KILLED", "FINISHED", "FINISHED"]
    assert parent.data.metrics["best_ndcg20"] == result.value
    values = client.get_metric_history(nested[1].info.run_id, "ndcg20")
    assert [(value.step, round(value.value, 6)) for value in values] == [
        (0, 0.5),
        (1, 0.55),
        (2, 0.6),
    ]
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"best.toml", "parallel.png"} <= files
    for file in ("mlflow/mlflow.db", "tuning/optuna.db"):
        with sqlite3.connect(Path(settings.home) / file) as database:
            assert database.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
