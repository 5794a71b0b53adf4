"""`evergreen demo` runs the days of the log through Airflow; `evergreen up` runs the services."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta

from jobs.errors import EvergreenError
from jobs.local.airflow_client import Airflow
from jobs.local.memory import PeakMemory
from jobs.local.outcome import Outcome, TaskRun
from jobs.local.services import addresses, running_services
from jobs.local.summary import show_summary
from jobs.local.supervisor import Supervisor
from jobs.parts import STEPS
from jobs.settings import Settings, days_between
from jobs.sources import open_source
from jobs.terminal import Board, live

DAGS = ("embeddings_daily", "ranker_daily")
FINAL_STATES = ("success", "failed")  # of a DAG run
CELLS = {  # state of a task in Airflow -> state of its cell on the board
    "success": "done",
    "running": "running",
    "failed": "failed",
    "skipped": "skipped",
    "upstream_failed": "skipped",
}
AT_ONCE = 2  # days: while one waits for Airflow or is written, the cores compute another
POLL_S = 2.0
PATIENCE_S = 900.0  # without any task changing its state

Runs = dict[str, list[dict]]  # DAG -> its runs, as Airflow's API returns them
Tasks = dict[tuple[date, str], dict]  # (day, task) -> the task instance, likewise


def demo(
    settings: Settings,
    n_days: int | None = None,
    last_words: Callable[[], Iterable[str]] = tuple,
) -> Outcome:
    """Run the days of the log and print a summary. n_days: how many after the first; None: all.

    last_words: lines that follow the summary where every day has succeeded.
    """

    def end(outcome: Outcome) -> None:
        show_summary(settings, outcome)
        for line in last_words() if outcome.ok else ():
            print(line)

    return run_demo(settings, n_days, end)


def run_demo(
    settings: Settings,
    n_days: int | None = None,
    end: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Start the services, backfill the days, stop the services.

    end: called before they stop, because the lake may be in one of them.
    """
    first, last = open_source(settings).span()
    if n_days is not None:
        last = min(last, first + timedelta(days=n_days))
    days = days_between(first, last)
    started = time.monotonic()
    airflow = Airflow(settings.services)
    services = running_services(settings)
    with until_interrupted(), PeakMemory(share=0.02) as memory, airflow, services as supervisor:
        await_dags(airflow, supervisor)
        startup_s = time.monotonic() - started
        outcome = follow(airflow, supervisor, days)
        outcome.startup_s = startup_s
        outcome.peak_bytes = memory.peak()
        for step in STEPS:
            peak = 0
            for task in outcome.runs_of(step):
                peak = max(peak, memory.peak(task.start, task.end))
            outcome.peak_of_step[step] = peak
        end(outcome)
    return outcome


def serve(settings: Settings) -> None:
    """Keep the services running until Ctrl-C."""
    try:
        with until_interrupted(), running_services(settings) as supervisor:
            listing = "\n".join(addresses(settings))
            print(f"\n{listing}\n\nPress Ctrl-C to stop.", flush=True)
            while True:
                supervisor.check()
                time.sleep(1)
    except KeyboardInterrupt:
        print("Stopped.")


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into KeyboardInterrupt, so that the block cleans up on both."""
    previous = {}
    # SIGINT too, although it raises by default: a shell's background job starts with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        previous[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def await_dags(airflow: Airflow, supervisor: Supervisor, patience_s: float = 60.0) -> None:
    """Wait until Airflow has parsed both DAG files. Raises EvergreenError with import errors."""
    deadline = time.monotonic() + patience_s
    while not set(DAGS) <= set(airflow.dags()):
        supervisor.check()
        errors = airflow.import_errors()
        if errors:
            raise EvergreenError("Airflow cannot import a DAG file:\n" + "\n".join(errors))
        if time.monotonic() > deadline:
            raise EvergreenError(
                f"Airflow has the DAGs {airflow.dags()} after {patience_s:.0f} s; expected "
                f"{list(DAGS)}. See the log of the DAG processor in {supervisor.logs}."
            )
        time.sleep(0.5)


def follow(airflow: Airflow, supervisor: Supervisor, days: list[date]) -> Outcome:
    """Backfill the days and show their progress until the last run has ended.

    Backfills and runs that an interrupted demo has left unfinished are cancelled first.
    Raises EvergreenError when no task has changed its state for PATIENCE_S.
    """
    outcome = Outcome(days, Board(days, STEPS))
    for dag_id in DAGS:
        airflow.cancel_unfinished(dag_id)
    started = time.monotonic()
    last_change = started
    requested = airflow.backfill(DAGS[0], days[0], days[-1], AT_ONCE)
    seen: Tasks = {}
    with live(outcome.board, "evergreen demo") as show:
        while True:
            supervisor.check()
            runs: Runs = {}
            for dag_id in DAGS:
                runs[dag_id] = runs_since(airflow, dag_id, requested)
            changes = changed_tasks(airflow, runs, requested, seen)
            if changes:
                last_change = time.monotonic()
                for day, task in changes:
                    state = CELLS.get(task["state"], "waiting")
                    outcome.board.set(day, task["task_id"], state, task["duration"])
                show()
            if all_ended(runs, len(days)):
                break
            if time.monotonic() - last_change > PATIENCE_S:
                raise EvergreenError(
                    f"No task has changed its state for {PATIENCE_S:.0f} s; unfinished: "
                    f"{unfinished(runs)}. See the logs in {supervisor.logs}."
                )
            time.sleep(POLL_S)
    outcome.seconds = time.monotonic() - started
    for (day, _), task in seen.items():
        if task["end_date"]:
            outcome.tasks.append(task_run(day, task))
    outcome.failures = failures(airflow, runs, seen)
    return outcome


def runs_since(airflow: Airflow, dag_id: str, moment: datetime) -> list[dict]:
    """The runs of a DAG that were queued at this moment or later, by Airflow's clock."""
    runs = []
    for run in airflow.runs(dag_id):
        queued = run["queued_at"]
        if queued and datetime.fromisoformat(queued) >= moment:
            runs.append(run)
    return runs


def changed_tasks(
    airflow: Airflow, runs: Runs, requested: datetime, seen: Tasks
) -> list[tuple[date, dict]]:
    """The tasks whose state or try has changed since the last call, each with its day.

    seen: the tasks as of the last call; updated here.
    """
    changes = []
    for dag_id, dag_runs in runs.items():
        days = {run["dag_run_id"]: date.fromisoformat(run["partition_key"]) for run in dag_runs}
        # Only those started since the request: Airflow keeps the tasks of all earlier runs, too.
        for task in airflow.tasks(dag_id, start_date_gte=requested.isoformat()):
            day = days.get(task["dag_run_id"])
            if day is None:  # a run of an earlier request
                continue
            previous = seen.get((day, task["task_id"]))
            if previous is None or progress(previous) != progress(task):
                seen[day, task["task_id"]] = task
                changes.append((day, task))
    return changes


def progress(task: dict) -> tuple[str, int]:
    """State and try: a retry passes through the same states again."""
    return task["state"], task["try_number"]


def all_ended(runs: Runs, n_days: int) -> bool:
    """Has the embeddings run of every day ended, and a ranker run for each day it published?

    A ranker run is triggered by the asset that a successful embeddings run updates, so it may not
    exist yet when the embeddings run ends.
    """
    embeddings = runs[DAGS[0]]
    ranker = runs[DAGS[1]]
    published = [run for run in embeddings if run["state"] == "success"]
    if len(embeddings) != n_days or len(ranker) < len(published):
        return False
    return all(run["state"] in FINAL_STATES for run in [*embeddings, *ranker])


def unfinished(runs: Runs) -> str:
    """The runs that have not ended, for an error message."""
    described = []
    for dag_runs in runs.values():
        for run in dag_runs:
            if run["state"] not in FINAL_STATES:
                described.append(f"{run['dag_id']} {run['partition_key']} ({run['state']})")
    return ", ".join(described) or "runs that Airflow has not created"


def task_run(day: date, task: dict) -> TaskRun:
    start = datetime.fromisoformat(task["start_date"]).timestamp()
    end = datetime.fromisoformat(task["end_date"]).timestamp()
    state = CELLS.get(task["state"], task["state"])
    return TaskRun(day, task["task_id"], state, start, end)


def failures(airflow: Airflow, runs: Runs, tasks: Tasks) -> list[str]:
    """One text for each failed task, with the last lines of its log."""
    texts = []
    for dag_id, dag_runs in runs.items():
        for run in dag_runs:
            if run["state"] != "failed":
                continue
            day = date.fromisoformat(run["partition_key"])
            failed = failed_tasks(tasks, dag_id, day)
            for task in failed:
                lines = airflow.log(task)
                texts.append(f"{dag_id} {day}: task {task['task_id']} failed. Its log:\n{lines}")
            if not failed:
                texts.append(f"{dag_id} {day}: the run failed without a failed task.")
    return texts


def failed_tasks(tasks: Tasks, dag_id: str, day: date) -> list[dict]:
    failed = []
    for (task_day, _), task in tasks.items():
        if task_day == day and task["dag_id"] == dag_id and task["state"] == "failed":
            failed.append(task)
    return failed
