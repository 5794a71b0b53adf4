"""Tracking in a real MLflow on SQLite: runs of days and steps, models, aliases."""

from __future__ import annotations

import subprocess
import sys
from datetime import date

import mlflow
import numpy as np
import pytest
from ranker_lake import DAYS, ranker_settings
from tracked_runs import SPEC, commit, commit_model, runs, step_run

from jobs.errors import Skip, UntrustedDay
from jobs.pipeline import plan, running
from jobs.pipeline.freshness import Freshness
from jobs.pipeline.tracking.models import ModelRegistry
from jobs.pipeline.tracking.runs import Tracker
from jobs.settings import Settings
from jobs.steps import promote, train, validate
from models import serving
from models.calibration import Calibration, Platt
from models.store import load


@pytest.fixture
def settings(tracked_settings) -> Settings:
    return tracked_settings


def test_both_parts_of_a_day_are_tracked_in_one_process(settings):
    """Registering a model activates the ranker's experiment; a later `embed` is not in it."""
    first, second = date(2031, 1, 1), date(2031, 1, 2)
    with step_run(settings, "train", first):
        ModelRegistry(Tracker(settings)).register(commit_model(settings, first))
    with step_run(settings, "embed", second):
        run = mlflow.active_run()
    assert mlflow.get_experiment(run.info.experiment_id).name == "embeddings"


def test_a_step_is_recorded_completely(settings, client):
    """Settings, figures, texts and reports are logged; headlines also go to the parent."""
    day = date(2030, 1, 2)
    settings.report("gate", day).joinpath("picture.txt").write_text("drawn")
    with step_run(settings, "gate", day) as run:
        assert mlflow.active_run() is not None
        partition = commit(
            settings,
            "gate",
            day,
            **{"difference": 0.5, "odd@name": 2, "champion_after": "2030-01-01"},
        )
        run.record(partition)
    (parent,), (step,) = runs(client, "ranker", day)
    assert mlflow.active_run() is None
    assert step.data.metrics.keys() == {"difference", "odd_name", "duration_s"}
    assert (step.data.metrics["difference"], step.data.metrics["odd_name"]) == (0.5, 2)
    assert parent.data.metrics.keys() == {"difference", "duration_s"}
    assert parent.data.metrics["difference"] == 0.5
    assert (
        parent.data.tags["evergreen.champion_after"]
        == step.data.tags["evergreen.champion_after"]
        == "2030-01-01"
    )
    assert step.data.params["ranker.window_days"] == "4"
    assert step.data.tags["evergreen.digest"] == partition.digest
    assert step.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert [file.path for file in client.list_artifacts(step.info.run_id, "report")] == [
        "report/picture.txt"
    ]


def test_the_steps_of_a_day_share_a_parent_and_the_last_one_closes_it(settings, client):
    day = date(2030, 1, 3)
    for step, status in (("gate", "RUNNING"), ("promote", "FINISHED")):
        with step_run(settings, step, day) as run:
            run.record(commit(settings, step, day))
        (parent,), _ = runs(client, "ranker", day)
        assert parent.info.status == status
    assert len(runs(client, "ranker", day)[1]) == 2


def test_a_refused_day_records_its_figures_and_reason(settings, client):
    """`validate` commits its verdict and fails: the run is FAILED, with message and figures."""
    day = date(2030, 1, 5)
    with pytest.raises(UntrustedDay), step_run(settings, "validate", day) as run:
        figures = {"trusted": False, "reason": "6 % bad", "bad_impressions": 60}
        run.record(commit(settings, "validate", day, **figures))
        raise UntrustedDay("6 % of the rows are bad")
    _, (step,) = runs(client, "embeddings", day)
    assert step.info.status == "FAILED"
    assert step.data.metrics == {"trusted": 0, "bad_impressions": 60}
    assert (step.data.tags["evergreen.error"], step.data.tags["evergreen.reason"]) == (
        "6 % of the rows are bad",
        "6 % bad",
    )


def test_the_plan_records_a_refusal_with_its_figures(settings, client, monkeypatch):
    """The plan finds the verdict that `validate` has committed, and raises the refusal."""
    day = date(2030, 1, 9)

    def refuse(spark, chosen, day):
        with chosen.lake.writing("quarantine", day, recipe="s"):
            pass
        commit(chosen, "validate", day, trusted=False, reason="too few rows", bad_items=3)
        raise UntrustedDay("too few rows")

    monkeypatch.setattr(validate, "needs", lambda chosen, day: [])
    monkeypatch.setattr(validate, "run", refuse)
    with pytest.raises(UntrustedDay):
        running.execute(settings, "validate", day, lambda: None)
    _, (step,) = runs(client, "embeddings", day)
    assert step.data.metrics == {"trusted": 0, "bad_items": 3}
    verdict = running.ensure(settings, "validate", day, lambda: None)
    assert not verdict.partition.facts["trusted"]


def test_a_skipped_step_is_not_a_failure(settings, client):
    day = date(2030, 1, 6)
    with pytest.raises(Skip), step_run(settings, "examples", day):
        raise Skip("no impressions")
    parents, nested = runs(client, "ranker", day)
    assert {run.info.status for run in parents + nested} == {"FINISHED"}
    assert nested[0].data.tags["evergreen.skipped"] == "no impressions"


def test_the_airflow_run_is_linked(settings, client, monkeypatch):
    """Inside an Airflow task, its run, try and page are tags."""
    day = date(2030, 1, 7)
    for name, value in {
        "DAG_ID": "ranker_daily",
        "DAG_RUN_ID": "r1",
        "TASK_ID": "gate",
        "TRY_NUMBER": "2",
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CTX_{name}", value)
    with step_run(settings, "gate", day):
        pass
    tags = runs(client, "ranker", day)[1][0].data.tags
    assert (tags["evergreen.airflow_run"], tags["evergreen.airflow_try"]) == ("r1", "2")
    assert (
        tags["evergreen.airflow_address"]
        == "http://127.0.0.1:8080/dags/ranker_daily/runs/r1/tasks/gate"
    )


def test_tracking_can_be_off(settings, tmp_path):
    """Without tracking nothing is written."""
    silent = ranker_settings(tmp_path / "home", mlflow_uri="off")
    with step_run(silent, "gate", DAYS[0]) as run:
        assert run is None
    assert not (tmp_path / "home" / "mlflow").exists()
    assert Tracker(silent).address(plan.tracked(silent, "gate"), DAYS[0]) is None


# Models


def test_a_trained_model_is_registered_once(settings, client):
    """A retry finds the version of the first try; other weights are another version."""
    trained = commit_model(settings, DAYS[0])
    with step_run(settings, "train", DAYS[0]) as run:
        run.record(trained)
        train.track(Tracker(settings), trained)
    version = ModelRegistry(Tracker(settings)).find(trained)
    assert version is not None
    again = ModelRegistry(Tracker(settings)).register(trained)
    assert (again.version, again.tags["evergreen.day"]) == (version.version, str(DAYS[0]))
    (parent,), (step,) = runs(client, "ranker", DAYS[0])
    assert version.run_id == step.info.run_id
    assert version.tags["evergreen.parent_run"] == parent.info.run_id
    with step_run(settings, "train", DAYS[0]):
        other = ModelRegistry(Tracker(settings)).register(commit_model(settings, DAYS[0], seed=1))
    assert other.version != version.version


def test_a_version_keeps_the_calibration_of_the_newest_day(settings, client):
    """A backfill of an old day does not replace it, and neither does a day without any."""
    trained = commit_model(settings, DAYS[0])
    models = ModelRegistry(Tracker(settings))
    older, newer = (Calibration(str(day), {"label_click": Platt(1.5)}) for day in DAYS[1:3])
    for calibration in (newer, older, Calibration(str(DAYS[3]), {})):
        models.set_calibration(trained, calibration)
    version = client.get_model_version("ranker", models.register(trained).version)
    assert Calibration.from_json(version.tags["evergreen.calibration"]) == newer


def test_the_registered_model_scores_like_the_stored_one(settings, client):
    """Loaded by its alias it gives the same probabilities; there is no pickle in it.

    From its first calibration on, these are calibrated.
    """
    trained = commit_model(settings, DAYS[1])
    with step_run(settings, "train", DAYS[1]):
        version = ModelRegistry(Tracker(settings)).register(trained)
    client.set_registered_model_alias("ranker", "probe", version.version)
    mlflow.set_tracking_uri(settings.mlflow_uri)
    loaded = mlflow.pyfunc.load_model("models:/ranker@probe")
    table = serving.input_example(trained.path)
    table = (
        table.loc[[0, 0, 0]]
        .reset_index(drop=True)
        .assign(hash_item=[1, 2, 3], num_x=[0.5, -1.0, 2.0])
    )
    table["consumer_vector"] = [[0.0] * 4, [1.0, 0.0, 0.5, 0.0], [0.1] * 4]
    saved = load(trained.path)
    expected = serving.predict(saved.model, serving.as_day(table, SPEC, saved.space), saved.space)
    np.testing.assert_array_equal(loaded.predict(table).to_numpy(), expected)
    calibration = Calibration(str(DAYS[2]), {SPEC.labels[0]: Platt(1.5, -1.0)})
    ModelRegistry(Tracker(settings)).set_calibration(trained, calibration)
    calibrated = mlflow.pyfunc.load_model("models:/ranker@probe").predict(table).to_numpy()
    np.testing.assert_allclose(calibrated, calibration(SPEC.labels, expected), rtol=1e-6)
    assert np.abs(calibrated - expected)[:, 0].min() > 0.01
    assert loaded.metadata.get_input_schema().input_names() == [
        "hash_item",
        "num_x",
        *serving.VECTORS,
    ]
    stored = {path.suffix for path in (settings.home / "mlflow" / "artifacts").rglob("*")}
    (logged,) = client.get_run(
        version.run_id
    ).outputs.model_outputs  # the run's page lists its model
    assert (
        "/home/mlflow/artifacts/ranker/"
        in client.get_logged_model(logged.model_id).artifact_location
    )
    assert stored & {".pkl", ".pickle", ".pt", ".pth", ".bin", ".safetensors"} == {".safetensors"}


def test_aliases_never_go_back(settings, client, monkeypatch):
    """Promote the third day, then backfill the second: both aliases stay at the third."""
    # What is committed by hand here was computed from nothing.
    monkeypatch.setattr(Freshness, "current", lambda self, step, day: self.lake.find(step, day))
    for day in DAYS[1:4]:
        commit_model(settings, day, seed=day.day)
    for day, champion in ((DAYS[3], DAYS[2]), (DAYS[2], DAYS[1])):
        commit(settings, "evaluate", day)
        commit(settings, "gate", day, champion_after=str(champion), why="because")
        promote.run(None, settings, day)
        aliases = {
            a: client.get_model_version_by_alias("ranker", a).tags["evergreen.day"]
            for a in ("champion", "challenger")
        }
        assert aliases == {"champion": str(DAYS[2]), "challenger": str(DAYS[3])}


FIRST_USE = """
import os, sys
import mlflow.store.tracking.sqlalchemy_store  # imported once, for all
from jobs.pipeline.tracking.runs import Tracker
from jobs.settings import Settings
settings = Settings.model_validate_json(sys.argv[1])
children = []
for _ in range(10):
    child = os.fork()
    if child == 0:
        tracker = Tracker(settings)
        experiment = tracker.client.get_experiment(tracker.experiment_id("embeddings"))
        os.write(1, f"{experiment.experiment_id} {experiment.artifact_location}\\n".encode())
        os._exit(0)  # after an exception it exits with 1
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


@pytest.mark.slow
def test_many_first_uses_of_a_home_create_one_database(tmp_path):
    """Ten processes start together in a fresh home: each finds the experiment of the first."""
    settings = ranker_settings(tmp_path / "h%20?#" / "home", mlflow_uri="")
    command = [sys.executable, "-c", FIRST_USE, settings.model_dump_json()]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert len(lines) == 10
    (line,) = set(lines)
    assert line.endswith((tmp_path / "h%20?#/home/mlflow/artifacts/embeddings").as_uri())
