"""The end of every measurement: a table, perf/results/NAME.json, and an exit code for the bars.

To run one:  python -m perf.NAME [--seed N] [--size S]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from jobs.machine import usable_cpus
from jobs.pipeline.provenance import code_commit

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
FILE_WIDTH = 110  # columns of the table where the output is not a terminal


@dataclass(frozen=True)
class Figure:
    """One measured number, optionally with a peer's number and with a bar to meet."""

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    bar: float | None = None
    at_most: bool = True  # the bar is an upper limit; otherwise a lower one
    bar_on_ratio: bool = False  # the bar is on value / peer_value instead of on value

    @property
    def ratio(self) -> float | None:
        """value / peer_value; None without a peer's value."""
        return self.value / self.peer_value if self.peer_value else None

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without a bar. A ratio that is undefined meets none."""
        if self.bar is None:
            return None
        measured = self.ratio if self.bar_on_ratio else self.value
        if measured is None:
            return False
        return measured <= self.bar if self.at_most else measured >= self.bar


def arguments(description: str | None, size: str = "") -> argparse.Namespace:
    """Parse --seed and --size, as `make bench-NAME SEED= SIZE=` passes them.

    size: the default size.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", default=size)
    return parser.parse_args()


def finish(name: str, figures: list[Figure], seed: int) -> int:
    """Print the figures and write perf/results/NAME.json. Returns 1 if a bar is missed, else 0."""
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    console.print(table(name, figures))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document(figures, seed), indent=1, ensure_ascii=False) + "\n")
    print(f"Written to {path.relative_to(ROOT)}.")
    missed = [figure for figure in figures if figure.met is False]
    return 1 if missed else 0


def document(figures: list[Figure], seed: int) -> dict:
    """The result file: the figures, and what is needed to reproduce them."""
    rows = []
    for figure in figures:
        rows.append(asdict(figure) | {"ratio": figure.ratio, "met": figure.met})
    spec = sys.modules["__main__"].__spec__  # None if the file was run directly
    module = spec.name if spec else sys.argv[0]
    return {
        "command": " ".join(["python", "-m", module, *sys.argv[1:]]),
        "commit": code_commit(),
        "machine": machine(),
        "seed": seed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "figures": rows,
    }


def table(title: str, figures: list[Figure]) -> Table:
    shown = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for column in ("figure", "value", "unit", "peer", "peer's", "ratio", "bar", "met"):
        is_text = column in ("figure", "unit", "peer")
        shown.add_column(column, justify="left" if is_text else "right")
    met_cells = {None: "", True: "[green]yes[/]", False: "[bold red]no[/]"}
    for figure in figures:
        shown.add_row(
            figure.name,
            number(figure.value),
            figure.unit,
            figure.peer,
            number(figure.peer_value),
            number(figure.ratio),
            bar_cell(figure),
            met_cells[figure.met],
        )
    return shown


def bar_cell(figure: Figure) -> str:
    """Such as "≤ 1.3 ×" for a bar on the ratio."""
    if figure.bar is None:
        return ""
    relation = "≤" if figure.at_most else "≥"
    unit = " ×" if figure.bar_on_ratio else ""
    return f"{relation} {figure.bar:g}{unit}"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def machine() -> str:
    """Cores, memory and software, without the machine's name."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = f"{usable_cpus()} cores ({cpu_model()}), {memory_gib:.0f} GiB"
    return f"{cores}, {platform.system()}, Python {platform.python_version()}"


def cpu_model() -> str:
    """The model that lscpu names; without lscpu the architecture."""
    try:
        output = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return platform.machine()
    for line in output.splitlines():
        key, _, value = line.partition(":")
        if key == "Model name":
            return value.strip()
    return platform.machine()
