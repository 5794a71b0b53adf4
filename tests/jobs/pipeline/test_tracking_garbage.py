"""Old runs are deleted with their models and artifacts, unless an alias names the model."""

from __future__ import annotations

from datetime import date

import pytest
from mlflow.exceptions import MlflowException
from tracked_runs import commit_model, runs, step_run

from jobs.pipeline.tracking.garbage import old_runs, purge
from jobs.pipeline.tracking.models import ModelRegistry
from jobs.pipeline.tracking.runs import Tracker
from jobs.steps import train

# Before the days of all other tests with the same database.
PINNED, OLD, KEPT = (date(1999, 1, n) for n in (1, 2, 3))


def test_old_runs_go_with_their_models(tracked_settings, client):
    tracker = Tracker(tracked_settings)
    for day in (PINNED, OLD, KEPT):
        trained = commit_model(tracked_settings, day, seed=day.day)
        with step_run(tracked_settings, "train", day) as run:
            run.record(trained)
            train.track(tracker, trained)
        if day == PINNED:
            version = ModelRegistry(tracker).register(trained)
            client.set_registered_model_alias("ranker", "pinned", version.version)
    parents, nested = runs(client, "ranker", OLD)
    doomed = {run.info.run_id for run in (*parents, *nested)}
    found = old_runs(tracker, cutoff=KEPT)
    assert set(found) == doomed
    (output,) = client.get_run(nested[0].info.run_id).outputs.model_outputs
    artifacts = tracked_settings.home / "mlflow" / "artifacts"
    assert list(artifacts.glob(f"*/models/{output.model_id}"))
    purge(tracker, found)
    assert runs(client, "ranker", OLD) == ([], [])
    assert not list(artifacts.glob(f"*/models/{output.model_id}"))
    with pytest.raises(MlflowException):
        client.get_logged_model(output.model_id)
    pinned = client.get_model_version_by_alias("ranker", "pinned")
    assert pinned.tags["evergreen.day"] == str(PINNED)
    assert len(runs(client, "ranker", KEPT)[1]) == 1
    assert old_runs(tracker, cutoff=KEPT) == []
