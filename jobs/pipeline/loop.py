"""The daily loop without Airflow: the same steps, one day after the other, in this process."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from datetime import date

import typer

from embeddings.registry.errors import RegistryError
from jobs import logs, tracing
from jobs.errors import EvergreenError, Skip
from jobs.parts import (
    DATA_STEPS,
    EMBEDDING_STEPS,
    LEARNING_STEPS,
    LEAVES,
    RANKER_STEPS,
    STEPS,
    WORD_STEPS,
)
from jobs.pipeline.running import request
from jobs.settings import Settings, days_between
from jobs.spark.session import spark_session
from jobs.terminal import Board, live

log = logging.getLogger(__name__)

COMPUTED = ("done", "reused")  # states of a step that others can go on from
Reasons = dict[tuple[date, str], str]


def run_days(settings: Settings, first: date, last: date) -> tuple[Board, Reasons]:
    """Run the steps of every day from first to last that are not current.

    Returns the board and, for each step that did not run, the reason. A step that fails ends its
    own part of the day (embeddings, ranker, or a further embedding); later days continue. A
    further embedding is one column of the board.
    """
    board = Board(days_between(first, last), (*STEPS, *settings.further))
    reasons: Reasons = {}
    with tracing.span("evergreen run"), live(board, "evergreen run") as show:
        for day in board.days:
            with tracing.span("day", day=str(day)):
                for steps in (EMBEDDING_STEPS, RANKER_STEPS):
                    run_half(settings, day, steps, board, reasons, show)
                for name in settings.further:
                    run_further(settings.of_embedding(name), name, day, board, reasons, show)
    return board, reasons


def run_weeks(settings: Settings, weeks: list[date]) -> tuple[Board, Reasons]:
    """Run the steps of words of every week that are not current, as `run_days` those of days.

    weeks: the Sundays.
    """
    board = Board(weeks, WORD_STEPS)
    reasons: Reasons = {}
    with tracing.span("evergreen words"), live(board, "evergreen words") as show:
        for week in weeks:
            with tracing.span("week", day=str(week)):
                run_half(settings, week, WORD_STEPS, board, reasons, show)
    return board, reasons


def run_further(
    settings: Settings,
    name: str,
    day: date,
    board: Board,
    reasons: Reasons,
    show: Callable[[], None],
) -> None:
    """The steps of a further embedding, of whose settings these are, on one day."""
    if board.cell(day, DATA_STEPS[-1]).state not in COMPUTED:
        board.set(day, name, "skipped")
        return
    board.set(day, name, "running")
    show()
    started = time.perf_counter()
    reused = True
    for step in LEARNING_STEPS:
        try:
            reused &= request(settings, step, day, lambda: spark_session(settings)).reused
        except Exception as reason:
            reasons[day, name] = f"{step}: {described(settings, step, day, reason)}"
            board.set(day, name, "skipped" if isinstance(reason, Skip) else "failed")
            show()
            return
    board.set(day, name, "reused" if reused else "done", time.perf_counter() - started)
    show()


def run_half(
    settings: Settings,
    day: date,
    steps: tuple[str, ...],
    board: Board,
    reasons: Reasons,
    show: Callable[[], None],
) -> None:
    """The steps of one DAG on one day or week, in order, until one is skipped or fails.

    A step that no other one reads ends nothing.
    """
    for position, step in enumerate(steps):
        board.set(day, step, "running")
        show()
        started = time.perf_counter()
        try:
            result = request(settings, step, day, lambda: spark_session(settings))
        except Exception as reason:
            reasons[day, step] = described(settings, step, day, reason)
            board.set(day, step, "skipped" if isinstance(reason, Skip) else "failed")
            if step in LEAVES:
                continue
            # Each other step reads the one before it, so the rest of this half has nothing to read.
            for later in steps[position + 1 :]:
                board.set(day, later, "skipped")
            show()
            return
        state = "reused" if result.reused else "done"
        board.set(day, step, state, time.perf_counter() - started)
        show()


def report_reasons(board: Board, reasons: Reasons) -> None:
    """Print why steps did not run, failures in red."""
    for (day, step), reason in reasons.items():
        failed = board.cell(day, step).state == "failed"
        if logs.is_json():
            with logs.bound(step=step, day=str(day)):
                log.log(logging.ERROR if failed else logging.INFO, "%s", reason)
            continue
        color = "red" if failed else None
        typer.secho(f"{day} {step}: {reason}", fg=color, err=True)


def described(settings: Settings, step: str, day: date, reason: Exception) -> str:
    """Why a step did not run; the traceback of an unexpected exception goes to a file."""
    if isinstance(reason, Skip | EvergreenError | RegistryError):
        return str(reason)
    try:
        file = settings.report(step, day) / "traceback.txt"
        file.write_text("".join(traceback.format_exception(reason)))
    except OSError as error:  # such as a full disk, which may be the reason itself
        return f"{type(reason).__name__}: {reason} (unexpected; its traceback is lost: {error})"
    return f"{type(reason).__name__}: {reason} (unexpected; the traceback is in {file})"
