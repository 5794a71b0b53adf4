"""Which run an execution of a step or a part is: a new one, or one that is continued.

    the newest run of the step and day       what an execution does
    none                                     creates the first run
    finished, or other settings              creates a run; each of the two names the other one
    ended without a result, or killed        creates a run in its place, and deletes the attempt
    RUNNING, in another process              joins it

An attempt is replaced and not continued, because MLflow can reset neither the start of a run nor a
parameter. The deleted run keeps its error and its reports: the pages list it under "Deleted".
A part has one parent run per pass over its steps: it is continued until the last step has ended.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import psutil

from jobs.pipeline.provenance import code_commit

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

TAG = "evergreen."
CLOCK_S = 5.0  # by how much two readings of the start of one process may differ


class History:
    """The runs of one step and day, or of one part and day.

    tags: what identifies them, without our prefix. Changing the history is for one process at a
    time.
    """

    def __init__(self, client: MlflowClient, experiment: str, tags: dict[str, str]) -> None:
        self.client = client
        self.experiment = experiment
        # A parent run has no step. Without this tag, a search for it would find its nested runs.
        self.tags = {"step": "all", **tags}

    def runs(self) -> list[Run]:
        """All that are not deleted, newest first."""
        conditions = [f"tags.`{TAG}{name}` = '{value}'" for name, value in self.tags.items()]
        order = ["attributes.start_time DESC", "attributes.run_id DESC"]
        found = self.client.search_runs([self.experiment], " and ".join(conditions), order_by=order)
        return list(found)

    def newest(self) -> Run | None:
        return next(iter(self.runs()), None)

    def continued(self, name: str) -> Run:
        """The newest run unless it has finished, else a new one: for a parent."""
        newest = self.newest()
        if newest is not None and not succeeded(newest):
            return newest
        return self._create(name, {}, newest)

    def attempt(self, name: str, settings: str, extra: dict[str, str]) -> Run:
        """The run of a new attempt, or that of another process at the same work: for a step.

        settings: digest of the settings that shape the result. extra: more tags, with prefix.
        """
        runs = self.runs()
        replaced = []
        for run in runs:
            if succeeded(run) or run.data.tags.get(f"{TAG}settings") != settings:
                break
            if is_alive(run):
                return self._join(run)
            replaced.append(run)
        previous = next(iter(runs[len(replaced) :]), None)
        if previous is not None and previous.info.status == "RUNNING" and not is_alive(previous):
            # When it was killed is not known: it must not seem to have run until now.
            start = previous.info.start_time
            self.client.set_terminated(previous.info.run_id, "KILLED", end_time=start)
        tags = {f"{TAG}settings": settings, f"{TAG}process": this_process(), **extra}
        if replaced:
            tags[f"{TAG}retry_of"] = replaced[0].info.run_id
        created = self._create(name, tags, previous)
        for run in replaced:
            self.client.set_tag(run.info.run_id, f"{TAG}superseded_by", created.info.run_id)
            self.client.delete_run(run.info.run_id)
        return created

    def _create(self, name: str, extra: dict[str, str], previous: Run | None) -> Run:
        """A new run, linked with the previous one."""
        tags = {TAG + key: value for key, value in self.tags.items()}
        tags |= {f"{TAG}commit": code_commit(), **extra}
        if previous is not None:
            tags[f"{TAG}previous_run"] = previous.info.run_id
        created = self.client.create_run(self.experiment, tags=tags, run_name=name)
        if previous is not None:
            self.client.set_tag(previous.info.run_id, f"{TAG}superseded_by", created.info.run_id)
        return created

    def _join(self, run: Run) -> Run:
        """Note that this process works on the run too: it is dead when all its processes are."""
        processes = f"{run.data.tags.get(f'{TAG}process', '')} {this_process()}"
        self.client.set_tag(run.info.run_id, f"{TAG}process", processes.strip())
        return run


def succeeded(run: Run) -> bool:
    """Has it a result? A run that was skipped has none, although MLflow shows it as FINISHED."""
    return run.info.status == "FINISHED" and f"{TAG}skipped" not in run.data.tags


def is_alive(run: Run) -> bool:
    """Does another process work on it? What another machine has begun counts as alive."""
    if run.info.status != "RUNNING":
        return False
    processes = run.data.tags.get(f"{TAG}process", "").split()
    return any(process_is_alive(process) for process in processes)


def process_is_alive(process: str) -> bool:
    """Does another process run, named as by `this_process`? One of another machine is taken to."""
    if not process:
        return False
    host, pid, started = process.rsplit("/", 2)
    if host != socket.gethostname():
        return True
    # A process does one step at a time: its own earlier one has ended without a record.
    return int(pid) != psutil.Process().pid and _started(int(pid), float(started))


def this_process() -> str:
    """Host, id and start of this process: another process may get the same id later."""
    process = psutil.Process()
    return f"{socket.gethostname()}/{process.pid}/{process.create_time():.1f}"


def _started(pid: int, started: float) -> bool:
    """Does the process with this id run that was started then, in seconds since 1970?"""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return abs(process.create_time() - started) < CLOCK_S
    except psutil.NoSuchProcess:
        return False
