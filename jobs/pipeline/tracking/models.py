"""Trained rankers in MLflow's model registry: one version per content, and aliases."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from jobs.lake.store import Partition
from jobs.pipeline.tracking.runs import TAG, Tracker

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models.model import ModelInfo

EXPERIMENT = "ranker"


class ModelRegistry:
    """The versions of the registered model that `ranker.name` names."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.settings = tracker.settings
        self.name = tracker.settings.ranker.name

    def register(self, trained: Partition) -> ModelVersion:
        """The version of a trained model, logged first where it is missing.

        trained: a partition of the step `train`; the same bytes are the same version.
        """
        import mlflow

        # MLflow would register the same bytes as a new version on every retry.
        version = self.find(trained)
        if version is not None:
            return version
        mlflow.set_tracking_uri(self.settings.mlflow_uri)
        # Without this the model is logged to MLflow's default experiment.
        mlflow.set_experiment(experiment_id=self.tracker.experiment_id(EXPERIMENT))
        info = self._log(trained)
        return mlflow.register_model(info.model_uri, self.name, tags=self._tags(trained))

    def find(self, trained: Partition) -> ModelVersion | None:
        """The version of this partition: the same day and the same bytes."""
        identity = f"tags.`{TAG}partition` = '{trained.key}@{trained.digest}'"
        found = self.tracker.client.search_model_versions(f"name = '{self.name}' and {identity}")
        return next(iter(found), None)

    def set_alias(self, alias: str, trained: Partition) -> None:
        """Point an alias at a model's version, unless it points at one of a newer day.

        A backfill of an old day therefore never moves it back.
        """
        version = self.register(trained)
        day = self.alias_day(alias)
        if day is None or day <= trained.day:
            self.tracker.client.set_registered_model_alias(self.name, alias, version.version)

    def alias_day(self, alias: str) -> date | None:
        """The day of the version that an alias points at; None where it is not set."""
        from mlflow.exceptions import MlflowException

        try:
            version = self.tracker.client.get_model_version_by_alias(self.name, alias)
        except MlflowException as error:
            # The first code means that the model is missing, the second that the alias is.
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return date.fromisoformat(version.tags[f"{TAG}day"])

    def _tags(self, trained: Partition) -> dict[str, str]:
        """Content, day, space and newest embedding of a version, and the day's parent run."""
        identity = {"dag": EXPERIMENT, "day": str(trained.day), "step": "all"}
        parents = self.tracker.find(self.tracker.experiment_id(EXPERIMENT), identity)
        return {
            f"{TAG}partition": f"{trained.key}@{trained.digest}",
            f"{TAG}day": str(trained.day),
            f"{TAG}space": trained.facts["space"],
            f"{TAG}embedding": trained.facts["embedding"],
            f"{TAG}parent_run": parents[0].info.run_id if parents else "",
        }

    def _log(self, trained: Partition) -> ModelInfo:
        """Log the weights together with the code that reads them: models from code, no pickle."""
        import mlflow

        from models.packaging import logging_arguments

        with TemporaryDirectory() as code:
            arguments = logging_arguments(trained.path, Path(code))
            return mlflow.pyfunc.log_model(name=self.name, **arguments)
