"""The MLflow run of one step and day, while it is active: what is logged, and how it ends."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from embeddings.facts import Fact, headlines
from jobs.errors import Skip
from jobs.lake.store import Partition
from jobs.pipeline.tracking.connection import TrackingError
from jobs.pipeline.tracking.inputs import data_sets

if TYPE_CHECKING:
    from jobs.pipeline.tracking.runs import Tracker

DURATION = "duration_s"
BATCH = 100  # data sets in one request


@dataclass(frozen=True)
class TrackedStep:
    """A step of a day as its run describes it.

    part: the part of the day, "embeddings" or "ranker", which is also the MLflow experiment.
    sections: the settings that shape its result; a retry with the same ones replaces its run. last:
    whether the part is complete when this step has ended.
    """

    name: str
    part: str
    sections: tuple[str, ...]
    facts: tuple[Fact, ...]
    last: bool


@dataclass
class StepRun:
    """The active run of one step and day.

    computes: whether the partition is computed while the run is active. refusal: why the partition
    that was recorded is refused; empty where it is not.
    """

    tracker: Tracker
    step: TrackedStep
    day: date
    run_id: str
    parent_id: str
    computes: bool = True
    refusal: str = ""
    start_s: float = field(default_factory=time.monotonic)

    def record(self, partition: Partition) -> None:
        """Log the partition's facts, digest and inputs; its headlines to the day's run too.

        Recording a partition again changes nothing.
        """
        from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

        with self.tracker.explained(f"record {partition.key}"):
            self._log_inputs(partition)
            if partition.facts.get("trusted") is False:
                self.refusal = partition.facts.get("reason") or "refused"
            else:
                parent_facts = headlines(self.step.facts, partition.facts)
                self.tracker.log_facts(self.parent_id, parent_facts)
            if why := partition.facts.get("why"):
                for run_id in (self.run_id, self.parent_id):
                    self.tracker.client.set_tag(run_id, MLFLOW_RUN_NOTE, why)
            self.tracker.log_facts(self.run_id, partition.facts)
            # Last, because a run with the digest has everything.
            tags = {"digest": partition.digest, "inputs": input_list(partition.inputs)}
            self.tracker.log_facts(self.run_id, {}, tags)

    def finish(self) -> None:
        """End the run; it has failed if its partition is a refusal."""
        with self.tracker.explained(f"finish the run of {self.step.name} {self.day}"):
            if self.computes:
                seconds = time.monotonic() - self.start_s
                self.tracker.log_facts(self.run_id, {DURATION: seconds})
            self._log_reports()
            if self.refusal:
                self._end_refused()
                return
            self._end("FINISHED")
            self._log_duration_of_part()
            if self.step.last:
                self.tracker.client.set_terminated(self.parent_id, "FINISHED")

    def fail(self, error: BaseException) -> None:
        """End the run with this error, and log the reports that exist nevertheless.

        Where MLflow does not answer, the error says so too, and is not replaced.
        """
        kind = "skipped" if isinstance(error, Skip) else "error"
        text = str(error) or type(error).__name__  # KeyboardInterrupt has no message
        try:
            with self.tracker.explained(f"record the failure of {self.step.name} {self.day}"):
                self._end(status_after(error))
                self.tracker.log_facts(self.run_id, {}, {kind: text})
                # A step is skipped before it writes any report.
                if isinstance(error, Skip):
                    self.tracker.log_facts(self.parent_id, {}, {kind: text})
                else:
                    self._log_reports()
                self.tracker.client.set_terminated(self.parent_id, status_after(error))
        except TrackingError as lost:
            error.add_note(str(lost))

    def _end(self, status: str) -> None:
        import mlflow

        if active_run_id() == self.run_id:
            mlflow.end_run(status)
        else:  # it was ended, and what followed has failed
            self.tracker.client.set_terminated(self.run_id, status)

    def _end_refused(self) -> None:
        """A refusal that is recorded later leaves what the step itself would have left."""
        self.tracker.log_facts(self.run_id, {}, {"error": self.refusal})
        self._end("FAILED")
        self.tracker.client.set_terminated(self.parent_id, "FAILED")

    def _log_inputs(self, partition: Partition) -> None:
        """Fill the run's column "Dataset"."""
        settings = self.tracker.settings
        found = data_sets(settings.lake, settings.source.path, partition)
        # Days that are computed at once share inputs, and MLflow fails where two runs name a new
        # data set at the same moment.
        with self.tracker.alone("inputs"):
            for start in range(0, len(found), BATCH):
                batch = found[start : start + BATCH]
                self.tracker.client.log_inputs(self.run_id, batch)

    def _log_duration_of_part(self) -> None:
        """The seconds of all its steps: the parent's own time has the pauses between them."""
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        client = self.tracker.client
        experiment = self.tracker.experiment_id(self.step.part)
        below = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.parent_id}'"
        seconds = 0.0
        for run in client.search_runs([experiment], below):
            seconds += run.data.metrics.get(DURATION, 0.0)
        self.tracker.log_facts(self.parent_id, {DURATION: seconds})

    def _log_reports(self) -> None:
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


def input_list(inputs: dict[str, str]) -> str:
    """The input partitions and their digests as one line."""
    return " ".join(f"{key}={digest}" for key, digest in sorted(inputs.items()))


def active_run_id() -> str:
    """The run that is active in this process; empty where there is none."""
    import mlflow

    run = mlflow.active_run()
    return run.info.run_id if run else ""
