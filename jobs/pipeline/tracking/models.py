"""Trained rankers in MLflow's model registry: one version per content, and aliases."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from jobs.lake.store import Partition
from jobs.pipeline.tracking.runs import TAG, Tracker, active_run_id
from models.calibration import FILE, Calibration

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models.model import ModelInfo

EXPERIMENT = "ranker"


class ModelRegistry:
    """The versions of the registered model that `ranker.name` names.

    Where MLflow does not answer or refuses a call, all methods raise TrackingError.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.settings = tracker.settings
        self.name = tracker.settings.ranker.name

    def register(self, trained: Partition) -> ModelVersion:
        """The version of a trained model, logged first where it is missing.

        trained: a partition of the step `train`; the same bytes are the same version. What a kill
        has left incomplete is completed. The active run lists the model as its output.
        """
        with self.tracker.explained(f"register the model of {trained.key}"):
            version = self._version(trained)
            self._list(trained, version)
            return version

    def find(self, trained: Partition) -> ModelVersion | None:
        """The version of this partition: the same day and the same bytes."""
        named = f"name = '{self.name}' and {_condition(trained)}"
        with self.tracker.explained(f"look for the model of {trained.key}"):
            return next(iter(self.tracker.client.search_model_versions(named)), None)

    def set_alias(self, alias: str, trained: Partition, only_forward: bool = True) -> None:
        """Point an alias at a model's version.

        only_forward: not where it points at one of a newer day. A backfill of an old day therefore
        never moves it back.
        """
        with self.tracker.explained(f"set the alias '{alias}' to the model of {trained.key}"):
            version = self._version(trained)
            day = self.alias_day(alias) if only_forward else None
            if day is None or day <= trained.day:
                self.tracker.client.set_registered_model_alias(self.name, alias, version.version)

    def set_calibration(self, trained: Partition, calibration: Calibration) -> None:
        """Give a model what makes its probabilities rates: what loads it from then on applies it.

        It is also a tag of the version, as JSON. The newest day's is kept: a backfill of an old day
        never replaces it.
        """
        tag = f"{TAG}calibration"
        with self.tracker.explained(f"set the calibration of the model of {trained.key}"):
            version = self._version(trained)
            known = json.loads(version.tags.get(tag, "{}")).get("day", "")
            if calibration.maps and calibration.day >= known:
                text = calibration.to_json()
                self._add(trained, FILE, text)
                # Last: without the tag, a retry writes the file again.
                self.tracker.client.set_model_version_tag(self.name, version.version, tag, text)

    def _add(self, trained: Partition, name: str, text: str) -> None:
        """Write a file beside the weights of a logged model."""
        from mlflow.models import get_model_info

        from models.serving import ARTIFACT

        for model in self._models(trained):
            flavor = get_model_info(f"models:/{model.model_id}").flavors["python_function"]
            with TemporaryDirectory() as folder:
                (Path(folder) / name).write_text(text + "\n")
                self.tracker.client.log_model_artifacts(
                    model.model_id, folder, flavor["artifacts"][ARTIFACT]["path"]
                )

    def alias_day(self, alias: str) -> date | None:
        """The day of the version that an alias points at; None where it is not set."""
        from mlflow.exceptions import MlflowException

        with self.tracker.explained(f"look for the alias '{alias}'"):
            try:
                version = self.tracker.client.get_model_version_by_alias(self.name, alias)
            except MlflowException as error:
                # The first code means that the model is missing, the second that the alias is.
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise
        return date.fromisoformat(version.tags[f"{TAG}day"])

    def _version(self, trained: Partition) -> ModelVersion:
        """The version, found or registered."""
        import mlflow

        client = self.tracker.client  # opened before the lock: it has a lock of its own
        # MLflow would register the same bytes as a new version on every retry, and twice where
        # `train` and `promote` do it at once.
        with self.tracker.alone("models"):
            version = self.find(trained)
            if version is not None:
                return version
            # What a killed process has logged may be incomplete.
            for model in self._models(trained):
                client.delete_logged_model(model.model_id)
            mlflow.set_tracking_uri(self.settings.mlflow_uri)
            # Without this the model is logged to MLflow's default experiment.
            mlflow.set_experiment(experiment_id=self.tracker.experiment_id(EXPERIMENT))
            info = self._log(trained)
            return mlflow.register_model(info.model_uri, self.name, tags=self._tags(trained))

    def _list(self, trained: Partition, version: ModelVersion) -> None:
        """Link the model with its version, and the active run with the model.

        A kill may have left either undone; a rerun that trains the same bytes finds the model of
        the first run.
        """
        from mlflow.entities import LoggedModelOutput
        from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

        client = self.tracker.client
        model = next(iter(self._models(trained)), None)
        if model is None:  # an older Evergreen did not mark them
            return
        if MLFLOW_MODEL_VERSIONS not in model.tags:
            link = json.dumps([{"name": version.name, "version": version.version}])
            client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: link})
        run_id = active_run_id()
        if not run_id:
            return
        outputs = client.get_run(run_id).outputs
        listed = outputs.model_outputs if outputs else []
        if model.model_id not in [output.model_id for output in listed]:
            client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])

    def _models(self, trained: Partition) -> list[LoggedModel]:
        """What was logged of this partition, under our name: one model, unless a kill cut it."""
        experiment = self.tracker.experiment_id(EXPERIMENT)
        found = self.tracker.client.search_logged_models([experiment], _condition(trained))
        return [model for model in found if model.name == self.name]

    def _tags(self, trained: Partition) -> dict[str, str]:
        """Content, day, space and newest embedding of a version, and the day's parent run."""
        parent = self.tracker.parent(EXPERIMENT, trained.day)
        return {
            f"{TAG}partition": _content(trained),
            f"{TAG}day": str(trained.day),
            f"{TAG}space": trained.facts["space"],
            f"{TAG}embedding": trained.facts["embedding"],
            f"{TAG}parent_run": parent.info.run_id if parent else "",
        }

    def _log(self, trained: Partition) -> ModelInfo:
        """Log the weights together with the code that reads them: models from code, no pickle."""
        import mlflow

        from models.packaging import logging_arguments

        tags = {f"{TAG}partition": _content(trained)}
        with TemporaryDirectory() as code:
            arguments = logging_arguments(trained.path, Path(code))
            return mlflow.pyfunc.log_model(name=self.name, tags=tags, **arguments)


def _content(trained: Partition) -> str:
    return f"{trained.key}@{trained.digest}"


def _condition(trained: Partition) -> str:
    """A search for the versions or the logged models with this content."""
    return f"tags.`{TAG}partition` = '{_content(trained)}'"
