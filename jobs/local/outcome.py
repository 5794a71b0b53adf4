"""The result of a demo: what each task did, how long it took, what failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from jobs.terminal import Board


@dataclass(frozen=True)
class TaskRun:
    """One step of one day as Airflow ran it.

    state: as on the board (see jobs/terminal.py); start, end: unix seconds.
    """

    day: date
    step: str
    state: str
    start: float
    end: float


@dataclass
class Outcome:
    """The result of running these days.

    seconds: from the request of the backfill to the end of the last run.
    startup_s: the time before that, while the services start.
    failures: one text per failed task, with the last lines of its log.
    """

    days: list[date]
    board: Board
    seconds: float = 0.0
    startup_s: float = 0.0
    tasks: list[TaskRun] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    peak_bytes: int = 0
    peak_of_step: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.failures

    def runs_of(self, step: str) -> list[TaskRun]:
        return [task for task in self.tasks if task.step == step]
