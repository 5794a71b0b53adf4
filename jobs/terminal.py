"""What a terminal shows: texts that are not ours, and the progress of a run.

Progress is a live table of days by steps on a terminal, otherwise one line per day.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

STYLES = {
    "running": "yellow",
    "done": "green",
    "reused": "green",
    "skipped": "dim",
    "failed": "bold red",
    "waiting": "dim",
}
SYMBOLS = {"running": "…", "done": "✓", "reused": "=", "skipped": "–", "failed": "✗", "waiting": ""}
DAY_WIDTH = 12  # columns of a day, with what is beside it
SHORTEST = 4  # columns of a step: of its seconds, such as 12.3
UNFINISHED = ("waiting", "running")
WIDTH = 120  # columns where the output is no terminal


def console() -> Console:
    """The terminal, or output of a fixed width where there is none."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH)


def visible(text: str) -> str:
    """The text with what cannot be seen as escapes, such as \\x1b, which would command a terminal.

    Among these are line breaks, and characters that change the direction of the text.
    """
    if text.isprintable():
        return text
    seen = [mark if mark.isprintable() else repr(mark)[1:-1] for mark in text]
    return "".join(seen)


def plain(text: str) -> str:
    """A text of a log or a path, as Rich may print it: visible, and without markup."""
    return escape(visible(text))


@dataclass(frozen=True)
class Cell:
    """One step of one day. seconds: its running time; None before it has ended."""

    state: str  # a key of STYLES
    seconds: float | None = None

    def __str__(self) -> str:
        if self.state == "done" and self.seconds is not None:
            return f"{self.seconds:.1f}"
        return SYMBOLS[self.state]


@dataclass
class Board:
    """The state of every step on every day."""

    days: list[date]
    steps: tuple[str, ...]
    cells: dict[tuple[date, str], Cell] = field(default_factory=dict)

    def set(self, day: date, step: str, state: str, seconds: float | None = None) -> None:
        self.cells[day, step] = Cell(state, seconds)

    def cell(self, day: date, step: str) -> Cell:
        return self.cells.get((day, step), Cell("waiting"))

    def failed(self) -> list[tuple[date, str]]:
        return [where for where, cell in self.cells.items() if cell.state == "failed"]

    def finished_days(self) -> list[date]:
        """The days whose every step has ended, in order."""
        finished = []
        for day in self.days:
            states = {self.cell(day, step).state for step in self.steps}
            if states.isdisjoint(UNFINISHED):
                finished.append(day)
        return finished

    def table(self, title: str = "", width: int = WIDTH) -> Table:
        """The board for a terminal: seconds of steps that are done, symbols for the others.

        width: of the terminal, in columns. On a narrow one the names of all steps are cut alike.
        """
        whole = DAY_WIDTH + sum(len(step) + 1 for step in self.steps)
        cut = (width - DAY_WIDTH) // len(self.steps) - 1
        longest = max(cut, SHORTEST) if whole > width else None
        table = Table(title=title, box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0))
        table.add_column("day", min_width=10, no_wrap=True)
        for step in self.steps:
            table.add_column(step, justify="right", max_width=longest, no_wrap=True)
        for day in self.days:
            row = [str(day)]
            for step in self.steps:
                cell = self.cell(day, step)
                row.append(f"[{STYLES[cell.state]}]{cell}[/]")
            table.add_row(*row)
        return table

    def line(self, day: date) -> str:
        """One day for a log file."""
        steps = [f"{step} {self.cell(day, step)}" for step in self.steps]
        return f"{day}  {'  '.join(steps)}"


@contextmanager
def live(board: Board, title: str = "") -> Iterator[Callable[[], None]]:
    """Show the board while the block runs. Yields a function to call after each change."""
    console = Console(file=sys.stdout)
    if console.is_terminal:
        width = console.width
        with Live(board.table(title, width), console=console, refresh_per_second=4) as screen:
            yield lambda: screen.update(board.table(title, console.width))
        return

    printed: set[date] = set()

    def print_finished() -> None:
        for day in board.finished_days():
            if day not in printed:
                printed.add(day)
                print(board.line(day), flush=True)

    yield print_finished
    print_finished()
