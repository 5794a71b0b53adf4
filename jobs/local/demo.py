"""`evergreen demo`: the days of the log through Airflow, watched to their end. `evergreen up`: the services alone."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from jobs.errors import EvergreenError
from jobs.local.airflow_client import Airflow
from jobs.local.memory import PeakMemory
from jobs.local.services import running_services, services
from jobs.local.supervisor import Supervisor
from jobs.pipeline.plan import STEPS
from jobs.pipeline.tracking import VIEW
from jobs.settings import Settings, days_between
from jobs.sources import open_source
from jobs.terminal import Board, live

DAGS = ("embeddings_daily", "ranker_daily")
OVER = ("success", "failed")
CELLS = {
    "success": "done",
    "running": "running",
    "failed": "failed",
    "skipped": "skipped",
    "upstream_failed": "skipped",
}
POLL_S = 2.0
PATIENCE_S = 900.0  # without any task starting or ending


@dataclass(frozen=True)
class TaskRun:
    """One step of one day as Airflow ran it. start, end: unix seconds."""

    day: date
    step: str
    state: str
    start: float
    end: float


@dataclass
class Outcome:
    """What came of the days. seconds: from asking for them to the end of the last run; startup_s: before that."""

    days: list[date]
    board: Board
    seconds: float = 0.0
    startup_s: float = 0.0
    tasks: list[TaskRun] = field(default_factory=list)
    failures: list[str] = field(
        default_factory=list
    )  # one text a failed run, with the task's last log lines
    peak_bytes: int = 0
    peak_of_step: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.failures


def demo(settings: Settings, n_days: int | None = None) -> Outcome:
    """Run the days of the log, show them and their summary. n_days: how many after the first; None for all."""
    from jobs.local.summary import show

    outcome = run_demo(settings, n_days)
    show(settings, outcome)
    return outcome


def run_demo(settings: Settings, n_days: int | None = None) -> Outcome:
    """Start the services, backfill the days, stop the services."""
    first, last = open_source(settings).span()
    if n_days is not None:
        last = min(last, first + timedelta(days=n_days))
    days, began = days_between(first, last), time.monotonic()
    with until_stopped(), PeakMemory() as memory, running_services(settings) as supervisor:
        airflow = Airflow(settings.services.airflow_port)
        await_dags(airflow, supervisor)
        startup_s = time.monotonic() - began
        outcome = follow(airflow, supervisor, days)
    outcome.startup_s, outcome.peak_bytes = startup_s, memory.peak()
    for step in STEPS:
        spans = [(task.start, task.end) for task in outcome.tasks if task.step == step]
        outcome.peak_of_step[step] = max(
            (memory.peak(start, end) for start, end in spans), default=0
        )
    return outcome


def serve(settings: Settings) -> None:
    """Keep the services running until Ctrl-C."""
    try:
        with until_stopped(), running_services(settings) as supervisor:
            print("\n" + "\n".join(addresses(settings)) + "\n\nCtrl-C stops them.", flush=True)
            while True:
                supervisor.check()
                time.sleep(1)
    except KeyboardInterrupt:
        print("Stopped.")


def addresses(settings: Settings) -> list[str]:
    """What a person may open, one line a service."""
    pages = {"mlflow": f"/#/experiments{VIEW}"}
    return [
        f"{s.name:<12} {s.address}{pages.get(s.name, '')}" for s in services(settings) if s.health
    ]


@contextmanager
def until_stopped() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block, so that what it started is stopped; also where a shell had SIGINT ignored."""
    before = {
        sign: signal.signal(sign, signal.default_int_handler)
        for sign in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def await_dags(airflow: Airflow, supervisor: Supervisor, patience_s: float = 60.0) -> None:
    """Until Airflow has read both DAG files. Raises with their import errors, if there are any."""
    deadline = time.monotonic() + patience_s
    while not set(DAGS) <= set(airflow.dags()):
        supervisor.check()
        if errors := airflow.import_errors():
            raise EvergreenError("Airflow cannot import a DAG file:\n" + "\n".join(errors))
        if time.monotonic() > deadline:
            raise EvergreenError(
                f"Airflow knows {airflow.dags()} after {patience_s:.0f} s; {list(DAGS)} were expected."
            )
        time.sleep(0.5)


def follow(airflow: Airflow, supervisor: Supervisor, days: list[date]) -> Outcome:
    """Ask for the backfill and watch until the last run is over. What an earlier watch left unfinished is given up."""
    outcome = Outcome(days, Board(days, STEPS))
    for dag_id in DAGS:
        airflow.abandon(dag_id)
    began = moved = time.monotonic()
    asked = airflow.backfill(DAGS[0], days[0], days[-1])
    seen: dict[tuple, dict] = {}
    with live(outcome.board, "evergreen demo") as show:
        while True:
            supervisor.check()
            runs = {dag_id: runs_since(airflow, dag_id, asked) for dag_id in DAGS}
            if fresh := new_states(airflow, runs, asked, seen):
                moved = time.monotonic()
                for day, task in fresh:
                    outcome.board.set(
                        day, task["task_id"], CELLS.get(task["state"], "waiting"), task["duration"]
                    )
                show()
            if all_over(runs, len(days)):
                break
            if time.monotonic() - moved > PATIENCE_S:
                raise EvergreenError(
                    f"No task has moved for {PATIENCE_S:.0f} s: {unfinished(runs)}. See {supervisor.logs}."
                )
            time.sleep(POLL_S)
    outcome.seconds = time.monotonic() - began
    outcome.tasks = [task_run(day, task) for (day, _), task in seen.items() if task["end_date"]]
    outcome.failures = failures(airflow, runs, seen)
    return outcome


def runs_since(airflow: Airflow, dag_id: str, asked: datetime) -> list[dict]:
    """The runs of a DAG that were queued after we asked."""
    return [
        r
        for r in airflow.runs(dag_id)
        if r["queued_at"] and datetime.fromisoformat(r["queued_at"]) >= asked
    ]


def new_states(
    airflow: Airflow, runs: dict[str, list[dict]], asked: datetime, seen: dict
) -> list[tuple[date, dict]]:
    """The tasks whose state or try has changed since the last look, with their day; `seen` keeps the last look."""
    fresh = []
    for dag_id, of_dag in runs.items():
        day_of = {run["dag_run_id"]: date.fromisoformat(run["partition_key"]) for run in of_dag}
        for task in airflow.tasks(dag_id, start_date_gte=asked.isoformat()):
            if (day := day_of.get(task["dag_run_id"])) is None:
                continue
            before = seen.get((day, task["task_id"]))
            if before is None or (before["state"], before["try_number"]) != (
                task["state"],
                task["try_number"],
            ):
                seen[day, task["task_id"]] = task
                fresh.append((day, task))
    return fresh


def all_over(runs: dict[str, list[dict]], n_days: int) -> bool:
    """Every day's embeddings are over, and the ranker's run of every day that published them."""
    embeddings, ranker = (runs[dag_id] for dag_id in DAGS)
    published = sum(run["state"] == "success" for run in embeddings)
    ended = all(run["state"] in OVER for run in [*embeddings, *ranker])
    return len(embeddings) == n_days and len(ranker) >= published and ended


def unfinished(runs: dict[str, list[dict]]) -> str:
    open_runs = [run for of_dag in runs.values() for run in of_dag if run["state"] not in OVER]
    return (
        ", ".join(f"{run['dag_id']} {run['partition_key']} {run['state']}" for run in open_runs)
        or "runs are missing"
    )


def task_run(day: date, task: dict) -> TaskRun:
    start, end = (
        datetime.fromisoformat(task[name]).timestamp() for name in ("start_date", "end_date")
    )
    return TaskRun(day, task["task_id"], CELLS.get(task["state"], task["state"]), start, end)


def failures(airflow: Airflow, runs: dict[str, list[dict]], seen: dict[tuple, dict]) -> list[str]:
    """What each failed run failed of, with the failed task's last log lines."""
    told = []
    for run in (run for of_dag in runs.values() for run in of_dag if run["state"] == "failed"):
        day = date.fromisoformat(run["partition_key"])
        failed = [
            t
            for (d, _), t in seen.items()
            if d == day and t["dag_id"] == run["dag_id"] and t["state"] == "failed"
        ]
        told += [
            f"{task['dag_id']} {day}: task {task['task_id']} failed. Its last lines:\n{airflow.log(task)}"
            for task in failed
        ]
        if not failed:
            told.append(f"{run['dag_id']} {day}: the run failed, none of its tasks did.")
    return told
