"""make bench-simulate: events a second of the simulated world, on one core.

The world has 100,000 consumers to whom 10 items a day are shown, a million events with the
probabilities that they were drawn from; SIZE=0.1 takes a tenth of the consumers. Beside it: the
standard world, whose consumers are shown 0.3 items a day, so that most of the time goes to
consumers; day 3,000 of the same world, which must not cost more than day 0; and the days as Parquet
files with all their tables. A day is measured cold, with its items, and in seconds of CPU time,
because a busy machine would be measured otherwise; NumPy is held to one thread.
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median

from threadpoolctl import threadpool_limits

from jobs.simulated.write import write
from perf.report import Figure, arguments, finish
from simulation.engagements import stream
from simulation.text import texts
from simulation.world import World

BUSY = 10.0  # impressions per consumer and day
DAYS = 7
FAR = 3000
MILLION = 1e6


def main() -> int:
    options = arguments(__doc__, size="1")
    consumers = int(100_000 * float(options.size))
    busy = World(consumers=consumers, impressions=BUSY, seed=options.seed)
    standard = World(consumers=consumers, seed=options.seed)
    with threadpool_limits(1):
        figures = measured(busy, standard)
    return finish("simulate", figures, options.seed)


def measured(busy: World, standard: World) -> list[Figure]:
    near = median(speed(busy, day) for day in range(DAYS))
    far = median(speed(busy, FAR + day) for day in range(DAYS))
    usual = median(speed(standard, day) for day in range(DAYS))
    return [
        Figure("events, 10 per consumer and day", near, "M/s", bar=1.0, at_most=False),
        Figure(
            f"the same from day {FAR:,} on",
            far,
            "M/s",
            peer="from day 0 on",
            peer_value=near,
            bar=0.8,
            at_most=False,
            bar_on_ratio=True,
        ),
        Figure("events, 0.3 per consumer and day", usual, "M/s"),
        Figure("tokens of texts", median(text_speed(busy, day) for day in range(DAYS)), "M/s"),
        Figure("a standard day as Parquet files, all tables", written_s(standard), "s"),
    ]


def speed(world: World, day: int) -> float:
    """Millions of events a second of a day that was not asked for before."""
    started = time.process_time()
    events = sum(len(part) for part in stream(world, day))
    return events / MILLION / (time.process_time() - started)


def text_speed(world: World, day: int) -> float:
    started = time.process_time()
    tokens = len(texts(world, day).kinds)
    return tokens / MILLION / (time.process_time() - started)


def written_s(world: World) -> float:
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as folder:
        started = time.process_time()
        write(world, date(2024, 1, 1), DAYS, Path(folder), lambda: None)
        return (time.process_time() - started) / DAYS


if __name__ == "__main__":
    sys.exit(main())
