"""A study in MLflow: one parent run, and a nested run for each trial. Nothing depends on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.pipeline.tracking.runs import TAG, Tracker

if TYPE_CHECKING:
    from mlflow.entities import Run

    from jobs.settings import Settings

EXPERIMENT = "tuning"
STUDY, PARENT_NAME = f"{TAG}study", "mlflow.parentRunId"


class Records:
    """Where MLflow does not answer, all methods raise TrackingError; without tracking they do
    nothing."""

    def __init__(self, settings: Settings, study: str) -> None:
        self.tracker = Tracker(settings)
        self.study = study

    def parent(self) -> str:
        """The run of the study, created where it is missing; '' without tracking."""
        if not self.tracker.enabled:
            return ""
        client = self.tracker.client
        with self.tracker.explained(f"record {self.study}"), self.tracker.alone("tuning"):
            experiment = self.tracker.experiment_id(EXPERIMENT)
            condition = f"tags.`{STUDY}` = '{self.study}'"
            found: list[Run] = client.search_runs([experiment], condition)
            if found:
                return found[0].info.run_id
            run = client.create_run(experiment, tags={STUDY: self.study}, run_name=self.study)
            return run.info.run_id

    def start(self, parent: str, slot: int, options: dict[str, Any]) -> str:
        """The run of a trial; '' without tracking."""
        if not parent:
            return ""
        client = self.tracker.client
        with self.tracker.explained(f"record trial {slot} of {self.study}"):
            experiment = self.tracker.experiment_id(EXPERIMENT)
            tags = {PARENT_NAME: parent, f"{TAG}slot": str(slot)}
            run = client.create_run(experiment, tags=tags, run_name=f"trial {slot}")
            for name, value in options.items():
                client.log_param(run.info.run_id, name, value)
            return run.info.run_id

    def log(self, run: str, metric: str, value: float, step: int) -> None:
        """A trial's value after so many days."""
        if run:
            with self.tracker.explained(f"record a trial of {self.study}"):
                self.tracker.client.log_metric(run, metric, value, step=step)

    def end(self, run: str, outcome: str, why: str = "") -> None:
        """outcome: FINISHED, FAILED or KILLED, as MLflow has them; why: in words."""
        if run:
            with self.tracker.explained(f"record a trial of {self.study}"):
                self.tracker.client.set_tag(run, f"{TAG}outcome", why or outcome.lower())
                self.tracker.client.set_terminated(run, outcome)

    def finish(self, parent: str, facts: dict[str, Any], files: Path) -> None:
        """The result of the study, with its pictures."""
        if parent:
            with self.tracker.explained(f"record {self.study}"):
                self.tracker.log_facts(parent, facts)
                self.tracker.client.log_artifacts(parent, str(files))
                self.tracker.client.set_terminated(parent, "FINISHED")
