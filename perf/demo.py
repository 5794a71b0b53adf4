"""make bench-demo: seconds and memory of the demo's days, by step.

Bars: twelve days within 8 minutes and all processes within 8 GiB, on 2 cores. SIZE=4 takes day zero and four days, and
the bar of seconds in proportion. Runs in a home of its own, on the ports of the settings.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median

from jobs.local.demo import run_demo
from jobs.pipeline.plan import STEPS
from jobs.settings import load_settings
from perf.report import Figure, arguments, finish

MOST_S, OF_DAYS = 480.0, 12
MOST_GIB = 8.0


def main() -> int:
    chosen = arguments(__doc__)
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as home:
        settings = load_settings().model_copy(update={"home": Path(home)})
        outcome = run_demo(settings, int(chosen.size) if chosen.size else None)
    for failure in outcome.failures:
        print(failure, file=sys.stderr)
    if not outcome.ok:
        return 1
    n_days = len(outcome.days) - 1  # after day zero
    figures = [
        Figure(f"{n_days} days", outcome.seconds, "s", bar=MOST_S * n_days / OF_DAYS),
        Figure("services answer", outcome.startup_s, "s"),
        Figure("peak memory of all processes", outcome.peak_bytes / 2**30, "GiB", bar=MOST_GIB),
    ]
    for step in STEPS:
        spent = [
            task.end - task.start
            for task in outcome.tasks
            if task.step == step and task.state == "done"
        ]
        figures += [
            Figure(f"{step}: median of {len(spent)} days", median(spent), "s"),
            Figure(f"{step}: longest", max(spent), "s"),
            Figure(f"{step}: peak memory meanwhile", outcome.peak_of_step[step] / 2**30, "GiB"),
        ]
    return finish("demo", figures, chosen.seed)


if __name__ == "__main__":
    sys.exit(main())
