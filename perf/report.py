"""What every measurement ends with: a table, perf/results/NAME.json, and an exit code: were the bars met?

A run of a measurement:  python -m perf.NAME [--seed N] [--size S]
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

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Figure:
    """One number, beside a peer's where there is one, and the bar it has to clear where there is one."""

    name: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    bar: float | None = None
    at_most: bool = True  # the bar is an upper one
    bar_on_ratio: bool = False  # the bar is on value / peer_value instead of on value

    @property
    def ratio(self) -> float | None:
        return self.value / self.peer_value if self.peer_value else None

    @property
    def met(self) -> bool | None:
        """Is the bar cleared? None without a bar. A ratio that is not there clears none."""
        if self.bar is None:
            return None
        judged = self.ratio if self.bar_on_ratio else self.value
        return judged is not None and (judged <= self.bar if self.at_most else judged >= self.bar)


def arguments(description: str | None, size: str = "") -> argparse.Namespace:
    """--seed and --size, as `make bench-NAME SEED= SIZE=` gives them. size: the default."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", default=size)
    return parser.parse_args()


def finish(name: str, figures: list[Figure], seed: int) -> int:
    """Show the figures and write perf/results/NAME.json. Returns the exit code: 1 when a bar is missed."""
    Console(width=None if sys.stdout.isatty() else 110).print(table(name, figures))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document(figures, seed), indent=1, ensure_ascii=False) + "\n")
    print(f"Written to {path.relative_to(ROOT)}.")
    return 1 if any(figure.met is False for figure in figures) else 0


def document(figures: list[Figure], seed: int) -> dict:
    """The result file: the figures, and what it takes to get them again."""
    rows = [asdict(figure) | {"ratio": figure.ratio, "met": figure.met} for figure in figures]
    spec = sys.modules["__main__"].__spec__  # None where the file itself was run
    command = " ".join(["python", "-m", spec.name if spec else sys.argv[0], *sys.argv[1:]])
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "command": command,
        "commit": commit(),
        "machine": machine(),
        "seed": seed,
        "date": when,
        "figures": rows,
    }


def table(title: str, figures: list[Figure]) -> Table:
    shown = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for column in ("figure", "value", "unit", "peer", "peer's", "ratio", "bar", "met"):
        shown.add_column(
            column, justify="left" if column in ("figure", "unit", "peer") else "right"
        )
    for f in figures:
        bar = (
            ""
            if f.bar is None
            else f"{'≤' if f.at_most else '≥'} {f.bar:g}{' ×' if f.bar_on_ratio else ''}"
        )
        met = {None: "", True: "[green]yes[/]", False: "[bold red]no[/]"}[f.met]
        shown.add_row(
            f.name, number(f.value), f.unit, f.peer, number(f.peer_value), number(f.ratio), bar, met
        )
    return shown


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def commit() -> str:
    """The commit that was measured, with + when the tree differs from it."""
    from jobs.steps.publish import code_commit

    return code_commit()


def machine() -> str:
    """Cores, memory and what is on them, without the machine's name."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = f"{os.cpu_count()} cores ({cpu_model()}), {pages / 2**30:.0f} GiB"
    return f"{cores}, {platform.system()}, Python {platform.python_version()}"


def cpu_model() -> str:
    try:
        told = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
        return next(
            line.split(":", 1)[1].strip()
            for line in told.splitlines()
            if line.startswith("Model name")
        )
    except (OSError, subprocess.CalledProcessError, StopIteration):
        return platform.machine()
