"""MLflow runs: one parent per part and day, and one nested run per step.

`history` decides which run an execution gets, `step_run` what is logged to it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from embeddings.durable import locked
from jobs.lake.store import Partition
from jobs.names import metric_name
from jobs.pipeline.tracking.connection import TrackingError, explained, open_client
from jobs.pipeline.tracking.history import TAG, History, is_alive, succeeded
from jobs.pipeline.tracking.step_run import StepRun, TrackedStep, active_run_id
from jobs.plugins import PluginSection
from jobs.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

__all__ = ["OFF", "TAG", "VIEW", "TrackedStep", "Tracker", "TrackingError", "active_run_id"]

OFF = "off"
# MLflow's pages of training runs; without it they show the traces of a chat application.
VIEW = "?workflowType=machine_learning"
# Characters. MLflow's own limits are 8000 and 6000.
LONGEST_TAG = 5000
LONGEST_PARAM = 6000
Curves = dict[str, dict[int, float]]  # name -> step -> value
BATCH = 100  # metrics, parameters or tags in one request: MLflow's limit of the latter two


class Tracker:
    """Writes to the MLflow server or database that the settings name.

    Where MLflow does not answer or refuses a call, all methods raise TrackingError.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._experiments: dict[str, str] = {}  # name -> id, of those that were looked up

    @property
    def enabled(self) -> bool:
        return self.settings.mlflow.uri != OFF

    @cached_property
    def client(self) -> MlflowClient:
        return open_client(self.settings.mlflow_uri, self.settings.home)

    def explained(self, action: str) -> AbstractContextManager[None]:
        """Turn a failing call to MLflow in the block into a TrackingError that names the action."""
        return explained(self.settings.mlflow_uri, action)

    def alone(self, work: str) -> AbstractContextManager[None]:
        """Keep other processes of this home out of the same work: MLflow has no transactions."""
        return locked(self.settings.home / "mlflow" / f"{work}.lock")

    # Runs

    @contextmanager
    def step_run(
        self, step: TrackedStep, day: date, *, computes: bool = True
    ) -> Iterator[StepRun | None]:
        """The nested run of a step and day, active while the block runs; None without tracking.

        A failure leaves it FAILED with the message and the reports. `history` says when this is
        another run than the last one. computes: False where the block only records a partition that
        is committed already; the run then has no duration.
        """
        if not self.enabled:
            yield None
            return
        with self.explained(f"start the run of {step.name} {day}"):
            run = self._start(step, day, computes)
        try:
            yield run
            run.finish()
        except BaseException as error:  # a run killed by Ctrl-C must not stay RUNNING either
            run.fail(error)
            raise

    def recorded(self, step: TrackedStep, partition: Partition) -> bool:
        """Has a run the facts of this committed partition? True without tracking.

        False after a kill between the commit and the record. To record it again:

            with tracker.step_run(step, day, computes=False) as run:
                run.record(partition)
        """
        if not self.enabled:
            return True
        with self.explained(f"look for the run of {partition.key}"):
            runs = self._steps(step, partition.day).runs()
        if runs and runs[0].info.status == "RUNNING" and not is_alive(runs[0]):
            return False
        return any(_holds(run, partition) for run in runs)

    def finish_part(self, part: str, day: date, facts: dict[str, Any]) -> None:
        """End the parent run of a part of which every step is current.

        facts: the headlines of all its steps. The run lacks those of steps that were reused.
        """
        if not self.enabled:
            return
        with self.explained(f"finish the run of {part} {day}"), self.alone("runs"):
            parent = self._parents(part, day).newest()
            if parent is None:
                return
            lacking = {name: facts[name] for name in facts if not has_fact(parent, name, facts)}
            self.log_facts(parent.info.run_id, lacking)
            if not succeeded(parent):
                self._forget_outcome(parent)
                self.client.set_terminated(parent.info.run_id, "FINISHED")

    def _start(self, step: TrackedStep, day: date, computes: bool) -> StepRun:
        """Find or create the parent and the nested run, and make the nested one active."""
        import mlflow
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        digest = self.settings.digest(*step.sections)
        # Opened before the lock: it has a lock of its own, and may have to create the database.
        parents = self._parents(step.part, day)
        steps = self._steps(step, day)
        with self.alone("runs"):
            parent = parents.continued(f"{step.part} {day}")
            self._forget_outcome(parent)
            self.client.update_run(parent.info.run_id, status="RUNNING")
            extra = {MLFLOW_PARENT_RUN_ID: parent.info.run_id}
            nested = steps.attempt(f"{step.name} {day}", digest, extra)
            self._describe(nested, step)
        mlflow.set_tracking_uri(self.settings.mlflow_uri)
        # One process may run steps of both parts, and MLflow refuses to start a run while another
        # experiment is active.
        mlflow.set_experiment(experiment_id=nested.info.experiment_id)
        mlflow.start_run(run_id=nested.info.run_id, nested=True)
        return StepRun(self, step, day, nested.info.run_id, parent.info.run_id, computes)

    def _describe(self, run: Run, step: TrackedStep) -> None:
        """Log the settings as parameters, and the Airflow run, if there is one, as tags."""
        from mlflow.entities import Param, RunTag

        tags = [RunTag(f"{TAG}dag", step.part)]
        for name, text in self._airflow_tags().items():
            tags.append(RunTag(TAG + name, text))
        params = []
        for name, value in self._params(step).items():
            # MLflow refuses to change a parameter, and another version of our code may have
            # described the same settings in other words.
            if name not in run.data.params:
                params.append(Param(name, value))
        self.client.log_batch(run.info.run_id, tags=tags, params=params[:BATCH])
        for start in range(BATCH, len(params), BATCH):
            self.client.log_batch(run.info.run_id, params=params[start : start + BATCH])

    def _params(self, step: TrackedStep) -> dict[str, str]:
        """The options of the sections that shape the step, as section.option."""
        params = {}
        for section in step.sections:
            nested = isinstance(getattr(self.settings, section), PluginSection)
            for option, value in self.settings.section(section).items():
                if nested and isinstance(value, dict):  # the options of the chosen plug-in
                    for inner, inner_value in value.items():
                        params[f"{section}.{option}.{inner}"] = inner_value
                else:
                    params[f"{section}.{option}"] = value
        return {metric_name(name): str(value)[:LONGEST_PARAM] for name, value in params.items()}

    def _airflow_tags(self) -> dict[str, str]:
        """This process's Airflow run and its address; empty outside Airflow."""
        run_id = os.environ.get("AIRFLOW_CTX_DAG_RUN_ID", "")
        if not run_id:
            return {}
        dag_id = os.environ.get("AIRFLOW_CTX_DAG_ID", "")
        task_id = os.environ.get("AIRFLOW_CTX_TASK_ID", "")
        host = self.settings.services.public_address(self.settings.services.airflow_port)
        return {
            "airflow_run": run_id,
            "airflow_try": os.environ.get("AIRFLOW_CTX_TRY_NUMBER", ""),
            "airflow_address": f"{host}/dags/{dag_id}/runs/{run_id}/tasks/{task_id}",
        }

    def _forget_outcome(self, run: Run) -> None:
        """Remove what an earlier step left on a parent that goes on."""
        if f"{TAG}skipped" in run.data.tags:
            self.client.delete_tag(run.info.run_id, f"{TAG}skipped")

    # Finding

    def experiment_id(self, name: str) -> str:
        """The experiment of that name, created where it is missing.

        Without a server its artifacts are stored below home.
        """
        if name not in self._experiments:
            self._experiments[name] = self._found_or_created(name)
        return self._experiments[name]

    def _found_or_created(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        location = None  # the server's own
        if not self.settings.mlflow_uri.startswith("http"):
            folder = self.settings.home / "mlflow" / "artifacts" / name
            location = folder.resolve().as_uri()
        try:
            return self.client.create_experiment(name, artifact_location=location)
        except MlflowException:  # another process may have created it meanwhile
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            return found.experiment_id

    def parent(self, part: str, day: date) -> Run | None:
        """The newest parent run of a part and day."""
        return self._parents(part, day).newest()

    def address(self, step: TrackedStep, day: date) -> str | None:
        """The page of the newest run of a step and day.

        None where nothing is tracked by a server, or it does not answer: no one needs a link then.
        """
        if not self.settings.mlflow_uri.startswith("http"):
            return None
        try:
            with self.explained(f"look for the run of {step.name} {day}"):
                run = self._steps(step, day).newest()
        except TrackingError:
            return None
        return self.run_address(run) if run else None

    def run_address(self, run: Run) -> str:
        services = self.settings.services
        base = self.settings.mlflow_uri.rstrip("/")
        if base == services.mlflow_at:  # our own, as a client here reaches it
            base = services.public_address(services.mlflow_port)
        return f"{base}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{VIEW}"

    def _steps(self, step: TrackedStep, day: date) -> History:
        tags = {"step": step.name, "day": str(day)}
        return History(self.client, self.experiment_id(step.part), tags)

    def _parents(self, part: str, day: date) -> History:
        return History(self.client, self.experiment_id(part), {"dag": part, "day": str(day)})

    # Logging

    def log_facts(
        self, run_id: str, facts: dict[str, Any], tags: dict[str, str] | None = None
    ) -> None:
        """Log numbers as metrics and texts as tags."""
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        metrics = []
        run_tags = []
        for name, value in facts.items():
            if isinstance(value, bool | int | float):
                metrics.append(Metric(metric_name(name), float(value), now, step=0))
            else:
                run_tags.append(RunTag(TAG + metric_name(name), str(value)[:LONGEST_TAG]))
        for name, text in (tags or {}).items():
            run_tags.append(RunTag(TAG + metric_name(name), text[:LONGEST_TAG]))
        for start in range(0, max(len(metrics), len(run_tags)), BATCH):
            batch = slice(start, start + BATCH)
            self.client.log_batch(run_id, metrics=metrics[batch], tags=run_tags[batch])

    def log_curves(self, run_id: str, curves: Curves) -> None:
        """Log every curve as a metric with its steps."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = []
        for name, points in curves.items():
            for step, value in points.items():
                metrics.append(Metric(metric_name(name), value, now, step))
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH])


def _holds(run: Run, partition: Partition) -> bool:
    """Has this run the partition's record, complete? That of a refusal is a FAILED run."""
    if run.data.tags.get(f"{TAG}digest") != partition.digest:
        return False
    refused = partition.facts.get("trusted") is False
    return run.info.status == ("FAILED" if refused else "FINISHED")


def has_fact(run: Run, name: str, facts: dict[str, Any]) -> bool:
    """Has the run this fact, with this value, as `log_facts` logs it?"""
    value = facts[name]
    name = metric_name(name)
    if isinstance(value, bool | int | float):
        return run.data.metrics.get(name) == float(value)
    return run.data.tags.get(TAG + name) == str(value)[:LONGEST_TAG]
