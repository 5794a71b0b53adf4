"""make bench-scale: seconds and memory of every step as the days grow.

A simulated world in which ten items a day are shown to every consumer, at 0.3, 1, 3 and 10 million
impressions a day; SIZE=1,3,10,30 names others. For each size a process of its own runs three days
through all steps, with a home and a Spark of its own on two cores, and the third day is measured:
it tests a champion and a challenger, and decides between them. The ranker goes on from that of the
day before, so that a training takes what the day takes and not what a window of days does.

How cost grows is the exponent k of `seconds ~ events^k`, fitted to all sizes, and taken from the
two largest ones alone: a step with a fixed cost of some seconds looks better in the first than it
is. CPU seconds count all processes, because a busy machine would spoil wall time. Memory is the
largest sum of what the processes hold, and the largest single process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from jobs.local.memory import PeakMemory
from jobs.parts import STEPS
from jobs.pipeline.running import execute
from jobs.settings import ServiceSettings, Settings, SparkSettings
from jobs.sources.simulated import SimulatedSettings
from jobs.spark.session import spark_session
from perf.report import Figure, arguments, finish
from perf.timing import cpu_since, cpu_times

SIZES = "0.3,1,3,10"  # million impressions a day
SHOWN = 10.0  # impressions per consumer and day
FIRST_DAY = date(2024, 1, 1)
DAYS = 3
BAR_EVENTS = 10.0  # million a day, of which the whole loop takes at most:
BAR_SECONDS = 360.0
BAR_GIB = 6.0
BAR_EXPONENT = 1.05
SHORT_S = 5.0  # a step with less than this at the largest size says nothing of how it grows
DAY = "import sys; from perf.scale import write_costs; write_costs(*sys.argv[1:])"
# For long days (docs/sizing.md): with so many rows, a larger batch learns as well, and much faster,
# and a window of days is too long to be read every night.
RANKER = {
    "batch_size": 4096,
    "learning_rate": 5e-3,
    "precision": "auto",
    "compiled": True,
    "threads": 2,
    "warm_start": True,
}
HEAP = "1536m"  # of Spark: enough for ten million impressions
WEIGHTS = {"click": 1.0, "long_view": 1.0, "like": 3.0, "reply": 3.0, "follow": 5.0}


@dataclass(frozen=True)
class Cost:
    """Of one step. seconds: wall time; peak, largest: GiB of all processes, and of one."""

    step: str
    seconds: float
    cpu_s: float
    peak: float
    largest: float


def main() -> int:
    options = arguments(__doc__, size=SIZES)
    sizes = sorted(float(size) for size in options.size.split(","))
    costs = {size: measured(size, options.seed) for size in sizes}
    return finish("scale", [*totals(costs), *growth(costs)], options.seed)


def measured(size: float, seed: int) -> list[Cost]:
    """The costs of the steps of the last day, measured in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as home:
        command = [sys.executable, "-c", DAY, home, str(size), str(seed)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Cost(**json.loads(line)) for line in done.stdout.splitlines()]


def settings_of(home: Path, size: float, seed: int) -> Settings:
    """size: million impressions a day."""
    source = SimulatedSettings(
        kind="simulated",
        seed=seed,
        first_day=FIRST_DAY,
        days=DAYS,
        consumers=int(size * 1e6 / SHOWN),
        impressions=SHOWN,
    )
    return Settings(
        home=home,
        source=source,
        matrix={"weights": WEIGHTS},
        ranker=RANKER,
        services=ServiceSettings(live=False),
        spark=SparkSettings(master="local[2]", driver_memory=HEAP),
    )


def run_days(settings: Settings) -> list[Cost]:
    """Run all steps of all days; returns the costs of the last day."""
    costs = []
    for number in range(DAYS):
        day = FIRST_DAY + timedelta(days=number)
        costs = []
        for step in STEPS:
            cost = cost_of(settings, step, day)
            print(f"{day} {step}: {cost.seconds:.1f} s, {cost.peak:.2f} GiB", file=sys.stderr)
            costs.append(cost)
    return costs


def cost_of(settings: Settings, step: str, day: date) -> Cost:
    before = cpu_times()
    started = time.perf_counter()
    with PeakMemory() as memory:
        execute(settings, step, day, lambda: spark_session(settings))
    seconds = time.perf_counter() - started
    gib = memory.peak() / 2**30
    return Cost(step, seconds, cpu_since(before), gib, memory.largest / 2**30)


def totals(costs: dict[float, list[Cost]]) -> list[Figure]:
    """Time and memory of the whole day, by size."""
    figures = []
    for size, steps in costs.items():
        barred = size == BAR_EVENTS
        name = f"{size:g} M a day"
        figures += [
            Figure(
                f"{name}: all steps",
                sum(cost.seconds for cost in steps),
                "s",
                bar=BAR_SECONDS if barred else None,
            ),
            Figure(f"{name}: all steps, CPU", sum(cost.cpu_s for cost in steps), "s"),
            Figure(
                f"{name}: memory of all processes",
                max(cost.peak for cost in steps),
                "GiB",
                bar=BAR_GIB if barred else None,
            ),
            Figure(f"{name}: largest process", max(cost.largest for cost in steps), "GiB"),
        ]
    return figures


def growth(costs: dict[float, list[Cost]]) -> list[Figure]:
    """Each step at each size, and the exponents of its CPU seconds and of its memory."""
    sizes = np.array(list(costs))
    figures = []
    for number, step in enumerate(STEPS):
        of_step = [steps[number] for steps in costs.values()]
        for size, cost in zip(sizes, of_step, strict=True):
            figures.append(Figure(f"{step}: {size:g} M", cost.seconds, "s"))
            figures.append(Figure(f"{step}: {size:g} M, CPU", cost.cpu_s, "s"))
            figures.append(Figure(f"{step}: {size:g} M, memory", cost.peak, "GiB"))
        if len(sizes) < 2:
            continue
        cpu_s = np.array([cost.cpu_s for cost in of_step])
        peaks = np.array([cost.peak for cost in of_step])
        # Below that, the time is that of starting the step.
        bar = BAR_EXPONENT if cpu_s[-1] >= SHORT_S else None
        largest = exponent(sizes[-2:], cpu_s[-2:])
        figures += [
            Figure(f"{step}: exponent of CPU seconds", exponent(sizes, cpu_s), ""),
            Figure(f"{step}: the same, of the two largest", largest, "", bar=bar),
            Figure(
                f"{step}: exponent of memory, of the two largest",
                exponent(sizes[-2:], peaks[-2:]),
                "",
            ),
        ]
    return figures


def exponent(sizes: np.ndarray, costs: np.ndarray) -> float:
    """k of the power law costs ~ sizes^k that fits best, by least squares of the logarithms."""
    slope, _ = np.polyfit(np.log(sizes), np.log(costs), 1)
    return float(slope)


def write_costs(home: str, size: str, seed: str) -> None:
    """A line of JSON for each step of the measured day."""
    for cost in run_days(settings_of(Path(home), float(size), int(seed))):
        print(json.dumps(asdict(cost)))


if __name__ == "__main__":
    sys.exit(main())
