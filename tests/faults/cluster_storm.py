"""A storm on a Spark cluster: an executor is killed in the middle of every job of every step.

    python -m tests.faults.cluster_storm --rounds 3 --seed 0

A standalone cluster of two workers runs the steps of a small home. A step is run again and again:
the first time an executor is killed during its first job, the next time during its second, until it
has no further job; and all of this in every round, each time at another moment of the job. Spark
starts another executor and computes what was lost. In the end everything is compared with a home
that one machine has computed undisturbed: partitions, versions, aliases, MLflow's metrics and
models.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from pyspark.sql import SparkSession

from jobs.parts import STEPS
from jobs.pipeline.running import execute
from jobs.settings import Settings, load_settings
from jobs.spark.session import spark_session
from tests.faults.comparison import differences
from tests.faults.storm import DAYS, SETTINGS, run_to_the_end
from tests.small_logs import write_kuairand
from tests.spark_cluster import Cluster, started_cluster

DAY = DAYS[-1]  # the day whose steps are disturbed
LONGEST_WAIT_S = 0.3  # from the start of a job to the kill; most jobs of a small log take as long
RETRIES = {"spark.executor.memory": "512m", "spark.task.maxFailures": "8"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        tally, found = storm(Path(folder), chosen.rounds, chosen.seed)
    for difference in found:
        print(difference)
    print(f"seed {chosen.seed}, {tally.total()} kills: {len(found)} differences")
    sys.exit(1 if found or not tally.total() else 0)


def storm(folder: Path, rounds: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Kills by step, and the differences between the two homes in words."""
    write_kuairand(folder / "log", history=True)
    calm, stormy = folder / "calm", folder / "stormy"
    for home in (calm, stormy):
        home.mkdir()
        (home / "settings.toml").write_text(SETTINGS.format(log=folder / "log"))
        run_to_the_end(home, address="")
    settings = load_settings(stormy / "settings.toml")
    tally: Counter[str] = Counter()
    with started_cluster(folder) as cluster:
        conf = settings.spark.conf | RETRIES
        on_cluster = settings.spark.model_copy(update={"master": cluster.address, "conf": conf})
        settings = settings.model_copy(update={"spark": on_cluster})
        spark = spark_session(settings)
        try:
            for number in range(1, rounds + 1):
                disturb(settings, spark, cluster, random.Random(f"{seed}/{number}"), tally)
                print(f"round {number} of {rounds}: kills {dict(tally)}", flush=True)
        finally:
            spark.stop()
    return tally, differences(load_settings(calm / "settings.toml"), settings, DAYS)


def disturb(
    settings: Settings,
    spark: SparkSession,
    cluster: Cluster,
    draw: random.Random,
    tally: Counter[str],
) -> None:
    """Run every step of the day once for each of its jobs, and kill an executor in that job."""
    for step in STEPS:
        job = 1
        while True:
            with Assassin(spark, cluster, job, draw) as assassin:
                execute(settings, step, DAY, lambda: spark)
            if not assassin.seen:
                break
            tally[step] += assassin.killed
            job += 1


class Assassin(threading.Thread):
    """Kills an executor during the n-th job that starts while the block runs.

    seen: there was such a job. killed: it was still under way when the executor died.
    """

    def __init__(
        self, spark: SparkSession, cluster: Cluster, number: int, draw: random.Random
    ) -> None:
        super().__init__(daemon=True)
        self.tracker = spark.sparkContext.statusTracker()
        self.cluster = cluster
        self.number = number
        self.wait_s = draw.uniform(0.0, LONGEST_WAIT_S)
        self.choice = draw.random()
        self.seen = False
        self.killed = False
        self._over = threading.Event()

    def __enter__(self) -> Assassin:
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        before = set(self.tracker.getActiveJobsIds())
        started: set[int] = set()
        while not self._over.is_set():
            started |= set(self.tracker.getActiveJobsIds()) - before
            if len(started) >= self.number:
                self.seen = True
                self.kill(sorted(started)[self.number - 1])
                return
            time.sleep(0.005)

    def kill(self, job: int) -> None:
        deadline = time.monotonic() + self.wait_s
        while time.monotonic() < deadline and job in self.tracker.getActiveJobsIds():
            time.sleep(0.005)
        executors = self.cluster.executors()
        if executors:
            executors[int(self.choice * len(executors))].kill()
            self.killed = job in self.tracker.getActiveJobsIds()


if __name__ == "__main__":
    main()
