"""Bytes that Spark's tasks send to the driver, by step: python -m tests.jobs.spark.result_sizes.

Runs every step of two days of a simulated world, whose consumers are the first argument, in the
folder that is the second one; prints {step: bytes} of the second day as JSON. Spark's event log has
the size of each task's result.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

from jobs.parts import STEPS
from jobs.pipeline.running import execute
from jobs.settings import Settings, SparkSettings
from jobs.sources.simulated import SimulatedSettings
from jobs.spark.session import spark_session

FIRST_DAY = date(2024, 1, 1)
SHOWN = 10.0  # impressions per consumer and day


def main() -> None:
    consumers, folder = int(sys.argv[1]), Path(sys.argv[2])
    settings = settings_of(consumers, folder)
    starts = []
    for day in (FIRST_DAY, FIRST_DAY + timedelta(days=1)):
        starts = []
        for step in STEPS:
            starts.append((int(time.time() * 1000), step))
            execute(settings, step, day, lambda: spark_session(settings))
    spark_session(settings).stop()  # closes the event log
    (log,) = (folder / "events").iterdir()
    print(json.dumps(bytes_by_step(log, starts)))


def settings_of(consumers: int, folder: Path) -> Settings:
    events = folder / "events"
    events.mkdir(parents=True)
    conf = {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": events.as_uri(),
        "spark.eventLog.rolling.enabled": "false",
        "spark.eventLog.compress": "false",
        # Spark sends the small side of a join by way of the driver, up to this size: not counted.
        "spark.sql.autoBroadcastJoinThreshold": "-1",
    }
    return Settings(
        home=folder / "home",
        source=SimulatedSettings(
            kind="simulated",
            first_day=FIRST_DAY,
            days=2,
            consumers=consumers,
            producers=200,
            impressions=SHOWN,
        ),
        matrix={"weights": {"click": 1.0, "like": 3.0}},
        services={"live": False},
        spark=SparkSettings(master="local[2]", conf=conf),
    )


def bytes_by_step(log: Path, starts: list[tuple[int, str]]) -> dict[str, int]:
    """starts: (unix ms, step), ascending; a job belongs to the last that started before it."""
    step_of_stage = {}
    total: Counter[str] = Counter()
    for line in log.read_bytes().split(b"\n")[:-1]:  # texts in it have line breaks of other kinds
        event = json.loads(line)
        if event["Event"] == "SparkListenerJobStart":
            begun = [step for start, step in starts if start <= event["Submission Time"]]
            for stage in event["Stage IDs"]:
                step_of_stage[stage] = begun[-1] if begun else ""
        elif event["Event"] == "SparkListenerTaskEnd" and event["Task Type"] == "ResultTask":
            total[step_of_stage[event["Stage ID"]]] += event["Task Metrics"]["Result Size"]
    return {step: total[step] for _, step in starts}


if __name__ == "__main__":
    main()
