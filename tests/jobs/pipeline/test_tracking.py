"""Tracking in a real MLflow on SQLite: runs of days and steps, models, aliases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from ranker_lake import DAYS, commit_days, ranker_settings

from jobs.errors import Skip, UntrustedDay
from jobs.lake.store import Partition
from jobs.pipeline import plan
from jobs.pipeline.tracking.models import ModelRegistry
from jobs.pipeline.tracking.runs import Tracker
from jobs.settings import Settings
from jobs.steps import promote, train, validate
from models import serving
from models.features import Categorical, FeatureSpec
from models.rankers.base import build, kinds, read_options
from models.store import load, save

SPEC = FeatureSpec((Categorical("hash_item", 9, "item"),), ("num_x",), ("label_click",), 4)
KIND = kinds()[0]
DIGEST = ("source", "validation", "matrix", "embedding", "ranker")


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """One tracking database for all tests here: creating its tables takes seconds."""
    home = tmp_path_factory.mktemp("tracked") / "home"
    settings = ranker_settings(home, mlflow_uri="")
    commit_days(settings, DAYS[:4], n=5)
    return settings


@pytest.fixture
def client(settings) -> MlflowClient:
    return Tracker(settings).client


@contextmanager
def step_run(settings: Settings, step: str, day: date) -> Iterator:
    """The run of a step, opened as the plan opens it."""
    with Tracker(settings).step_run(plan.tracked(settings, step), day) as run:
        yield run


def commit(settings: Settings, step: str, day: date, **facts) -> Partition:
    with settings.lake.writing(step, day, recipe=plan.recipe(settings, step)) as staging:
        staging.facts |= facts
    return settings.lake.get(step, day)


def commit_model(settings: Settings, day: date, seed: int = 0) -> Partition:
    """A model with random weights, as `train` would commit it."""
    import torch

    torch.manual_seed(seed)
    with settings.lake.writing("train", day, recipe="s") as staging:
        save(staging.path, build(KIND, SPEC, read_options(KIND, {})).eval(), "author-s")
        staging.facts |= {"space": "author-s", "embedding": f"author/{DAYS[0]}.r1", "rows": 5}
    return settings.lake.get("train", day)


def runs(client: MlflowClient, dag: str, day: date) -> tuple[list, list]:
    """(parents, nested runs) of a part and day."""
    experiment = client.get_experiment_by_name(dag).experiment_id
    found = client.search_runs([experiment], f"tags.`evergreen.day` = '{day}'")
    nested = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    return [run for run in found if run not in nested], nested


def test_both_parts_of_a_day_are_tracked_in_one_process(settings):
    """Registering a model activates the ranker's experiment; a later `embed` is not in it."""
    first, second = date(2031, 1, 1), date(2031, 1, 2)
    with step_run(settings, "train", first):
        ModelRegistry(Tracker(settings)).register(commit_model(settings, first))
    with step_run(settings, "embed", second):
        run = mlflow.active_run()
    assert mlflow.get_experiment(run.info.experiment_id).name == "embeddings"


def test_a_retry_continues_the_run(settings, client):
    """Two failures and a success: one parent, one nested run, the last figures, no error tag."""
    day = date(2030, 1, 1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), step_run(settings, "gate", day):
            1 / 0  # noqa: B018
    parents, nested = runs(client, "ranker", day)
    assert [run.info.status for run in parents + nested] == ["FAILED", "FAILED"]
    assert nested[0].data.tags["evergreen.error"] == "division by zero"
    with step_run(settings, "gate", day) as run:
        run.record(commit(settings, "gate", day, difference=0.25, why="better"))
    (parent,), (step,) = runs(client, "ranker", day)
    assert step.info.run_id == nested[0].info.run_id
    assert (parent.info.status, step.info.status) == ("RUNNING", "FINISHED")
    assert step.data.metrics == {"difference": 0.25}
    assert "evergreen.error" not in step.data.tags


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
    assert step.data.metrics == {"difference": 0.5, "odd_name": 2}
    assert parent.data.metrics == {"difference": 0.5}
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


def test_other_settings_are_another_run(settings, client):
    """Parameters of a run never change: other settings are a second run of the same parent."""
    day = date(2030, 1, 4)
    other = settings.model_copy(
        update={"ranker": settings.ranker.model_copy(update={"bootstrap": 7})}
    )
    for chosen in (settings, other, other):
        with step_run(chosen, "gate", day):
            pass
    parents, nested = runs(client, "ranker", day)
    assert len(parents) == 1
    assert sorted(run.data.params["ranker.bootstrap"] for run in nested) == ["200", "7"]


def test_a_refused_day_records_its_figures_and_reason(settings, client):
    """`validate` commits its verdict and fails: the run is FAILED, with message and figures."""
    day = date(2030, 1, 5)
    with pytest.raises(UntrustedDay), step_run(settings, "validate", day) as run:
        figures = {"trusted": False, "reason": "6 % bad", "bad_impressions": 60}
        run.record_refusal(commit(settings, "validate", day, **figures))
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
        commit(chosen, "validate", day, trusted=False, reason="too few rows", bad_items=3)
        raise UntrustedDay("too few rows")

    monkeypatch.setattr(validate, "needs", lambda chosen, day: [])
    monkeypatch.setattr(validate, "run", refuse)
    with pytest.raises(UntrustedDay):
        plan.execute(settings, "validate", day, lambda: None)
    _, (step,) = runs(client, "embeddings", day)
    assert step.data.metrics == {"trusted": 0, "bad_items": 3}
    verdict = plan.ensure(settings, "validate", day, lambda: None)
    assert not verdict.facts["trusted"]


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


def test_two_writers_at_once_end_with_one_parent(settings, client):
    """Both find nothing and create a run: both keep the older one and delete the younger."""
    experiment = Tracker(settings).experiment_id("ranker")
    tags = {"dag": "ranker", "day": "2030-01-08", "step": "all"}
    first = client.create_run(
        experiment, tags={f"evergreen.{k}": v for k, v in tags.items()}, start_time=1
    )
    found = Tracker(settings).find_or_create(experiment, "second", tags)
    assert found.info.run_id == first.info.run_id
    assert len(Tracker(settings).find(experiment, tags)) == 1


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


def test_the_registered_model_scores_like_the_stored_one(settings, client):
    """Loaded by its alias it gives the same probabilities; there is no pickle in it."""
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


def test_aliases_never_go_back(settings, client):
    """Promote the third day, then backfill the second: both aliases stay at the third."""
    for day in DAYS[1:4]:
        commit_model(settings, day, seed=day.day)
    for day, champion in ((DAYS[3], DAYS[2]), (DAYS[2], DAYS[1])):
        commit(settings, "gate", day, champion_after=str(champion), why="because")
        promote.run(None, settings, day)
        aliases = {
            a: client.get_model_version_by_alias("ranker", a).tags["evergreen.day"]
            for a in ("champion", "challenger")
        }
        assert aliases == {"champion": str(DAYS[2]), "challenger": str(DAYS[3])}


FIRST_USE = """
import sys
from jobs.pipeline.tracking.runs import Tracker
from jobs.settings import Settings
print(Tracker(Settings.model_validate_json(sys.argv[1])).experiment_id("embeddings"))
"""


def test_several_first_uses_of_a_home_create_one_database(tmp_path):
    """Processes that start together in a fresh home: each finds the experiment of the first."""
    settings = ranker_settings(tmp_path / "home", mlflow_uri="")
    command = [sys.executable, "-c", FIRST_USE, settings.model_dump_json()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    outputs = [process.communicate() for process in processes]
    errors = "".join(error for _, error in outputs)
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert len({output for output, _ in outputs}) == 1
