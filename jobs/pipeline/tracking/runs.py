"""MLflow runs: one parent per DAG and day, one nested run per step that retries continue."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embeddings.durable import locked
from embeddings.facts import Fact, headlines
from jobs.errors import Skip
from jobs.lake.store import Partition
from jobs.pipeline.provenance import code_commit
from jobs.plugins import PluginSection
from jobs.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

OFF = "off"
TAG = "evergreen."
# MLflow's pages of training runs; without it they show the traces of a chat application.
VIEW = "?workflowType=machine_learning"
# Characters. MLflow's own limits are 8000 and 6000.
LONGEST_TAG = 5000
LONGEST_PARAM = 6000
BATCH = 100  # metrics or tags in one request; MLflow accepts no more than 100 tags


@dataclass(frozen=True)
class TrackedStep:
    """A step of a day as its run describes it.

    part: the part of the day, "embeddings" or "ranker", which is also the MLflow experiment.
    sections: the settings that shape its result; their digest identifies the run. last: whether
    the part is complete when this step has ended.
    """

    name: str
    part: str
    sections: tuple[str, ...]
    facts: tuple[Fact, ...]
    last: bool


class Tracker:
    """Writes to the MLflow server or database that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def enabled(self) -> bool:
        return self.settings.mlflow.uri != OFF

    @cached_property
    def client(self) -> MlflowClient:
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        from mlflow.tracking import MlflowClient

        uri = self.settings.mlflow_uri
        if not uri.startswith("sqlite:///"):
            return MlflowClient(uri)
        # MLflow creates and migrates its database at the first use, and two processes that do so at
        # the same time break it for good.
        database = Path(uri.removeprefix("sqlite:///"))
        with locked(database.with_name(f"{database.name}.lock")):
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
        return client

    # Runs

    @contextmanager
    def part_run(self, part: str, day: date) -> Iterator[Run]:
        """The parent run of a part and day, found or created, and set to RUNNING.

        It stays RUNNING after the block, because other steps of the part follow; the last one ends
        it. A block that fails leaves it FAILED.
        """
        run = self.find_or_create(
            self.experiment_id(part), f"{part} {day}", {"dag": part, "day": str(day)}
        )
        self.client.update_run(run.info.run_id, status="RUNNING")
        try:
            yield run
        except BaseException as error:
            self.client.set_terminated(run.info.run_id, status_after(error))
            raise

    @contextmanager
    def step_run(self, step: TrackedStep, day: date) -> Iterator[StepRun | None]:
        """The nested run of a step and day, active while the block runs; None without tracking.

        A retry with the same settings continues the same run. A failure leaves it FAILED with the
        message and the reports.
        """
        if not self.enabled:
            yield None
            return
        import mlflow

        mlflow.set_tracking_uri(self.settings.mlflow_uri)
        with self.part_run(step.part, day) as parent:
            run_id = self._prepare(parent, step, day)
            # One process may run steps of both parts, and MLflow refuses to start a run while
            # another experiment is active.
            mlflow.set_experiment(experiment_id=parent.info.experiment_id)
            mlflow.start_run(run_id=run_id, nested=True)
            run = StepRun(self, step, day, run_id, parent.info.run_id)
            try:
                yield run
            except BaseException as error:  # a run killed by Ctrl-C must not stay RUNNING either
                run.record_failure(error)
                mlflow.end_run(status_after(error))
                raise
            run.record_reports()
            mlflow.end_run("FINISHED")
            if step.last:
                self.client.set_terminated(parent.info.run_id, "FINISHED")

    def _prepare(self, parent: Run, step: TrackedStep, day: date) -> str:
        """The nested run, found or created, with the settings as parameters; returns its id."""
        from mlflow.entities import Param, RunTag
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        run = self.find_or_create(
            parent.info.experiment_id,
            f"{step.name} {day}",
            self._identity(step, day),
            {MLFLOW_PARENT_RUN_ID: parent.info.run_id},
        )
        run_id = run.info.run_id
        tags = [RunTag(f"{TAG}dag", step.part)]
        for name, text in self._airflow_tags().items():
            tags.append(RunTag(TAG + name, text))
        params = [Param(name, value) for name, value in self._params(step).items()]
        self.client.log_batch(run_id, params=params, tags=tags)
        # A retry continues the run, so an earlier attempt may have left its outcome here.
        for outcome in ("error", "skipped"):
            if f"{TAG}{outcome}" in run.data.tags:
                self.client.delete_tag(run_id, f"{TAG}{outcome}")
        return run_id

    def _identity(self, step: TrackedStep, day: date) -> dict[str, str]:
        """What makes two attempts the same run."""
        digest = self.settings.digest(*step.sections)
        return {"step": step.name, "day": str(day), "settings": digest}

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
        return {name: str(value)[:LONGEST_PARAM] for name, value in params.items()}

    def _airflow_tags(self) -> dict[str, str]:
        """This process's Airflow run and its address; empty outside Airflow."""
        run_id = os.environ.get("AIRFLOW_CTX_DAG_RUN_ID", "")
        if not run_id:
            return {}
        dag_id = os.environ.get("AIRFLOW_CTX_DAG_ID", "")
        task_id = os.environ.get("AIRFLOW_CTX_TASK_ID", "")
        host = f"http://127.0.0.1:{self.settings.services.airflow_port}"
        return {
            "airflow_run": run_id,
            "airflow_try": os.environ.get("AIRFLOW_CTX_TRY_NUMBER", ""),
            "airflow_address": f"{host}/dags/{dag_id}/runs/{run_id}/tasks/{task_id}",
        }

    # Finding

    def experiment_id(self, name: str) -> str:
        """The experiment of that name, created where it is missing.

        Without a server its artifacts are stored below home.
        """
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

    def find(self, experiment: str, tags: dict[str, str]) -> list[Run]:
        """The runs that carry all these tags of ours, oldest first."""
        conditions = [f"tags.`{TAG}{name}` = '{value}'" for name, value in tags.items()]
        order = ["attributes.start_time ASC", "attributes.run_id ASC"]
        return list(self.client.search_runs([experiment], " and ".join(conditions), order_by=order))

    def find_or_create(
        self,
        experiment: str,
        name: str,
        tags: dict[str, str],
        extra: dict[str, str] | None = None,
    ) -> Run:
        """The oldest run with these tags, created where it is missing.

        MLflow has no unique constraint on tags, so two processes may create a run at the same time.
        Both then find both runs, keep the older one, and delete their own if it is the younger.
        """
        # The parent run has no step. Without this tag, a search for it would find its nested runs.
        tags = {"step": "all", **tags}
        if found := self.find(experiment, tags):
            return found[0]
        own = {TAG + key: value for key, value in tags.items()}
        own[f"{TAG}commit"] = code_commit()
        own |= extra or {}
        created = self.client.create_run(experiment, tags=own, run_name=name)
        oldest = self.find(experiment, tags)[0]
        if oldest.info.run_id != created.info.run_id:
            self.client.delete_run(created.info.run_id)
        return oldest

    def address(self, step: TrackedStep, day: date) -> str | None:
        """The page of the run of a step and day; None where nothing is tracked by a server."""
        if not self.settings.mlflow_uri.startswith("http"):
            return None
        runs = self.find(self.experiment_id(step.part), self._identity(step, day))
        return self.run_address(runs[0]) if runs else None

    def run_address(self, run: Run) -> str:
        base = self.settings.mlflow_uri.rstrip("/")
        return f"{base}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{VIEW}"

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


@dataclass(frozen=True)
class StepRun:
    """The active run of one step and day."""

    tracker: Tracker
    step: TrackedStep
    day: date
    run_id: str
    parent_id: str

    def record(self, partition: Partition) -> None:
        """Log the partition's facts and digests; its headlines to the day's run too."""
        from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

        tags = {"digest": partition.digest, "inputs": input_list(partition.inputs)}
        self.tracker.log_facts(self.run_id, partition.facts, tags)
        self.tracker.log_facts(self.parent_id, headlines(self.step.facts, partition.facts))
        if why := partition.facts.get("why"):
            for run_id in (self.run_id, self.parent_id):
                self.tracker.client.set_tag(run_id, MLFLOW_RUN_NOTE, why)

    def record_refusal(self, partition: Partition) -> None:
        """Log the facts of a partition that the step committed before it failed."""
        self.tracker.log_facts(self.run_id, partition.facts)

    def record_failure(self, error: BaseException) -> None:
        """Log why there is no result, and the reports that exist nevertheless."""
        kind = "skipped" if isinstance(error, Skip) else "error"
        text = str(error) or type(error).__name__  # KeyboardInterrupt has no message
        self.tracker.client.set_tag(self.run_id, TAG + kind, text[:LONGEST_TAG])
        # A step is skipped before it writes any report.
        if not isinstance(error, Skip):
            self.record_reports()

    def record_reports(self) -> None:
        """Log the files that a person reads as artifacts."""
        folder = self.tracker.settings.report(self.step.name, self.day)
        if any(folder.iterdir()):
            self.tracker.client.log_artifacts(self.run_id, str(folder), "report")


def status_after(error: BaseException) -> str:
    """MLflow's status of a run that ended with this error."""
    # A day without impressions is normal: it must not appear as a failure.
    if isinstance(error, Skip):
        return "FINISHED"
    return "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"


def metric_name(name: str) -> str:
    """MLflow accepts letters, digits, _ - . space and /; any other character becomes _."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)


def input_list(inputs: dict[str, str]) -> str:
    """The input partitions and their digests as one line."""
    return " ".join(f"{key}={digest}" for key, digest in sorted(inputs.items()))


def active_run_id() -> str:
    """The run that is active in this process; empty where there is none."""
    import mlflow

    run = mlflow.active_run()
    return run.info.run_id if run else ""
