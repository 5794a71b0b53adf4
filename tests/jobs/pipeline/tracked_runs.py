"""Runs in a real MLflow as the plan makes them, and child processes that are killed meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

from mlflow.entities import Run, ViewType
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as ModelStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as RunStore
from mlflow.tracking import MlflowClient

from jobs.lake.store import Partition
from jobs.pipeline import plan
from jobs.pipeline.tracking.runs import Tracker
from jobs.settings import Settings
from models.features import Categorical, FeatureSpec
from models.rankers.base import build, kinds, read_options
from models.store import save

FORK = multiprocessing.get_context("fork")
SPEC = FeatureSpec((Categorical("hash_item", 9, "item"),), ("num_x",), ("label_click",), 4)
KIND = kinds()[0]


@contextmanager
def step_run(settings: Settings, step: str, day: date, computes: bool = True) -> Iterator:
    """The run of a step, opened as the plan opens it."""
    tracked = plan.tracked(settings, step)
    with Tracker(settings).step_run(tracked, day, computes=computes) as run:
        yield run


def commit(settings: Settings, step: str, day: date, **facts) -> Partition:
    with settings.lake.writing(step, day, recipe=plan.recipe(settings, step)) as staging:
        staging.facts |= facts
    return settings.lake.get(step, day)


def execute(settings: Settings, step: str, day: date, **facts) -> Partition:
    """Commit a partition of a step and record it."""
    with step_run(settings, step, day) as run:
        partition = commit(settings, step, day, **facts)
        run.record(partition)
    return partition


def commit_model(settings: Settings, day: date, seed: int = 0) -> Partition:
    """A model with random weights, as `train` would commit it."""
    import torch

    torch.manual_seed(seed)

    with settings.lake.writing("train", day, recipe="s") as staging:
        save(staging.path, build(KIND, SPEC, read_options(KIND, {})).eval(), "author-s")
        staging.facts |= {"space": "author-s", "embedding": "", "rows": 5}
    return settings.lake.get("train", day)


def runs(client: MlflowClient, dag: str, day: date, deleted: bool = False) -> tuple[list, list]:
    """(parents, nested runs) of a part and day, oldest first."""
    experiment = client.get_experiment_by_name(dag).experiment_id
    view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    condition = f"tags.`evergreen.day` = '{day}'"
    order = ["attributes.start_time ASC"]
    found = client.search_runs([experiment], condition, run_view_type=view, order_by=order)
    nested = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    return [run for run in found if run not in nested], nested


def tag(run: Run, name: str) -> str | None:
    return run.data.tags.get(f"evergreen.{name}")


def in_child(work: Callable[[], Any]) -> None:
    """The body of a forked process: a database connection of the parent must not be used here."""
    for store in (RunStore, ModelStore):
        for engine in store._engine_map.values():
            engine.dispose(close=False)
    work()


def killed_at(owner: object, name: str, work: Callable[[], Any]) -> None:
    """Run `work` in a child process that kills itself where it calls owner.name."""

    def die(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    def until_death() -> None:
        setattr(owner, name, die)
        work()

    child = FORK.Process(target=in_child, args=(until_death,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
