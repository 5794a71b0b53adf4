"""Versions of the log's days: fits, fold-in of hidden consumers, and alignment."""

from __future__ import annotations

import numpy as np

from jobs.reports.alignment import with_random_signs
from jobs.reports.daily_versions import align, daily_versions, fit_version
from jobs.reports.methods import SVD


def test_consumers_hidden_from_the_fit_are_folded_in(small_settings, log):
    """They have vectors, the producers' vectors differ, and no other consumer is folded in."""
    first_five = np.arange(log.shape[0]) < 5
    full = fit_version(log, 3, SVD(4), small_settings, 0)
    without = fit_version(log, 3, SVD(4), small_settings, 0, hidden=first_five)
    assert full.fitted[:5].any()
    assert not without.fitted[:5].any()
    np.testing.assert_array_equal(without.fitted[5:], full.fitted[5:])
    np.testing.assert_array_equal(without.consumers.any(axis=1), full.consumers.any(axis=1))
    assert not np.allclose(without.producers, full.producers)


def test_alignment_keeps_products_and_undoes_random_signs(small_settings, log):
    versions = daily_versions(log, SVD(4), small_settings, 0, print)
    aligned = align(with_random_signs(versions, seed=3))
    for before, after in zip(versions, aligned, strict=True):
        products = before.consumers @ before.producers.T
        np.testing.assert_allclose(after.consumers @ after.producers.T, products, atol=1e-5)
    expected = align(versions)[2].producers
    np.testing.assert_allclose(aligned[2].producers, expected, atol=1e-5)
