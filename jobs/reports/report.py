"""What an experiment leaves behind: tables as CSV and JSON, pictures, a run in MLflow; and what is seen meanwhile."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jobs.settings import Settings
from jobs.steps.publish import code_commit

EXPERIMENTS = "experiments"  # of MLflow
Row = dict[str, str | int | float]


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, a line a step elsewhere; the block calls what it is given with what it does next."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total + 1)

        def tell(text: str) -> None:
            bar.update(task, advance=1, description=f"{title}: {text}")
            if not bar.console.is_terminal:
                print(
                    f"{title} {int(bar.tasks[0].completed)}/{total}: {text}",
                    file=sys.stderr,
                    flush=True,
                )

        yield tell


@contextmanager
def panels(path: Path, titles: list[str], height: float = 3.6) -> Iterator[list]:
    """Axes side by side with one scale, one a title; saved as a PNG when the block ends."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(2 + 3.4 * len(titles), height), layout="constrained")
    axes = picture.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for one, title in zip(axes, titles, strict=True):
        one.set_title(title)
        one.grid(alpha=0.3)
    yield list(axes)
    picture.savefig(path, dpi=110, metadata={"Software": None})


class Report:
    """The folder of one experiment: its tables and pictures, and the figures that stand on its run."""

    def __init__(self, settings: Settings, name: str, seed: int, folder: Path | None) -> None:
        """folder: default, reports/experiments/NAME below home."""
        self.settings, self.name, self.seed = settings, name, seed
        self.folder = folder or settings.home / "reports" / EXPERIMENTS / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.figures: dict[str, float] = {}

    def picture(self, name: str) -> Path:
        return self.folder / f"{self.name}-{name.replace(' ', '-')}.png"

    def table(self, name: str, rows: list[Row]) -> None:
        """NAME.csv, NAME.json with the seed and the commit, and the rows on the screen."""
        if not rows:
            return
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
        Console(width=None if sys.stdout.isatty() else 160).print(
            shown(f"{self.name}: {name}", header, rows)
        )

    def tell(self, lines: list[str]) -> None:
        """What the reader has to know besides the tables."""
        for line in lines:
            print(line, file=sys.stderr)

    def track(self) -> None:
        """One run in MLflow: the figures as metrics, all files as artifacts. A repeated experiment is one more run."""
        from jobs.pipeline import tracking

        if not tracking.enabled(self.settings):
            return
        client = tracking.client_of(self.settings)
        experiment = tracking.experiment_id(self.settings, client, EXPERIMENTS)
        tags = {
            f"{tracking.TAG}{name}": text
            for name, text in (("step", "all"), ("commit", code_commit()))
        }
        run = client.create_run(experiment, tags=tags, run_name=self.name)
        client.log_param(run.info.run_id, "seed", self.seed)
        tracking.log_facts(client, run.info.run_id, self.figures)
        client.log_artifacts(run.info.run_id, str(self.folder))
        client.set_terminated(run.info.run_id)


def shown(title: str, header: list[str], rows: list[Row]) -> Table:
    """With intervals beside their figure instead of in columns of their own."""
    ends = tuple(f"{name}_{end}" for name in header for end in ("low", "high"))
    names = [name for name in header if name not in ends]
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(
            name, justify="right" if isinstance(rows[0].get(name), int | float) else "left"
        )
    for row in rows:
        table.add_row(*(cell(row, name) for name in names))
    return table


def cell(row: Row, name: str) -> str:
    value = row.get(name, "")
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return (
        f"{text} [{row[f'{name}_low']:.4f}, {row[f'{name}_high']:.4f}]"
        if f"{name}_low" in row
        else text
    )
