"""Great Expectations over a day: one suite for the columns, and one for the rows of each table.

Spark has evaluated the rules (jobs/checks/row_rules.py); this module receives how many rows have
which faults. Every row becomes one row of boolean flags again, so that Great Expectations evaluates
each expectation, its count and its share itself: docs/decisions/0004.
"""

from __future__ import annotations

import os
from datetime import date

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
BAD_ROW = "bad_row"  # the flag of a row with any fault
# The faults of rows that are put aside with a day and are none of it: they do not speak against it.
OF_OTHER_DAYS = (OUTLIER, LATE)
COUNTS_ONLY = {"result_format": "BASIC", "partial_unexpected_count": 0}


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
            frames[table.table] = flag_frame(table)
            suites[table.table] = rows_expectations(table, max_bad_share)
    results = {}
    for name, expectations in suites.items():
        data = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("day")
        # The batch itself is validated: a definition in the context would write out the whole
        # context, and the results into a store that nobody reads.
        batch = data.get_batch({"dataframe": frames[name]})
        suite = gx.ExpectationSuite(name=name, expectations=expectations)
        results[name] = batch.validate(suite, result_format=COUNTS_ONLY)
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


def flag_frame(table: Evidence) -> pd.DataFrame:
    """One row for each row of the table; one boolean column per fault, and one for any fault."""
    reasons = {reason: n for reason, n in table.reasons.items() if reason not in OF_OTHER_DAYS}
    faults = [reason.split() for reason in reasons]  # of each distinct reason
    rows = list(reasons.values())
    columns = {}
    # The rows are in no particular order: the expectations only count them.
    for rule in rules_of_day(table):
        has_fault = [rule.fault in broken for broken in faults]
        columns[rule.fault] = np.repeat(np.array(has_fault, dtype=bool), rows)
    is_bad = [bool(broken) for broken in faults]
    columns[BAD_ROW] = np.repeat(np.array(is_bad, dtype=bool), rows)
    return pd.DataFrame(columns)


def rules_of_day(table: Evidence) -> list[Rule]:
    """The rules that say something about the day."""
    return [rule for rule in table.rules if rule.fault not in OF_OTHER_DAYS]


def rows_expectations(table: Evidence, max_bad_share: float) -> list[gxe.Expectation]:
    mostly = round(1 - max_bad_share, 12)
    share = f"at least {100 * mostly:g} % of the rows"
    descriptions: dict[str, str] = {}
    for rule in rules_of_day(table):
        descriptions[rule.fault] = f"{rule.expects}, in {share}"
    descriptions[BAD_ROW] = f"no rule is broken, in {share}"
    expectations: list[gxe.Expectation] = []
    if table.min_rows is not None:
        enough = f"a row count of {table.min_rows:,} or more ({table.usual})"
        expectations.append(
            gxe.ExpectTableRowCountToBeBetween(min_value=table.min_rows, description=enough)
        )
    for fault, description in descriptions.items():
        expectations.append(
            gxe.ExpectColumnValuesToBeInSet(
                column=fault, value_set=[False], mostly=mostly, description=description
            )
        )
    return expectations


def verdict(tables: list[Evidence], results: Results) -> list[str]:
    """One sentence for each reason not to trust the day: the expectation, and the figure found."""
    failures = []
    if not results[COLUMNS].success:
        failures.append(wrong_columns(results[COLUMNS]))
    for table in tables:
        result = results.get(table.table)
        if result is None or result.success:
            continue
        flags = {flag_of(one): one for one in result.results}
        # Only the day's main table has an expectation on its number of rows.
        row_count = flags.pop("", None)
        if row_count is not None and not row_count.success:
            rows = row_count.result["observed_value"]
            failures.append(
                f"{table.table}: {rows:,} rows, expected {table.min_rows:,} or more "
                f"({table.usual})."
            )
        if not all(flag.success for flag in flags.values()):
            failures.append(bad_rows(table, flags))
    return failures


def config_of(result: ExpectationValidationResult) -> dict:
    """The arguments of the expectation that a result is for."""
    assert result.expectation_config is not None, "every result carries its expectation"
    return result.expectation_config.kwargs


def flag_of(result: ExpectationValidationResult) -> str:
    """The fault that an expectation counts; "" for an expectation on the table as a whole."""
    return config_of(result).get("column", "")


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


def bad_rows(table: Evidence, flags: dict[str, ExpectationValidationResult]) -> str:
    """One sentence with the bad rows of a table and their faults, the most frequent first.

    Example: impressions: 900 of 9,000 rows (10.0 %) are bad, at most 5 % may be: repeat 900 (…).
    """
    total = flags[BAD_ROW]
    allowed = 100 * (1 - config_of(total)["mostly"])
    bad = total.result["unexpected_count"]
    rows = total.result["element_count"]
    counted = []
    for rule in rules_of_day(table):
        count = flags[rule.fault].result["unexpected_count"]
        if count:
            counted.append((-count, rule.fault, f"{rule.fault} {count:,} ({rule.expects})"))
    by_fault = ", ".join(text for _, _, text in sorted(counted))
    share = f"{bad:,} of {rows:,} rows ({100 * bad / rows:.1f} %)"
    sentence = f"{table.table}: {share} are bad, at most {allowed:g} % may be: {by_fault}."
    if REPEAT in flags and not flags[REPEAT].success:
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
            fault = flag_of(one)
            if fault:
                percent = float(one.result.get("unexpected_percent") or 0.0)
                values[f"gx_{suite}/{fault}"] = int(one.result["unexpected_count"])
                values[f"gx_{suite}/{fault}_percent"] = round(percent, 6)
    return values
