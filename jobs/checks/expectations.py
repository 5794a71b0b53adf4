"""Great Expectations over a day: one suite for the columns, one for the rows of each table, and their page.

Spark has evaluated the rules (jobs/checks/row_rules.py); what arrives here is how many rows have which faults. Every
row becomes a row of flags again, so that each expectation, its count and its share are Great Expectations' own. Why:
see docs/decisions/0004-great-expectations-judges-flags.md.
"""

from __future__ import annotations

import html
import json
import os
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the package is imported

import great_expectations as gx
import great_expectations.expectations as gxe
from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaSectionView

from jobs.checks.row_rules import Evidence

BAD_ROW = "bad_row"  # the flag of a row with any fault
COUNTS_ONLY = {"result_format": "BASIC", "partial_unexpected_count": 0}


Results = dict[str, ExpectationSuiteValidationResult]  # by the name of the suite


def judge(day: date, tables: list[Evidence], max_bad_share: float) -> Results:
    """The suite of the columns, then every table's; rows are not judged where the columns are not as expected."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas(str(day))
    frames = {"columns": column_frame(tables)}
    suites = {"columns": [columns_expectation(tables)]}
    if all(table.columns == table.expected for table in tables):
        frames |= {table.table: flag_frame(table) for table in tables}
        suites |= {table.table: rows_expectations(table, max_bad_share) for table in tables}
    results = {}
    for name, expectations in suites.items():
        data = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("day")
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=expectations))
        validation = context.validation_definitions.add(
            gx.ValidationDefinition(name=name, data=data, suite=suite)
        )
        results[name] = validation.run(
            batch_parameters={"dataframe": frames[name]}, result_format=COUNTS_ONLY
        )
    return results


def column_frame(tables: list[Evidence]) -> pd.DataFrame:
    """No rows; one column for every column of the day, named with its table and type."""
    return pd.DataFrame(columns=column_names(tables, "columns"))


def column_names(tables: list[Evidence], which: str) -> list[str]:
    return [
        f"{table.table}.{name} {kind}"
        for table in tables
        for name, kind in getattr(table, which).items()
    ]


def columns_expectation(tables: list[Evidence]) -> gxe.Expectation:
    return gxe.ExpectTableColumnsToMatchSet(
        column_set=column_names(tables, "expected"),
        description="the columns and their types are those of the schema",
    )


def flag_frame(table: Evidence) -> pd.DataFrame:
    """One row for every row of the table, one boolean column a fault, and whether it has any."""
    faults, counts = [reason.split() for reason in table.reasons], list(table.reasons.values())
    flags = {rule.fault: [rule.fault in found for found in faults] for rule in table.rules}
    flags[BAD_ROW] = [bool(found) for found in faults]
    return pd.DataFrame(
        {fault: np.repeat(np.array(flag, dtype=bool), counts) for fault, flag in flags.items()}
    )


def rows_expectations(table: Evidence, max_bad_share: float) -> list[gxe.Expectation]:
    mostly = round(1 - max_bad_share, 12)
    share = f"at least {100 * mostly:g} % of the rows"
    texts = {rule.fault: f"{rule.expects}, in {share}" for rule in table.rules}
    texts[BAD_ROW] = f"no rule is broken, in {share}"
    flags: list[gxe.Expectation] = [
        gxe.ExpectColumnValuesToBeInSet(
            column=fault, value_set=[False], mostly=mostly, description=text
        )
        for fault, text in texts.items()
    ]
    if table.min_rows is None:
        return flags
    enough = f"{table.min_rows:,} rows or more ({table.usual})"
    return [
        gxe.ExpectTableRowCountToBeBetween(min_value=table.min_rows, description=enough),
        *flags,
    ]


def verdict(tables: list[Evidence], results: Results) -> list[str]:
    """One sentence for everything that makes the day untrustworthy: the expectation, and the figure it met."""
    failures = [] if results["columns"].success else [wrong_columns(results["columns"])]
    for table in tables:
        result = results.get(table.table)
        if result is None or result.success:
            continue
        flags = {flag_of(one): one for one in result.results}
        counted = flags.pop("", None)  # the expectation on the table as a whole
        if counted is not None and not counted.success:
            rows = counted.result["observed_value"]
            failures.append(
                f"{table.table}: {rows:,} rows, expected {table.min_rows:,} or more ({table.usual})."
            )
        if not all(flag.success for flag in flags.values()):
            failures.append(bad_rows(table, flags))
    return failures


def settings_of(result: ExpectationValidationResult) -> dict:
    assert result.expectation_config is not None, (
        "Great Expectations returns every result with its expectation"
    )
    return result.expectation_config.kwargs


def flag_of(result: ExpectationValidationResult) -> str:
    """The fault that an expectation is about, "" for one about the table as a whole."""
    return settings_of(result).get("column", "")


def wrong_columns(result: ExpectationSuiteValidationResult) -> str:
    details = result.results[0].result["details"]["mismatched"]
    lacks, extra = details.get("missing", []), details.get("unexpected", [])
    parts = [
        f"{what} {', '.join(names)}"
        for what, names in (("missing:", lacks), ("not expected:", extra))
        if names
    ]
    return f"The columns and their types are not those of the schema; {'; '.join(parts)}."


def bad_rows(table: Evidence, flags: dict[str, ExpectationValidationResult]) -> str:
    """E.g. impressions: 900 of 9,000 rows (10.0 %) are bad, at most 5 % may be: repeat 900 (no earlier row has …)."""
    total = flags[BAD_ROW]
    allowed = 100 * (1 - settings_of(total)["mostly"])
    bad, rows = total.result["unexpected_count"], total.result["element_count"]
    counts = {rule: flags[rule.fault].result["unexpected_count"] for rule in table.rules}
    worst = sorted(
        (rule for rule in table.rules if counts[rule]), key=lambda rule: (-counts[rule], rule.fault)
    )
    by_fault = ", ".join(f"{rule.fault} {counts[rule]:,} ({rule.expects})" for rule in worst)
    share = f"{bad:,} of {rows:,} rows ({100 * bad / rows:.1f} %)"
    return f"{table.table}: {share} are bad, at most {allowed:g} % may be: {by_fault}."


def facts(results: Results) -> dict[str, float]:
    """gx_<suite>/success, and what each expectation on rows met: gx_<suite>/<fault> rows, and their percentage."""
    met: dict[str, float] = {}
    for suite, result in results.items():
        met[f"gx_{suite}/success"] = int(bool(result.success))
        for one in result.results:
            if fault := flag_of(one):
                met[f"gx_{suite}/{fault}"] = int(one.result["unexpected_count"])
                met[f"gx_{suite}/{fault}_percent"] = round(
                    float(one.result.get("unexpected_percent") or 0.0), 6
                )
    return met


def write_report(folder: Path, day: date, reason: str, results: Results) -> None:
    """data_docs.html, one page without anything from the network, and the results as Great Expectations tells them."""
    (folder / "data_docs.html").write_text(page(day, reason, results))
    as_json = {name: result.to_json_dict() for name, result in results.items()}
    (folder / "great_expectations.json").write_text(json.dumps(as_json, indent=1))


def page(day: date, reason: str, results: Results) -> str:
    trusted = (
        f"<p class=bad>Not trusted. {html.escape(reason)}</p>"
        if reason
        else "<p class=good>Trusted.</p>"
    )
    suites = list(reversed(results))  # what happened first, the columns last
    links = " · ".join(f"<a href='#{name}'>{name}</a>" for name in suites)
    bodies = "".join(
        f"<h2 id='{name}'>{name}{how_many(results[name])}</h2>{sections(results[name])}"
        for name in suites
    )
    head = f"<!doctype html><meta charset=utf-8><title>Data of {day}</title><style>{CSS}</style>"
    return f"{head}<h1>Data of {day}</h1>{trusted}<nav>{links}</nav>{bodies}"


def how_many(result: ExpectationSuiteValidationResult) -> str:
    """Rows and bad rows of a table, for its heading."""
    total = next((one.result for one in result.results if flag_of(one) == BAD_ROW), None)
    return f": {total['element_count']:,} rows, {total['unexpected_count']:,} bad" if total else ""


def sections(result: ExpectationSuiteValidationResult) -> str:
    """Great Expectations' own rendering of a result, without its frame, which loads styles from elsewhere."""
    document = ValidationResultsPageRenderer().render(result)
    view = DefaultJinjaSectionView()
    rendered = (
        view.render({"section": section.to_json_dict(), "section_loop": {"index": number}})
        for number, section in enumerate(
            document.sections[1:], 1
        )  # the first tells only when this ran
    )
    return "".join(rendered)


CSS = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h2 { margin: 2rem 0 .5rem; border-bottom: 2px solid #ddd }
h5 { font: 600 1rem ui-monospace, monospace; margin: .9rem 0 .2rem }
thead, .show-more { display: none } table { border-collapse: collapse; width: 100% }
td { padding: .15rem .5rem; vertical-align: top; border-top: 1px solid #eee }
td:first-child { width: 1.5rem } td:last-child { width: 16rem; text-align: right }
.show-scrollbars { max-height: 7rem; overflow-y: auto }
i { font-style: normal; font-weight: 700 } br { display: none } strong { display: block; font-weight: 400 }
.fa-check-circle::before { content: "✓" } .fa-times::before, .fa-exclamation-triangle::before { content: "✗" }
.text-success, .good { color: #18794e } .text-danger, .bad { color: #c62a2f }
"""
