"""What is in a table of features, for a person who meets it for the first time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from embeddings.registry.features import Table
from embeddings.registry.loaded import texts

READ = 20_000  # rows that a summary is of, at most: a page must not take seconds
FREQUENT = 4  # texts of a column that are listed
EXAMPLES = 4  # ids whose values are shown


@dataclass(frozen=True)
class ColumnSummary:
    """One column. known: share of the rows that have a value. values: what there is, in words.

    examples: the values of some ids, None where one is missing.
    """

    name: str
    kind: str
    known: float
    values: str
    examples: list[str | None]


@dataclass(frozen=True)
class TableSummary:
    """rows: how many were read, evenly spread. ids: those of the examples."""

    rows: int
    ids: list[str]
    columns: list[ColumnSummary]


def summary(table: Table) -> TableSummary:
    """The columns of a table, by some of its rows."""
    n = len(table.ids)
    read = np.linspace(0, n - 1, min(n, READ)).astype(np.int64)
    shown = np.linspace(0, n - 1, min(n, EXAMPLES)).astype(np.int64)
    columns = [column_summary(name, c[read], c[shown]) for name, c in table.columns.items()]
    return TableSummary(len(read), texts(table.ids, shown), columns)


def column_summary(name: str, values: np.ndarray, examples: np.ndarray) -> ColumnSummary:
    """values: of the rows that are read, examples: of those that are shown."""
    if values.dtype.kind == "S":
        known = values[values != b""]
        shown: list[str | None] = [value.decode() or None for value in examples.tolist()]
        return ColumnSummary(name, "text", share(known, values), frequent(known), shown)
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    extent = f"{short(known.min())} to {short(known.max())}" if len(known) else ""
    numbers = [None if np.isnan(value) else short(value) for value in examples]
    return ColumnSummary(name, "number", share(known, values), extent, numbers)


def share(known: np.ndarray, values: np.ndarray) -> float:
    return len(known) / len(values)


def frequent(known: np.ndarray) -> str:
    """The most frequent texts and their shares, most frequent first."""
    values, counts = np.unique(known, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:FREQUENT]
    listed = [f"{values[at].decode()} {percent(counts[at] / len(known))}" for at in order]
    more = len(values) - len(order)
    return ", ".join(listed) + (f", and {more:,} more" if more else "")


def percent(part: float) -> str:
    return "< 1 %" if part < 0.005 else f"{100 * part:.0f} %"


def short(number: Any) -> str:
    """A number as a person reads it."""
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:.4g}"
