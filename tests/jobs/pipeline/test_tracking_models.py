"""Registering a model: after kills at each moment, and twice."""

from __future__ import annotations

import json
from datetime import date, timedelta

import mlflow
import pytest
from mlflow.entities import LoggedModelStatus
from mlflow.tracking import MlflowClient
from tracked_runs import FORK, commit_model, in_child, killed_at, runs, step_run

from jobs.pipeline.tracking.models import ModelRegistry
from jobs.pipeline.tracking.runs import Tracker
from jobs.pipeline.tracking.step_run import StepRun
from jobs.steps import train

MOMENTS = {
    "log_model_artifacts": MlflowClient,  # the model exists, without its files
    "register_model": mlflow,  # it is logged, not registered
    "set_logged_model_tags": MlflowClient,  # it is registered, and does not know it
    "finish": StepRun,  # everything but the end of the run
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_moment_leaves_one_version_after_the_next_attempt(
    tracked_settings, client, moment
):
    """One version, one model with its files, and the run that is left lists it."""
    settings = tracked_settings
    day = date(2033, 1, 1) + timedelta(days=list(MOMENTS).index(moment))
    trained = commit_model(settings, day)

    def work():
        with step_run(settings, "train", day) as run:
            run.record(trained)
            train.track(Tracker(settings), trained)

    killed_at(MOMENTS[moment], moment, work)
    for _ in range(2):
        work()
    identity = f"tags.`evergreen.partition` = 'train/{day}@{trained.digest}'"
    (version,) = client.search_model_versions(identity)
    experiment = client.get_experiment_by_name("ranker").experiment_id
    (model,) = client.search_logged_models([experiment], identity)
    assert model.status == LoggedModelStatus.READY
    assert version.source == f"models:/{model.model_id}"
    links = json.loads(model.tags["mlflow.modelVersions"])
    assert links == [{"name": "ranker", "version": version.version}]
    # Two executions, and each lists the model, once.
    _, nested = runs(client, "ranker", day)
    for run in nested:
        (output,) = client.get_run(run.info.run_id).outputs.model_outputs
        assert output.model_id == model.model_id
    assert len(nested) == 2


def test_two_processes_register_one_version(tracked_settings, client):
    """`train` and `promote` may do it at the same moment."""
    trained = commit_model(tracked_settings, date(2033, 2, 1))
    barrier = FORK.Barrier(2)

    def work():
        barrier.wait()
        ModelRegistry(Tracker(tracked_settings)).register(trained)

    children = [FORK.Process(target=in_child, args=(work,)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    identity = f"tags.`evergreen.partition` = 'train/2033-02-01@{trained.digest}'"
    assert len(client.search_model_versions(identity)) == 1
