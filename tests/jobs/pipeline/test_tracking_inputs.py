"""What a run was computed from, in MLflow's column "Dataset"."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import mlflow
import pytest
from tracked_runs import commit, runs, step_run

from jobs.pipeline.tracking.inputs import MOST_SOURCES
from jobs.settings import Settings


@pytest.fixture
def settings(tracked_settings) -> Settings:
    return tracked_settings


def data_sets(client, dag: str, day: date) -> dict[str, tuple[str, str, str]]:
    """Name -> (digest, context, address) of each data set of the day's only run."""
    _, (run,) = runs(client, dag, day)
    found = {}
    for entry in client.get_run(run.info.run_id).inputs.dataset_inputs:
        assert entry.dataset.name not in found
        source = mlflow.data.get_source(entry)
        found[entry.dataset.name] = (entry.dataset.digest, entry.tags[0].value, source.uri)
    return found


def test_input_partitions_are_data_sets_of_the_run(settings, client):
    """With the folder of what is still there; recording them twice adds nothing."""
    day = date(2034, 1, 1)
    needed = commit(settings, "examples", day, rows=5)
    inputs = {needed.key: needed.digest, "validate/2034-01-01": "gone"}
    with step_run(settings, "gate", day) as run:
        partition = replace(commit(settings, "gate", day), inputs=inputs)
        for _ in range(2):
            run.record(partition)
    assert data_sets(client, "ranker", day) == {
        needed.key: (needed.digest, "partition", str(needed.path)),
        "validate/2034-01-01": ("gone", "partition", "validate/2034-01-01@gone"),
    }


def test_the_files_of_the_log_are_data_sets_of_the_run(settings, client):
    """Within MLflow's limits of a name and a digest, and no more than anyone would read."""
    day = date(2034, 1, 2)
    names = [f"{'x' * 600}/{number:03}" for number in range(MOST_SOURCES + 10)]
    with step_run(settings, "land", day) as run:
        sources = dict.fromkeys(["log.txt", *names], "a" * 64)
        run.record(replace(commit(settings, "land", day), sources=sources))
    found = data_sets(client, "embeddings", day)
    assert len(found) == MOST_SOURCES
    assert found["log.txt"] == ("a" * 36, "log", str(settings.home / "log.txt"))
    assert found[f"{'x' * 496}/000"] == ("a" * 36, "log", str(settings.home / names[0]))
