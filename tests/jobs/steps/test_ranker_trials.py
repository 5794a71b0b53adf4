"""What a trial of the ranker is worth, against the steps of the loop."""

from __future__ import annotations

from datetime import date

import pytest
from ranker_lake import DAYS

from jobs.errors import EvergreenError
from jobs.settings.tuning import TuningSettings
from jobs.tuning.objectives import days_to_judge, next_day_auc
from jobs.tuning.space import changed


def test_a_trial_is_worth_what_the_loop_finds(decided):
    """The challenger of the third day is the ranker of the second."""
    test = decided.lake.get("evaluate", DAYS[2]).facts
    assert test["challenger"] == str(DAYS[1])
    assert next_day_auc(decided, DAYS[2]) == pytest.approx(test["challenger_auc_click"], abs=1e-6)
    slower = changed(decided, "ranker", {"learning_rate": 1e-6})
    assert next_day_auc(slower, DAYS[2]) < test["challenger_auc_click"]


@pytest.mark.parametrize(
    ("days", "last", "expected"),
    [(2, None, DAYS[2:4]), (9, None, DAYS[1:4]), (2, DAYS[2], DAYS[1:3])],
)
def test_the_newest_days_after_another_are_judged(decided, days, last, expected):
    tuning = TuningSettings(days=days, last_day=last)
    settings = decided.model_copy(update={"tuning": tuning})
    assert days_to_judge(settings, "ranker") == expected


def test_a_log_that_was_not_run_is_an_error_with_the_remedy(decided):
    tuning = TuningSettings(last_day=date(2020, 1, 1))
    settings = decided.model_copy(update={"tuning": tuning})
    with pytest.raises(EvergreenError, match="No day up to 2020-01-01 .*evergreen run"):
        days_to_judge(settings, "ranker")
