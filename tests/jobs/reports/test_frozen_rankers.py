"""Scored rows, and rankers that are frozen on a day."""

from __future__ import annotations

import numpy as np
import pytest

from embeddings.benchmarks.auc import auc
from jobs.errors import EvergreenError
from jobs.reports import alignment, ranker_readers
from jobs.reports.daily_versions import align, daily_versions, without_vectors
from jobs.reports.frozen_rankers import AUC_RESAMPLES, RankingDays, ScoredRows
from jobs.reports.methods import SVD


def random_rows(seed: int, n: int = 300) -> ScoredRows:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n).astype(np.float32)
    scores = {}
    for name, strength in (("a", 0.2), ("b", 1.0), ("c", 0.6)):
        scores[name] = labels * strength + rng.normal(size=n)
    return ScoredRows(rng.integers(0, 40, n), labels, scores)


def test_aucs_of_all_ways_share_their_draws():
    """Each value is the AUC of its scores; equal scores have equal draws."""
    rows = random_rows(0)
    rows.scores["b again"] = rows.scores["b"]
    aucs = rows.aucs(seed=7)
    assert aucs["a"].value == auc(rows.labels, rows.scores["a"])
    assert len(aucs["a"].draws) == AUC_RESAMPLES
    np.testing.assert_array_equal(aucs["b"].draws, aucs["b again"].draws)


def test_concatenated_rows_can_be_chosen_again():
    a = random_rows(0)
    b = random_rows(1)
    both = ScoredRows.concatenated([a, b])
    second = both.where(np.arange(600) >= 300)
    np.testing.assert_array_equal(second.scores["c"], b.scores["c"])
    np.testing.assert_array_equal(second.consumers, b.consumers)
    np.testing.assert_array_equal(second.labels, b.labels)


def test_the_frozen_version_is_the_aligned_one_at_age_one(small_settings, log):
    days = RankingDays.from_log(log, small_settings, 0, longest=3)
    versions = align(daily_versions(log, SVD(4), small_settings, 0, print))
    served = {"unaligned": versions[::-1], "aligned": versions}
    by_age = alignment.scores_by_age(days, 2, served, days.scores_without_vectors(2))
    assert sorted(by_age) == [1, 2, 3]
    np.testing.assert_array_equal(by_age[1].scores["frozen"], by_age[1].scores["aligned"])
    assert not np.array_equal(by_age[2].scores["frozen"], by_age[2].scores["aligned"])
    assert not np.array_equal(by_age[2].scores["unaligned"], by_age[2].scores["aligned"])


def test_zero_vectors_give_the_scores_of_no_vectors(small_settings, log):
    days = RankingDays.from_log(log, small_settings, 0, longest=3)
    zeros = without_vectors(log, 4)
    baseline = days.scores_without_vectors(2)
    by_age = alignment.scores_by_age(days, 2, {"aligned": [zeros] * 5}, baseline)
    np.testing.assert_array_equal(by_age[2].scores["aligned"], by_age[2].scores["no vectors"])


def test_a_ranker_that_is_trained_once_is_compared_with_one_trained_again(
    small_settings, log, monkeypatch
):
    """At age 1 both are trained on the same days, and the old vectors are yesterday's."""
    monkeypatch.setattr(ranker_readers, "START", 2)
    first, *later = ranker_readers.ranker_rows(log, SVD(4), small_settings, 0, print)
    assert [row["age"] for row in (first, *later)] == [1, 2, 3]
    assert first["fitted once"] == first["fitted again"] == first["old vectors"]
    assert first["share of again"] == 1
    for row in later:
        assert len({row["fitted once"], row["fitted again"], row["old vectors"]}) == 3
        assert row["rows"] == 200


def test_a_log_that_is_too_short_is_refused(small_settings, log):
    with pytest.raises(
        EvergreenError, match=r"has 5 trusted days.*frozen on day 8.*10 days in a row"
    ):
        RankingDays.from_log(log, small_settings, 0, longest=8)
