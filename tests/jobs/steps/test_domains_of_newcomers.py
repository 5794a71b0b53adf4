"""The loop on a simulated world: what the web domains of a newcomer say before it engages."""

from __future__ import annotations

from datetime import timedelta

import pytest

from embeddings.benchmarks.intervals import mean_estimates
from jobs.pipeline.running import ensure
from jobs.settings import EmbeddingSettings, Settings
from jobs.sources.simulated import SimulatedSettings
from perf.newcomers import POPULARITY, of_day

WORLD = SimulatedSettings(
    kind="simulated",
    consumers=8000,
    producers=400,
    topics=2,
    impressions=5.0,
    days=6,
    dials={"consumers": 0.15},
)
DAY = WORLD.last_day - timedelta(days=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_newcomers_domains_alone_beat_popularity_on_its_first_day(spark, tmp_path):
    """By the vectors of bags that the day published; the interval of the gain is above 0."""
    embedding = EmbeddingSettings(name="author", method="bag", dim=16)
    settings = Settings(home=tmp_path, source=WORLD, embedding=embedding)
    settings = settings.model_copy(
        update={"mlflow": settings.mlflow.model_copy(update={"uri": "off"})}
    )
    ensure(settings, "consistency", DAY, lambda: spark)
    ensure(settings, "validate", WORLD.last_day, lambda: spark)
    values = of_day(settings, DAY)
    assert len(values[POPULARITY]) > 150
    estimates = mean_estimates(values, seed=0)
    assert (estimates["author, domain alone"] - estimates[POPULARITY]).low > 0
