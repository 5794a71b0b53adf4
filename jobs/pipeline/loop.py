"""The daily loop without Airflow: the same steps, one day after the other, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date

from embeddings.registry.errors import RegistryError
from jobs.errors import EvergreenError, Skip
from jobs.pipeline.plan import EMBEDDING_STEPS, RANKER_STEPS, STEPS, execute
from jobs.settings import Settings, days_between
from jobs.spark.session import spark_session
from jobs.terminal import Board, live

Reasons = dict[tuple[date, str], str]


def run_days(settings: Settings, first: date, last: date) -> tuple[Board, Reasons]:
    """Run every step of every day from first to last.

    Returns the board and, for each step that did not run, the reason. A step that fails ends its
    own half of the day (embeddings or ranker); later days continue.
    """
    board = Board(days_between(first, last), STEPS)
    reasons: Reasons = {}
    with live(board, "evergreen run") as show:
        for day in board.days:
            for steps in (EMBEDDING_STEPS, RANKER_STEPS):
                run_half(settings, day, steps, board, reasons, show)
    return board, reasons


def run_half(
    settings: Settings,
    day: date,
    steps: tuple[str, ...],
    board: Board,
    reasons: Reasons,
    show: Callable[[], None],
) -> None:
    """The steps of one DAG on one day, in order, until one of them is skipped or fails."""
    for position, step in enumerate(steps):
        board.set(day, step, "running")
        show()
        started = time.perf_counter()
        try:
            execute(settings, step, day, lambda: spark_session(settings))
        except (Skip, EvergreenError, RegistryError) as reason:
            # Any other exception is unexpected and ends the loop with its traceback.
            reasons[day, step] = str(reason)
            board.set(day, step, "skipped" if isinstance(reason, Skip) else "failed")
            # Each step reads the one before it, so the rest of this half has nothing to read.
            for later in steps[position + 1 :]:
                board.set(day, later, "skipped")
            show()
            return
        board.set(day, step, "done", time.perf_counter() - started)
        show()
