"""The output of an experiment: tables as CSV and JSON, pictures, an MLflow run, and progress."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jobs.pipeline.provenance import code_commit
from jobs.pipeline.tracking.runs import TAG, Curves, Tracker
from jobs.settings import Settings

EXPERIMENTS = "experiments"  # the experiment in MLflow, and the folder below reports
FILE_WIDTH = 160  # columns of a printed table where the output is not a terminal

Row = dict[str, str | int | float]
ReportProgress = Callable[[str], None]  # called before every unit of work, with its name


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[ReportProgress]:
    """A bar on a terminal, one line per step elsewhere. The block calls the yielded function."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        # A step is reported when it starts: one more keeps the bar from being full during the last.
        task = bar.add_task(title, total=total + 1)

        def advance(text: str) -> None:
            bar.update(task, advance=1, description=f"{title}: {text}")
            if not bar.console.is_terminal:
                done = int(bar.tasks[0].completed)
                print(f"{title} {done}/{total}: {text}", file=sys.stderr, flush=True)

        yield advance


def column_of(rows: list[Row], name: str) -> np.ndarray:
    """A numeric column of a table, (rows,) float64."""
    return np.array([row[name] for row in rows], dtype=np.float64)


def select(rows: list[Row], name: str, value: str | int | float) -> list[Row]:
    """The rows that have this value in a column."""
    return [row for row in rows if row[name] == value]


def distinct(rows: list[Row], name: str) -> list[str]:
    """The texts of a column, each once, in the order of the table."""
    return list(dict.fromkeys(str(row[name]) for row in rows))


class Report:
    """The folder of one experiment with its tables and pictures, and the figures of its run."""

    def __init__(self, settings: Settings, name: str, seed: int, folder: Path | None) -> None:
        """folder: default reports/experiments/NAME below the home of the settings."""
        self.settings = settings
        self.name = name
        self.seed = seed
        self.folder = folder or settings.home / "reports" / EXPERIMENTS / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.figures: dict[str, float] = {}

    def picture(self, name: str) -> Path:
        """The file of a picture."""
        return self.folder / f"{self.name}-{name.replace(' ', '-')}.png"

    def table(self, name: str, rows: list[Row]) -> None:
        """Write NAME.csv, and NAME.json with the seed and the commit, and print the rows."""
        if not rows:
            return
        # Rows may lack columns: a group that is too small has no figures.
        header = list(dict.fromkeys(column for row in rows for column in row))
        with (self.folder / f"{self.name}-{name}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, header, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        content = {
            "experiment": self.name,
            "seed": self.seed,
            "commit": code_commit(),
            "rows": rows,
        }
        path = self.folder / f"{self.name}-{name}.json"
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
        console.print(printed_table(f"{self.name}: {name}", header, rows))

    def warn(self, messages: list[str]) -> None:
        """Print what limits the results, on stderr."""
        for message in messages:
            print(message, file=sys.stderr)

    def add_figures(self, prefix: str, row: Row) -> None:
        """Log every fractional number of a row as PREFIX_COLUMN."""
        for name, value in row.items():
            if isinstance(value, float):
                self.figures[f"{prefix}_{name}"] = value

    def track(self, experiment: str = EXPERIMENTS, curves: Curves | None = None) -> None:
        """Log one MLflow run: the figures and curves as metrics, all files as artifacts.

        curves: name -> its value at every step. Repeating an experiment adds another run.
        """
        tracker = Tracker(self.settings)
        if not tracker.enabled:
            return
        with tracker.explained(f"log the report {self.name}"):
            self._track(tracker, experiment, curves or {})

    def _track(self, tracker: Tracker, experiment_name: str, curves: Curves) -> None:
        client = tracker.client
        experiment = tracker.experiment_id(experiment_name)
        tags = {f"{TAG}step": "all", f"{TAG}commit": code_commit()}
        run = client.create_run(experiment, tags=tags, run_name=self.name)
        client.log_param(run.info.run_id, "seed", self.seed)
        tracker.log_facts(run.info.run_id, self.figures)
        tracker.log_curves(run.info.run_id, curves)
        client.log_artifacts(run.info.run_id, str(self.folder))
        client.set_terminated(run.info.run_id)


def not_replayed(settings: Settings) -> list[str]:
    """Which options of the matrix the reports leave out that fit in memory what Spark fits."""
    names = []
    for name in ("half_life_days", "drop_top", "rank_by"):
        if getattr(settings.matrix, name):
            names.append(f"matrix.{name}")
    return [f"The report leaves out {', '.join(names)} of the settings."] if names else []


def printed_table(title: str, header: list[str], rows: list[Row]) -> Table:
    """The rows for a terminal: an interval is in the cell of its figure, not in two columns."""
    interval_ends = set()
    for name in header:
        interval_ends |= {f"{name}_low", f"{name}_high"}
    table = Table(title=title, title_justify="left")
    names = [name for name in header if name not in interval_ends]
    for name in names:
        is_number = isinstance(rows[0].get(name), int | float)
        table.add_column(name, justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*(cell(row, name) for name in names))
    return table


def cell(row: Row, name: str) -> str:
    """A figure to four decimals, with its interval if it has one."""
    value = row.get(name, "")
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    if f"{name}_low" not in row:
        return text
    return f"{text} [{row[f'{name}_low']:.4f}, {row[f'{name}_high']:.4f}]"
