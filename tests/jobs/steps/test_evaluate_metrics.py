"""The table of metrics that a test leaves: by model, label and bucket of consumers."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from ranker_lake import DAYS, LABELS, commit_days_with_examples, ranker_settings

from jobs.steps import evaluate, gate, train
from models.metrics import relative_improvement


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """The test of a champion and a challenger on the third day."""
    settings = ranker_settings(tmp_path_factory.mktemp("metrics") / "home")
    commit_days_with_examples(settings, DAYS[:3])
    for day in DAYS[:3]:
        for step in (evaluate, train, gate):
            step.run(None, settings, day)
    return settings.lake.get("evaluate", DAYS[2])


def test_metrics_of_all_consumers_are_the_facts(tested):
    """By another road: the facts are of NumPy. The challenger's gain is that over the champion."""
    rows = pq.read_table(tested.path / evaluate.METRICS).to_pylist()
    of_all = {(row["role"], row["label"]): row for row in rows if row["users"] == "all"}
    assert set(of_all) == {(role, label) for role in ("champion", "challenger") for label in LABELS}
    for (role, label), row in of_all.items():
        assert row["rows"] == tested.facts["rows"]
        for name in ("auc", "log_loss", "rce", "ece"):
            fact = tested.facts[f"{role}_{name}_{label.removeprefix('label_')}"]
            assert row[name] == pytest.approx(fact, rel=1e-9, abs=1e-9)
    champion, challenger = (of_all[role, "label_click"] for role in ("champion", "challenger"))
    gain = relative_improvement(challenger["auc"], champion["auc"])
    assert challenger["rela_impr"] == pytest.approx(gain)
    assert champion["rela_impr"] is None


def test_every_consumer_is_in_one_bucket(tested):
    predictions = pq.read_table(tested.path / evaluate.PREDICTIONS)
    _, rows_of = np.unique(predictions["consumer_id"].to_numpy(), return_counts=True)
    few = rows_of[(rows_of >= 5) & (rows_of < 10)].sum()
    rows = pq.read_table(tested.path / evaluate.METRICS).to_pylist()
    buckets = {
        row["users"]: row["rows"]
        for row in rows
        if (row["role"], row["label"]) == ("champion", "label_click")
    }
    assert buckets["5-9"] == few > 0
    assert buckets.pop("all") == sum(buckets.values())
