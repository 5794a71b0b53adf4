"""Which rows speak against a day, and which do not."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.checks import expectations
from jobs.checks.row_rules import Evidence, Rule

COLUMNS = {"consumer_id": "string"}
RULES = [
    Rule("consumer_id_missing", "consumer_id is present"),
    Rule("time_outlier", "the line can be read as a row"),
    Rule("late", "the line can be read as a row"),
]


def verdict(reasons: dict[str, int], min_rows: int = 1) -> str:
    table = Evidence("engagements", COLUMNS, COLUMNS, RULES, reasons, min_rows=min_rows)
    results = expectations.judge(date(2024, 3, 1), [table], max_bad_share=0.05)
    return " ".join(expectations.verdict([table], results))


@pytest.mark.parametrize("fault", ["time_outlier", "late"])
def test_rows_of_other_days_do_not_speak_against_a_day(fault):
    assert verdict({"": 100, fault: 400}) == ""


def test_their_number_does_not_hide_bad_rows():
    """6 of 100, not of 500."""
    found = verdict({"": 94, "consumer_id_missing": 6, "time_outlier": 400})
    assert "6 of 100 rows (6.0 %) are bad" in found


def test_a_day_of_nothing_else_is_empty():
    assert "0 rows, expected 1 or more" in verdict({"time_outlier": 400})


def test_a_day_of_any_size_is_judged():
    """One row of flags for each of these rows would take a terabyte."""
    day = 10**12
    assert verdict({"": day, "consumer_id_missing": day // 20}) == ""
    found = verdict({"": 94 * day, "consumer_id_missing": 6 * day})
    assert "6,000,000,000,000 of 100,000,000,000,000 rows (6.0 %) are bad" in found


@given(st.integers(0, 10**7), st.integers(0, 10_000))
def test_so_many_may_be_bad_as_the_share_says_and_no_more(rows, in_ten_thousand):
    share = Fraction(in_ten_thousand, 10_000)
    assert expectations.allowed(rows, float(share)) == share * rows // 1


def test_each_row_counts_for_all_its_faults_and_once_as_bad():
    both = Rule("time_missing", "time is present")
    reasons = {"": 10, "consumer_id_missing": 1, "consumer_id_missing time_missing": 2, "late": 4}
    table = Evidence("engagements", COLUMNS, COLUMNS, [*RULES, both], reasons, min_rows=1)
    results = expectations.judge(date(2024, 3, 1), [table], max_bad_share=0.5)
    facts = expectations.facts(results)
    assert facts["gx_engagements/consumer_id_missing"] == 3
    assert facts["gx_engagements/time_missing"] == 2
    assert facts["gx_engagements/bad_row"] == 3
    assert facts["gx_engagements/bad_row_percent"] == pytest.approx(100 * 3 / 13)
    assert "gx_engagements/late" not in facts
