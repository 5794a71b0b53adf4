"""What a person waits for: a board of days x steps with seconds, live on a terminal, a line a day elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

from rich.console import Console
from rich.live import Live
from rich.table import Table

STYLES = {
    "running": "yellow",
    "done": "green",
    "skipped": "dim",
    "failed": "bold red",
    "waiting": "dim",
}


@dataclass(frozen=True)
class Cell:
    """One step of one day. seconds: of the work itself, None before it ended."""

    state: str  # a key of STYLES
    seconds: float | None = None

    def __str__(self) -> str:
        if self.state == "done":
            return f"{self.seconds:.1f}" if self.seconds is not None else "✓"
        return {"running": "…", "skipped": "–", "failed": "✗", "waiting": ""}[self.state]


@dataclass
class Board:
    """Which step of which day stands where."""

    days: list[date]
    steps: tuple[str, ...]
    cells: dict[tuple[date, str], Cell] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._told: set[date] = set()

    def set(self, day: date, step: str, state: str, seconds: float | None = None) -> None:
        self.cells[day, step] = Cell(state, seconds)

    def cell(self, day: date, step: str) -> Cell:
        return self.cells.get((day, step), Cell("waiting"))

    def seconds(self, step: str) -> list[float]:
        """The seconds of the days on which this step ran to its end."""
        return [
            c.seconds
            for (_, s), c in self.cells.items()
            if s == step and c.state == "done" and c.seconds is not None
        ]

    def failed(self) -> list[tuple[date, str]]:
        return [where for where, cell in self.cells.items() if cell.state == "failed"]

    def table(self, title: str = "") -> Table:
        table = Table(
            "day",
            *self.steps,
            title=title,
            header_style="bold",
            pad_edge=False,
            collapse_padding=True,
        )
        for column in table.columns[1:]:
            column.justify = "right"
        for day in self.days:
            cells = [self.cell(day, step) for step in self.steps]
            table.add_row(str(day), *(f"[{STYLES[c.state]}]{c}[/]" for c in cells))
        return table

    def finished_days(self) -> list[date]:
        """Days whose every step has ended, in order, each told once: the lines where there is no terminal."""
        over = [
            d
            for d in self.days
            if all(self.cell(d, s).state not in ("waiting", "running") for s in self.steps)
        ]
        fresh = [d for d in over if d not in self._told]
        self._told.update(fresh)
        return fresh

    def line(self, day: date) -> str:
        parts = [f"{step} {self.cell(day, step)}" for step in self.steps]
        return f"{day}  " + "  ".join(parts)


@contextmanager
def live(board: Board, title: str = "") -> Iterator[Callable[[], None]]:
    """Show the board while the block runs; the block calls what it is given after each change."""
    console = Console(file=sys.stdout)
    if console.is_terminal:
        with Live(board.table(title), console=console, refresh_per_second=4) as screen:
            yield lambda: screen.update(board.table(title))
        return

    def tell() -> None:
        for day in board.finished_days():
            print(board.line(day), flush=True)

    yield tell
    tell()
