"""python -m perf.sizing: cores, memory, storage and money by events a day, for docs/sizing.md.

From perf/results/scale.json and the assumptions below; nothing is measured here. CPU time grows in
proportion to the events, which is what the exponents of that measurement say, and is spread over as
many cores as finish a day in time. The ranker of scale.json goes on from the day before; here it is
trained anew on a window of days, whose rows take as long each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from perf.report import RESULTS

COLUMNS = (
    "events a day",
    "core hours a day",
    "cores",
    "their memory",
    "lake",
    "registry",
    "GPU hours a day",
    "$ a month",
)
EVENTS = (10**7, 10**9, 10**11)  # impressions a day
MEASURED = 10.0  # million a day: the size in scale.json that is taken
WINDOW = 14  # days: ranker.window_days
HOURS = 3.0  # in which a day must be done
BUSY = 0.6  # share of that time in which a core works
KEPT = 90  # days of partitions in the lake
GIB_A_CORE = 4.0
# Bytes of a home after the second day of 3 million events, by event and day.
BYTES = {"land": 13, "validate": 20, "examples": 55, "evaluate": 10, "others": 33}
VECTORS = 250  # bytes a consumer takes in a version: 32 numbers, its id, how often it was seen
CONSUMERS = 0.1  # active ones by event
VERSIONS = 30
GPU_ROWS_S = 1_000_000  # a GPU that waits for the files: it alone does ten times as many
CORE_HOUR, GIB_MONTH, GPU_HOUR = 0.05, 0.023, 4.0  # US dollars


@dataclass(frozen=True)
class Size:
    """What a day of so many events takes. A GPU trains where cores would need more than HOURS."""

    events: int
    core_hours: float
    cores: int
    lake_gib: float
    registry_gib: float
    gpu_hours: float

    @property
    def dollars(self) -> float:
        """A month."""
        daily = self.core_hours / BUSY * CORE_HOUR + self.gpu_hours * GPU_HOUR
        return 30 * daily + (self.lake_gib + self.registry_gib) * GIB_MONTH


def main() -> None:
    of_steps = cpu_seconds_per_event()
    table = Table(box=MARKDOWN)
    for name in COLUMNS:
        table.add_column(name)
    for events in EVENTS:
        size = size_of(events, of_steps)
        table.add_row(
            f"{events:,}",
            f"{size.core_hours:,.1f}",
            f"{size.cores:,}",
            f"{size.cores * GIB_A_CORE:,.0f} GiB",
            f"{size.lake_gib:,.0f} GiB",
            f"{size.registry_gib:,.0f} GiB",
            f"{size.gpu_hours:,.1f}",
            f"{size.dollars:,.0f}",
        )
    Console(width=140).print(table)


def cpu_seconds_per_event() -> dict[str, float]:
    """By step, with `train` by row that it reads."""
    figures = json.loads((RESULTS / "scale.json").read_text())["figures"]
    end = f": {MEASURED:g} M, CPU"
    found = {}
    for figure in figures:
        if figure["name"].endswith(end):
            found[figure["name"].removesuffix(end)] = figure["value"] / (MEASURED * 1e6)
    return found


def size_of(events: int, of_steps: dict[str, float]) -> Size:
    trained = events * WINDOW
    on_cores = of_steps["train"] * trained / 3600
    gpu_hours = 0.0
    if on_cores > HOURS * BUSY:  # a training is one process
        on_cores, gpu_hours = 0.0, trained / GPU_ROWS_S / 3600
    others = sum(seconds for step, seconds in of_steps.items() if step != "train")
    hours = others * events / 3600 + on_cores
    lake = events * KEPT * sum(BYTES.values()) / 2**30
    registry = events * CONSUMERS * VECTORS * VERSIONS / 2**30
    return Size(events, hours, ceil(hours / (HOURS * BUSY)), lake, registry, gpu_hours)


if __name__ == "__main__":
    main()
