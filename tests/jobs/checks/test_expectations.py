"""Which rows speak against a day, and which do not."""

from __future__ import annotations

from datetime import date

import pytest

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
