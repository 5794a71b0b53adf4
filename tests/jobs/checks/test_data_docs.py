"""The page about the data of a day: readable, complete, escaped, and self-contained."""

from __future__ import annotations

import json
import re
from datetime import date
from html.parser import HTMLParser

import pytest

from jobs.checks import expectations
from jobs.checks.data_docs import page, percent_text, write_report
from jobs.checks.row_rules import Evidence, Rule

DAY = date(2024, 3, 1)
REPEAT = Rule("repeat", "no earlier row has the same ids", "false")
MISSING = Rule("consumer_id_missing", "consumer_id is present and readable", "false")
COLUMNS = {"consumer_id": "string", "ctx_<script>alert(1)</script>": "string"}


def impressions(reasons: dict[str, int], **fields) -> Evidence:
    rules = [REPEAT, MISSING]
    return Evidence("impressions", COLUMNS, COLUMNS, rules, reasons, **fields)


def rendered(*tables: Evidence) -> str:
    results = expectations.judge(DAY, list(tables), max_bad_share=0.05)
    reason = " ".join(expectations.verdict(list(tables), results))
    return page(DAY, reason, results)


class Cells(HTMLParser):
    """The text of the table cells of a page, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._in_cell = False

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data):
        if self._in_cell:
            self.rows[-1][-1] += data.strip()


def cells(html: str) -> list[list[str]]:
    parser = Cells()
    parser.feed(html)
    return parser.rows


def test_the_page_shows_every_expectation_with_what_was_found():
    """The number of rows, all faults together, then the faults by their number of rows."""
    reasons = {"": 900, "repeat": 80, "consumer_id_missing repeat": 20}
    html = rendered(impressions(reasons, min_rows=40, usual="half of 80"))
    share = "in at least 95 % of the rows"
    assert cells(html) == [
        ["", "check", "expected", "found", "share"],
        ["✓", "rows", "a row count of 40 or more (half of 80)", "1,000", ""],
        ["✗", "bad_row", f"no rule is broken, {share}", "100", "10.00 %"],
        ["✗", "repeat", f"no earlier row has the same ids, {share}", "100", "10.00 %"],
        ["✓", "consumer_id_missing", f"{MISSING.expects}, {share}", "20", "2.00 %"],
    ]
    assert "1,000 rows, 100 bad" in html
    assert "Not trusted." in html


def test_a_trusted_day_is_marked_as_such():
    html = rendered(impressions({"": 100}))
    assert "✓ Trusted." in html
    assert "✗" not in html


def test_missing_and_unexpected_columns_are_listed():
    landed = {"consumer_id": "int"}
    html = rendered(Evidence("impressions", landed, COLUMNS, []))
    assert re.search(r"Missing: .*<code>impressions\.consumer_id string</code>", html)
    assert re.search(r"Not expected: .*<code>impressions\.consumer_id int</code>", html)


def test_names_from_the_log_are_escaped():
    html = rendered(impressions({"": 1}, min_rows=1, usual="<b>bold</b>"))
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>" not in html


def test_the_page_loads_nothing():
    """Neither another file nor anything from the network, so that it can be kept and sent."""
    html = rendered(impressions({"": 1}))
    assert "<style>" in html
    assert re.findall(r"<(?:script|link|img|iframe)|src=|url\(|@import|https?:", html) == []
    links = re.findall(r'href="([^"]*)"', html)
    assert links
    assert all(link.startswith("#") for link in links)


def test_the_results_of_great_expectations_are_kept_as_json(tmp_path):
    tables = [impressions({"": 9, "repeat": 1})]
    results = expectations.judge(DAY, tables, max_bad_share=0.05)
    write_report(tmp_path, DAY, "", results)
    kept = json.loads((tmp_path / "great_expectations.json").read_text())
    assert {name: suite["success"] for name, suite in kept.items()} == {
        "columns": True,
        "impressions": False,
    }
    assert (tmp_path / "data_docs.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("percent", "text"), [(0.0004, "< 0.01 %"), (0.01, "0.01 %"), (9.2009, "9.20 %")]
)
def test_a_small_share_is_not_shown_as_zero(percent, text):
    assert percent_text(percent) == text
