"""A bootstrap of rows on disk draws and counts as that of rows in memory."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import user_bootstrap, weighted_mean
from embeddings.kernels.weighted_pairs import WeightedPairs
from jobs.judging import resampled
from models.metrics import log_losses
from models.scratch import Scratch

MODELS = ("champion", "challenger")


def predictions(rows: int, seed: int = 0) -> pa.Table:
    """Of some dozens of users, whose ids are not in order; many scores are equal."""
    rng = np.random.default_rng(seed)
    users = rng.integers(0, 40, rows)
    columns = {"consumer_id": [f"ü{user * 7 % 40}" for user in users]}
    columns["label"] = (rng.random(rows) < 0.3).astype(np.int8)
    for model in MODELS:
        columns[model] = rng.random(rows).round(1).astype(np.float32)
    return pa.table(columns)


@pytest.mark.parametrize("piece", [1000, 37])
@pytest.mark.parametrize("at_once", [50, 3, 0])
def test_estimates_are_those_in_memory(monkeypatch, piece, at_once):
    """AUC to the bit, whatever is in memory: rows, and resamples (at least one)."""
    monkeypatch.setattr(resampled, "WEIGHTS", 40 * at_once)
    table = predictions(400)
    labels = table["label"].to_numpy()
    statistics = {}
    for model in MODELS:
        scores = table[model].to_numpy()
        statistics["auc", model] = partial(auc, labels, scores)
        statistics["loss", model] = partial(weighted_mean, log_losses(labels, scores))
    expected = user_bootstrap(table["consumer_id"].to_numpy(), statistics, 70, seed=3)
    with Scratch(piece=piece) as scratch:
        batches = partial(table.to_batches, piece)
        found = resampled.resampled(batches, len(table), MODELS, 70, 3, scratch)
    for model in MODELS:
        assert found[model].auc == expected["auc", model]
        np.testing.assert_array_equal(found[model].auc.draws, expected["auc", model].draws)
        draws = expected["loss", model].draws
        np.testing.assert_allclose(found[model].log_loss.draws, draws, rtol=1e-12)


def test_weighted_pairs_are_those_of_a_slow_loop():
    """Of three weightings, one without a pair; equal scores are in two pieces."""
    scores = np.array([0.1, 0.2, 0.2, 0.2, 0.5, 0.5, 0.9])
    happened = np.array([0, 1, 0, 0, 1, 0, 1])
    users = np.array([0, 1, 2, 0, 2, 1, 0])
    weights = np.array([[1, 2, 0], [1, 0, 0], [1, 5, 0]], np.uint8)
    counted = WeightedPairs(weights)
    for rows in (slice(0, 3), slice(3, 7)):
        counted.add(scores[rows], (2 * users + happened)[rows].astype(np.uint32))
    expected = []
    for weight in weights.T:
        in_order = pairs = 0.0
        for i in np.flatnonzero(happened):
            for j in np.flatnonzero(happened == 0):
                product = float(weight[users[i]]) * float(weight[users[j]])
                pairs += product
                in_order += product * ((scores[i] > scores[j]) + (scores[i] == scores[j]) / 2)
        expected.append(in_order / pairs if pairs else np.nan)
    np.testing.assert_array_equal(counted.auc(), expected)
