"""Great Expectations over a day: one suite for the columns, and one for the rows of each table.

Spark has evaluated the rules (jobs/checks/row_rules.py); this module receives how many rows have
which faults. Great Expectations adds these numbers up, fault by fault, and compares each sum with
what is allowed, so that a day of any size takes the same time and memory: docs/decisions/0004.
"""

from __future__ import annotations

import os
from datetime import date
from math import floor

import numpy as np
import pandas as pd

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when the package is imported

import great_expectations as gx
import great_expectations.expectations as gxe
from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.data_context.types.base import ProgressBarsConfig

from jobs.checks.row_rules import REPEAT, Evidence, Rule
from jobs.intake.index import LATE, OUTLIER
from jobs.lake.schema import IMPRESSION_TABLE

COLUMNS = "columns"  # the suite of the columns; the others have the names of their tables
ROWS = "rows"  # the column with the numbers of rows
BAD_ROW = "bad_row"  # the column with the numbers of rows with any fault; the others are faults
# The faults of rows that are put aside with a day and are none of it: they do not speak against it.
OF_OTHER_DAYS = (OUTLIER, LATE)


Results = dict[str, ExpectationSuiteValidationResult]  # by the name of the suite


def judge(day: date, tables: list[Evidence], max_bad_share: float) -> Results:
    """Validate the columns of the day, then the rows of every table.

    If any column is wrong, no rows are validated.
    """
    # In memory: the suites are code, and `write_report` keeps the results.
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas(str(day))
    frames = {COLUMNS: column_frame(tables)}
    suites: dict[str, list[gxe.Expectation]] = {COLUMNS: [columns_expectation(tables)]}
    if all(table.columns == table.expected for table in tables):
        for table in tables:
            frames[table.table] = count_frame(table)
            suites[table.table] = rows_expectations(table, max_bad_share)
    results = {}
    for name, expectations in suites.items():
        data = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("day")
        # The batch itself is validated: a definition in the context would write out the whole
        # context, and the results into a store that nobody reads.
        batch = data.get_batch({"dataframe": frames[name]})
        suite = gx.ExpectationSuite(name=name, expectations=expectations)
        results[name] = batch.validate(suite, result_format="BASIC")
    return results


def column_frame(tables: list[Evidence]) -> pd.DataFrame:
    """No rows; one column for each column of the day, named with its table and type."""
    names: list[str] = []
    for table in tables:
        names += qualified(table.table, table.columns)
    return pd.DataFrame(columns=names)


def columns_expectation(tables: list[Evidence]) -> gxe.Expectation:
    names: list[str] = []
    for table in tables:
        names += qualified(table.table, table.expected)
    return gxe.ExpectTableColumnsToMatchSet(
        column_set=names,
        description="the columns and their types are those of the schema",
    )


def qualified(table: str, columns: dict[str, str]) -> list[str]:
    """Columns with their table and type: 'impressions.time_ms bigint'."""
    return [f"{table}.{name} {kind}" for name, kind in columns.items()]


def count_frame(table: Evidence) -> pd.DataFrame:
    """One row for each distinct reason, with how many rows of the table have it.

    The columns are ROWS, one for each fault, and BAD_ROW: the rows that have it, 0 or all of them.
    """
    reasons = {"": 0}  # so that there is a row to add up
    reasons |= {reason: n for reason, n in table.reasons.items() if reason not in OF_OTHER_DAYS}
    columns = {ROWS: list(reasons.values())}
    for rule in rules_of_day(table):
        columns[rule.fault] = [n if rule.fault in why.split() else 0 for why, n in reasons.items()]
    columns[BAD_ROW] = [n if why else 0 for why, n in reasons.items()]
    return pd.DataFrame(columns, dtype=np.int64)


def rules_of_day(table: Evidence) -> list[Rule]:
    """The rules that say something about the day."""
    return [rule for rule in table.rules if rule.fault not in OF_OTHER_DAYS]


def rows_expectations(table: Evidence, max_bad_share: float) -> list[gxe.Expectation]:
    rows = rows_of_day(table)
    share = f"in at least {100 * round(1 - max_bad_share, 12):g} % of the rows"
    descriptions: dict[str, str] = {}
    for rule in rules_of_day(table):
        descriptions[rule.fault] = f"{rule.expects}, {share}"
    descriptions[BAD_ROW] = f"no rule is broken, {share}"
    expectations: list[gxe.Expectation] = []
    if table.min_rows is not None:
        enough = f"a row count of {table.min_rows:,} or more ({table.usual})"
        expectations.append(
            gxe.ExpectColumnSumToBeBetween(
                column=ROWS, min_value=table.min_rows, description=enough
            )
        )
    for fault, description in descriptions.items():
        expectations.append(
            gxe.ExpectColumnSumToBeBetween(
                column=fault,
                max_value=allowed(rows, max_bad_share),
                description=description,
                meta={ROWS: rows, "max_bad_share": max_bad_share},
            )
        )
    return expectations


def rows_of_day(table: Evidence) -> int:
    return sum(n for reason, n in table.reasons.items() if reason not in OF_OTHER_DAYS)


def allowed(rows: int, max_bad_share: float) -> int:
    """How many of so many rows may be bad."""
    return floor(round(max_bad_share * rows, 6))  # 29 % of 100 are not 28.999999999999996


def verdict(tables: list[Evidence], results: Results) -> list[str]:
    """One sentence for each reason not to trust the day: the expectation, and the figure found."""
    failures = []
    if not results[COLUMNS].success:
        failures.append(wrong_columns(results[COLUMNS]))
    for table in tables:
        result = results.get(table.table)
        if result is None or result.success:
            continue
        sums = {column_of(one): one for one in result.results}
        # Only the day's main table has an expectation on its number of rows.
        row_count = sums.pop(ROWS, None)
        if row_count is not None and not row_count.success:
            failures.append(
                f"{table.table}: {sum_of(row_count):,} rows, expected {table.min_rows:,} or more "
                f"({table.usual})."
            )
        if not all(one.success for one in sums.values()):
            failures.append(bad_rows(table, sums))
    return failures


def config_of(result: ExpectationValidationResult) -> dict:
    """The arguments of the expectation that a result is for."""
    assert result.expectation_config is not None, "every result carries its expectation"
    return result.expectation_config.kwargs


def column_of(result: ExpectationValidationResult) -> str:
    """ROWS, BAD_ROW, or the fault whose rows an expectation adds up; "" for that on the columns."""
    return config_of(result).get("column", "")


def sum_of(result: ExpectationValidationResult) -> int:
    return int(result.result["observed_value"])


def rows_of(result: ExpectationValidationResult) -> int:
    """The rows of the day in the table of an expectation on a fault."""
    return int(noted(result)[ROWS])


def noted(result: ExpectationValidationResult) -> dict:
    """What an expectation on a fault says of itself besides its arguments."""
    assert result.expectation_config is not None, "every result carries its expectation"
    return result.expectation_config.meta or {}


def percent_of(result: ExpectationValidationResult) -> float:
    """The share of the rows that have the fault of an expectation, in %; 0 of no rows."""
    return 100 * sum_of(result) / max(1, rows_of(result))


def column_differences(result: ExpectationSuiteValidationResult) -> tuple[list[str], list[str]]:
    """The columns that are missing, and those that are not expected."""
    details = result.results[0].result.get("details", {})  # none where all columns are as expected
    mismatched = details.get("mismatched", {})
    return mismatched.get("missing", []), mismatched.get("unexpected", [])


def wrong_columns(result: ExpectationSuiteValidationResult) -> str:
    missing, unexpected = column_differences(result)
    parts = []
    if missing:
        parts.append(f"missing: {', '.join(missing)}")
    if unexpected:
        parts.append(f"not expected: {', '.join(unexpected)}")
    return f"The columns and their types are not those of the schema; {'; '.join(parts)}."


def bad_rows(table: Evidence, sums: dict[str, ExpectationValidationResult]) -> str:
    """One sentence with the bad rows of a table and their faults, the most frequent first.

    Example: impressions: 900 of 9,000 rows (10.0 %) are bad, at most 5 % may be: repeat 900 (…).
    """
    total = sums[BAD_ROW]
    at_most = 100 * noted(total)["max_bad_share"]
    counted = []
    for rule in rules_of_day(table):
        count = sum_of(sums[rule.fault])
        if count:
            counted.append((-count, rule.fault, f"{rule.fault} {count:,} ({rule.expects})"))
    by_fault = ", ".join(text for _, _, text in sorted(counted))
    share = f"{sum_of(total):,} of {rows_of(total):,} rows ({percent_of(total):.1f} %)"
    sentence = f"{table.table}: {share} are bad, at most {at_most:g} % may be: {by_fault}."
    if REPEAT in sums and not sums[REPEAT].success:
        sentence += about_repeats(table)
    return sentence


def about_repeats(table: Evidence) -> str:
    """What decides whether rows are repeats, where a log may repeat honestly."""
    remedy = (
        " Where rows repeat honestly, set validation.repeats: with 'all' only rows that are the "
        "same in all columns are repeats, with 'none' no row is."
    )
    if table.table == IMPRESSION_TABLE:
        remedy += (
            " Where a label is logged as a second row of its impression, set "
            "validation.merge_labels = true."
        )
    if table.resolution:
        remedy = (
            f" All times are whole {table.resolution}, so that different events of one have the "
            f"same time.{remedy}"
        )
    return remedy


def facts(results: Results) -> dict[str, float]:
    """The facts gx_<suite>/success, gx_<suite>/<fault> (rows) and gx_<suite>/<fault>_percent."""
    values: dict[str, float] = {}
    for suite, result in results.items():
        values[f"gx_{suite}/success"] = int(bool(result.success))
        for one in result.results:
            fault = column_of(one)
            if fault not in ("", ROWS):
                values[f"gx_{suite}/{fault}"] = sum_of(one)
                values[f"gx_{suite}/{fault}_percent"] = round(percent_of(one), 6)
    return values
