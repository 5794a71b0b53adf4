"""MLflow runs that nothing needs any more."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

from jobs.parts import EMBEDDINGS, RANKER, WORDS, further_part
from jobs.pipeline.tracking.runs import TAG, Tracker

PAGE = 1000  # runs in one request


def old_runs(tracker: Tracker, cutoff: date) -> list[str]:
    """Ids of the runs of days before the cutoff, without those of models that an alias names."""
    kept = runs_of_aliases(tracker)
    found = []
    further = [further_part(name) for name in tracker.settings.further]
    for part in (EMBEDDINGS, RANKER, WORDS, *further):
        experiment = tracker.client.get_experiment_by_name(part)
        if experiment is None:
            continue
        token = None
        while True:
            page = tracker.client.search_runs(
                [experiment.experiment_id], max_results=PAGE, page_token=token
            )
            for run in page:
                day = run.data.tags.get(f"{TAG}day", "")
                if day and day < str(cutoff) and run.info.run_id not in kept:
                    found.append(run.info.run_id)
            token = page.token
            if not token:
                break
    return found


def runs_of_aliases(tracker: Tracker) -> set[str]:
    """The runs of the registered models that an alias points at, with their parents."""
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    kept: set[str] = set()
    try:
        model = tracker.client.get_registered_model(tracker.settings.ranker.name)
    except MlflowException:  # none is registered yet
        return kept
    for version in set(model.aliases.values()):
        run_id = tracker.client.get_model_version(model.name, version).run_id
        if run_id:
            run = tracker.client.get_run(run_id)
            kept |= {run_id, run.data.tags.get(MLFLOW_PARENT_RUN_ID, run_id)}
    return kept


def purge(tracker: Tracker, run_ids: list[str]) -> None:
    """Delete these runs, their models, the versions of these, and their artifacts in this home.

    MLflow keeps the rows of deleted runs until its own `mlflow gc` is run.
    """
    doomed = set(run_ids)
    for version in tracker.client.search_model_versions(f"name='{tracker.settings.ranker.name}'"):
        if version.run_id in doomed:
            tracker.client.delete_model_version(version.name, version.version)
    artifacts = tracker.settings.home / "mlflow" / "artifacts"
    for run_id in run_ids:
        outputs = tracker.client.get_run(run_id).outputs
        for model in outputs.model_outputs if outputs else []:
            tracker.client.delete_logged_model(model.model_id)
            delete_below(artifacts, f"*/models/{model.model_id}")
        tracker.client.delete_run(run_id)
        delete_below(artifacts, f"*/{run_id}")


def delete_below(root: Path, pattern: str) -> None:
    for folder in root.glob(pattern):
        shutil.rmtree(folder, ignore_errors=True)
