"""The gate's interval equals, bit for bit, that of its first implementation, which is kept here."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embeddings.benchmarks.auc import auc
from jobs.pipeline import chain
from jobs.steps import gate
from jobs.steps.evaluate import PREDICTIONS

DAY = date(2024, 1, 3)


def first_implementation(users, labels, old, new, resamples, seed, level=0.95):
    """`paired_bootstrap`, by which the first champions were chosen."""
    _, row_user = np.unique(users, return_inverse=True)
    n_users = int(row_user.max()) + 1
    rng = np.random.default_rng(seed)
    differences = []
    for start in range(0, resamples, 50):
        draws = rng.multinomial(
            n_users, np.full(n_users, 1 / n_users), size=min(50, resamples - start)
        )
        weights = draws[:, row_user]
        differences.append(auc(labels, new, weights) - auc(labels, old, weights))
    drawn = np.concatenate(differences)
    drawn = drawn[~np.isnan(drawn)]
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail]) if len(drawn) else (np.nan, np.nan)
    return float(auc(labels, new) - auc(labels, old)), float(low), float(high), drawn


@pytest.mark.parametrize(
    ("n_users", "n_rows", "rate", "resamples"),
    [
        (60, 600, 0.5, 200),
        (9, 40, 0.5, 70),  # not a multiple of the chunk
        (12, 20, 0.1, 200),  # some resamples have one class
        (5, 20, 0.0, 50),  # all of them
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_the_interval_is_bit_for_bit_the_first_one(
    settings, n_users, n_rows, rate, resamples, seed
):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n_rows) < rate).astype(np.int8)
    predictions = {
        "consumer_id": [f"c{c}" for c in rng.integers(0, n_users, n_rows)],
        "label": labels,
        "champion": (labels + rng.normal(size=n_rows)).round(1),  # ties
        "challenger": (labels + rng.normal(size=n_rows)).round(1),
    }
    ranker = settings.ranker.model_copy(update={"bootstrap": resamples, "seed": seed})
    settings = settings.model_copy(update={"ranker": ranker})
    with settings.lake.writing("evaluate", DAY, recipe="") as staging:
        pq.write_table(pa.table(predictions), staging.path / PREDICTIONS)
    estimate = gate.compare(settings, settings.lake.get("evaluate", DAY)).auc
    difference, low, high, drawn = first_implementation(
        np.array(predictions["consumer_id"]),
        labels,
        predictions["champion"],
        predictions["challenger"],
        resamples,
        chain.seed(settings, "gate", DAY),
    )
    found = [estimate.value, estimate.low, estimate.high]
    np.testing.assert_array_equal(found, [difference, low, high])
    np.testing.assert_array_equal(estimate.resamples, drawn)


def test_a_day_with_one_outcome_promotes_without_a_picture(settings):
    """AUC is undefined on it and on every resample: there is nothing to draw."""
    predictions = {
        "consumer_id": ["a", "b", "c"],
        "label": np.zeros(3, dtype=np.int8),
        "champion": [0.1, 0.2, 0.3],
        "challenger": [0.3, 0.2, 0.1],
    }
    with settings.lake.writing("evaluate", DAY, recipe="") as staging:
        staging.facts |= {"champion": "2024-01-01", "challenger": "2024-01-02"}
        pq.write_table(pa.table(predictions), staging.path / PREDICTIONS)
    gate.run(None, settings, DAY)
    facts = settings.lake.get("gate", DAY).facts
    assert (facts["promoted"], facts["champion_after"]) == (1, "2024-01-02")
    assert "did not have both outcomes" in facts["why"]
    assert not {"difference", "difference_low", "difference_high"} & facts.keys()
    assert list(settings.report("gate", DAY).iterdir()) == []
