"""The steps on a Spark cluster: a standalone master and two one-core workers on loopback."""

from __future__ import annotations

import subprocess
import sys

import pytest
from engagement_lake import DAYS, commit_day, engagement_settings, random_day

from jobs.settings import Settings
from tests.spark_cluster import started_cluster

pytestmark = pytest.mark.slow
STEPS = """
import sys
from datetime import date
from jobs import settings
from jobs.spark import session
from jobs.steps import align, benchmark, embed, fold_in, lookalike, matrix, publish

chosen = settings.Settings.model_validate_json(sys.argv[1])
spark = session.spark_session(chosen)
for day in map(date.fromisoformat, sys.argv[2:]):
    for step in (matrix, embed, align, fold_in, lookalike, benchmark, publish):
        step.run(spark, chosen, day)
versions = chosen.open_registry().versions(chosen.embedding.name)
print(spark.sparkContext.master, *(version.digest for version in versions))
"""


@pytest.fixture
def cluster(tmp_path):
    """The master's address."""
    with started_cluster(tmp_path) as started:
        yield started.address


def versions_by(settings: Settings) -> tuple[str, list[str]]:
    """The master that was used, and the digest of each day's version."""
    for seed, day in enumerate(DAYS):
        commit_day(settings, day, random_day(seed))
    command = [sys.executable, "-c", STEPS, settings.model_dump_json(), *map(str, DAYS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    master, *digests = done.stdout.split()
    return master, digests


@pytest.mark.parametrize("method", ["svd", "als"])
def test_a_cluster_publishes_the_versions_that_one_machine_does(cluster, tmp_path, method):
    """The same bytes, with the barrier job's tasks in two executors that meet in the lake."""
    found = {}
    for master in ("local[2]", cluster):
        (tmp_path / master[:5]).mkdir()
        settings = engagement_settings(tmp_path / master[:5])
        spark = settings.spark.model_copy(
            update={"master": master, "conf": {"spark.executor.memory": "512m"}}
        )
        embedding = settings.embedding.model_copy(update={"method": method})
        found[master] = versions_by(
            settings.model_copy(update={"spark": spark, "embedding": embedding})
        )
    assert [master for master, _ in found.values()] == ["local[2]", cluster]
    assert found[cluster][1] == found["local[2]"][1]
    assert len(found[cluster][1]) == len(DAYS)
