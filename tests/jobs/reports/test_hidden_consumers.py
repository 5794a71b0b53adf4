"""Groups of consumers by activity."""

from __future__ import annotations

import numpy as np

from jobs.reports.hidden_consumers import by_row, groups


def test_groups_by_engagements():
    members = groups(np.array([1, 4, 5, 70]))
    assert {name: group.tolist() for name, group in members.items()} == {
        "all": [True] * 4,
        "1–4": [True, True, False, False],
        "5–9": [False, False, True, False],
        "10–19": [False] * 4,
        "20–49": [False] * 4,
        "≥ 50": [False, False, False, True],
    }


def test_a_missing_row_has_the_value_zero():
    assert by_row(np.array([5, 6, 7]), np.array([2, -1, 0])).tolist() == [7, 0, 5]
