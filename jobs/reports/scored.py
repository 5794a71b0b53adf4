"""Several rankers on the same rows: means and deviations of their figures, and paired differences.

A run is a row of a table: data, test, kind and seed, with the figures of `jobs.reports.trials`. A
kind is any name for one way of ranking. The figures of a seed are means over the tests; a summary
has their mean over the seeds, and their standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import Estimate, user_bootstrap
from jobs.reports.report import Row, column_of, distinct, select
from jobs.reports.trials import TOP, mean_metric

RESAMPLES = 200
FIGURES = ("auc", "log_loss", "rce", "gauc", f"ndcg_{TOP}", "rows_s", "parameters")
# What a person reads: heading, column, format.
SHOWN = (
    ("AUC", "auc", ".4f"),
    ("log loss", "log_loss", ".4f"),
    ("RCE, %", "rce", ".2f"),
    ("GAUC", "gauc", ".4f"),
    (f"nDCG@{TOP}", f"ndcg_{TOP}", ".4f"),
    ("rows/s", "rows_s", ",.0f"),
    ("parameters", "parameters", ",.0f"),
)


@dataclass(frozen=True)
class Scored:
    """The scores of all kinds on one test. users, labels: (n,), scores: kind -> (n,) by seed."""

    data: str
    test: str
    users: np.ndarray
    labels: np.ndarray
    scores: dict[str, list[np.ndarray]]


def difference_rows(scored: list[Scored], base: str) -> list[Row]:
    """The AUC of every other kind less that of `base`, on every test and in the mean of all.

    scored: the tests of one data set. None where `base` is not among the kinds.
    """
    if not scored or base not in scored[0].scores:
        return []
    groups = [([test], test.test) for test in scored]
    if len(scored) > 1:
        groups.append((scored, "all"))
    rows: list[Row] = []
    for tests, name in groups:
        estimates = mean_aucs(tests)
        for kind, estimate in estimates.items():
            if kind != base:
                row: Row = {"data": scored[0].data, "test": name, "kind": kind}
                row.update((estimate - estimates[base]).fields(f"over {base}"))
                rows.append(row)
    return rows


def mean_aucs(tests: list[Scored]) -> dict[str, Estimate]:
    """The mean AUC of every kind over these tests and all seeds, on the same resamples."""
    users = np.concatenate([test.users for test in tests])
    labels = [test.labels for test in tests]
    statistics = {}
    for kind in tests[0].scores:
        scores = [test.scores[kind] for test in tests]
        statistics[kind] = partial(mean_metric, auc, labels, scores)
    return user_bootstrap(users, statistics, RESAMPLES, seed=0)


def summarised(runs: list[Row]) -> list[Row]:
    """A row per data set and kind, the best AUC first."""
    rows = []
    for data in distinct(runs, "data"):
        of_data = select(runs, "data", data)
        of_kinds = []
        for kind in distinct(of_data, "kind"):
            of_kinds.append(summary_row(select(of_data, "kind", kind)))
        rows += sorted(of_kinds, key=lambda row: -float(row["auc"]))
    return rows


def summary_row(runs: list[Row]) -> Row:
    """Mean and standard deviation of the seeds' figures, of one kind; with one seed the mean."""
    row: Row = {name: runs[0][name] for name in ("data", "kind")}
    seeds = distinct(runs, "seed")
    row |= {"seeds": len(seeds), "tests": len(distinct(runs, "test"))}
    for name in FIGURES:
        by_seed = []
        for seed in seeds:
            of_seed = [run for run in runs if str(run["seed"]) == seed]
            by_seed.append(float(column_of(of_seed, name).mean()))
        row[name] = float(np.mean(by_seed))
        if len(seeds) > 1 and name != "parameters":
            row[f"{name}_std"] = float(np.std(by_seed, ddof=1))
    return row


def markdown(rows: list[Row]) -> str:
    """The summary of one data set as a table for a page."""
    headings = ["kind", *[heading for heading, _, _ in SHOWN]]
    lines = [cells(headings), cells(["---"] * len(headings))]
    for row in rows:
        values = [str(row["kind"])]
        for _, name, form in SHOWN:
            text = format(row[name], form)
            # The speed varies with what else the machine does, which is no property of a ranker.
            if f"{name}_std" in row and name != "rows_s":
                text += f" ± {format(row[f'{name}_std'], form)}"
            values.append(text)
        lines.append(cells(values))
    return "\n".join(lines) + "\n"


def cells(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"
