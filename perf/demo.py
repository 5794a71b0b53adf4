"""make bench-demo: time and memory of the demo, by step.

Bars: twelve days within 8 minutes, and all processes within 8 GiB, on 2 cores. SIZE=4 runs day zero
and four days, with the bar in proportion. The demo runs in a temporary home, on the ports of the
settings.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median

from jobs.local.demo import run_demo
from jobs.parts import STEPS
from jobs.settings import load_settings
from perf.report import Figure, arguments, finish

MAX_SECONDS = 480.0
BAR_DAYS = 12  # the days that MAX_SECONDS is for
MAX_GIB = 8.0


def main() -> int:
    options = arguments(__doc__)
    n_days = int(options.size) if options.size else None
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as home:
        settings = load_settings().model_copy(update={"home": Path(home)})
        outcome = run_demo(settings, n_days)
    for failure in outcome.failures:
        print(failure, file=sys.stderr)
    if not outcome.ok:
        return 1
    n_days = len(outcome.days) - 1  # after day zero
    figures = [
        Figure(f"{n_days} days", outcome.seconds, "s", bar=MAX_SECONDS * n_days / BAR_DAYS),
        Figure("services ready", outcome.startup_s, "s"),
        Figure("peak memory of all processes", outcome.peak_bytes / 2**30, "GiB", bar=MAX_GIB),
    ]
    for step in STEPS:
        took_s = []
        for task in outcome.runs_of(step):
            if task.state == "done":
                took_s.append(task.end - task.start)
        peak_gib = outcome.peak_of_step[step] / 2**30
        figures.append(Figure(f"{step}: median of {len(took_s)} days", median(took_s), "s"))
        figures.append(Figure(f"{step}: longest", max(took_s), "s"))
        figures.append(Figure(f"{step}: peak memory meanwhile", peak_gib, "GiB"))
    return finish("demo", figures, options.seed)


if __name__ == "__main__":
    sys.exit(main())
