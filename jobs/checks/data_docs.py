"""The report on the data of a day: a page to read, and Great Expectations' results as JSON.

The page is one file that loads nothing from the network, rendered from data_docs.html beside this
module. The renderer of Great Expectations is not used: its pages load styles and scripts from other
hosts, and it does not escape the names of columns, which come from the user's log (see
docs/decisions/0004).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs.checks.expectations import (
    BAD_ROW,
    COLUMNS,
    ROWS,
    Results,
    column_differences,
    column_of,
    config_of,
    percent_of,
    rows_of,
    sum_of,
)

SMALLEST_PERCENT = 0.01  # what two decimals can show


@dataclass(frozen=True)
class Check:
    """One expectation and what was found. name: the fault that it counts, or "rows"."""

    name: str
    passed: bool
    expected: str
    found: str
    share: str = ""


@dataclass(frozen=True)
class TableChecks:
    """The suite of one table."""

    name: str
    passed: bool
    rows: int
    bad_rows: int
    checks: list[Check]


@dataclass(frozen=True)
class ColumnChecks:
    """The suite of the columns, of all tables together."""

    passed: bool
    expected: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)


def write_report(folder: Path, day: date, reason: str, results: Results) -> None:
    """Write data_docs.html and great_expectations.json.

    reason: why the day is not trusted; empty for a trusted day.
    """
    (folder / "data_docs.html").write_text(page(day, reason, results))
    as_json = {name: result.to_json_dict() for name, result in results.items()}
    (folder / "great_expectations.json").write_text(json.dumps(as_json, indent=1))


def page(day: date, reason: str, results: Results) -> str:
    """The HTML of the page; the parameters are those of `write_report`."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # names of columns come from the user's log
        undefined=StrictUndefined,  # a misspelt variable is an error, not an empty cell
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tables = []
    # Judged in the opposite order: impressions and engagements refer to the tables before them.
    for name in reversed(results):
        if name != COLUMNS:
            tables.append(table_checks(name, results[name]))
    return environment.get_template("data_docs.html").render(
        day=day,
        reason=reason,
        tables=tables,
        columns=column_checks(results[COLUMNS]),
    )


def table_checks(name: str, result: ExpectationSuiteValidationResult) -> TableChecks:
    """The expectations on one table: its number of rows, all faults together, then each fault."""
    by_column = {column_of(one): one for one in result.results}
    total = by_column[BAD_ROW]
    checks = []
    for one in sorted(result.results, key=importance):
        checks.append(check(one))
    return TableChecks(
        name=name,
        passed=bool(result.success),
        rows=rows_of(total),
        bad_rows=sum_of(total),
        checks=checks,
    )


def importance(result: ExpectationValidationResult) -> tuple[int, int, str]:
    """Sort key: the table as a whole, all faults together, then the faults by their bad rows."""
    column = column_of(result)
    group = {ROWS: 0, BAD_ROW: 1}.get(column, 2)
    return group, -sum_of(result), column


def check(result: ExpectationValidationResult) -> Check:
    assert result.expectation_config is not None, "every result carries its expectation"
    column, found = column_of(result), sum_of(result)
    share = percent_text(percent_of(result)) if column != ROWS and found else ""
    expected = result.expectation_config.description or ""
    return Check(column, bool(result.success), expected, f"{found:,}", share)


def percent_text(percent: float) -> str:
    if percent < SMALLEST_PERCENT:
        return f"< {SMALLEST_PERCENT:g} %"
    return f"{percent:.2f} %"


def column_checks(result: ExpectationSuiteValidationResult) -> ColumnChecks:
    missing, unexpected = column_differences(result)
    return ColumnChecks(
        passed=bool(result.success),
        expected=sorted(config_of(result.results[0])["column_set"]),
        missing=missing,
        unexpected=unexpected,
    )
