"""A table of methods for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from embeddings.benchmarks.intervals import Estimate
from embeddings.registry.comparison import NONE, line_of
from jobs.reports.tables.columns import Column

Figures = Mapping[str, Mapping[str, Estimate]]  # column -> method -> estimate


def markdown(
    title: str,
    columns: Sequence[Column],
    figures: Figures,
    seconds: Mapping[str, float],
    options: Mapping[str, str],
) -> str:
    """One row per method, one column per benchmark that someone could take part in.

    Each figure is with half the width of its interval; bold is the best, and all that differ from
    it by less than chance.
    """
    shown = [column for column in columns if figures[column.name]]
    if not shown:
        return f"### {title}\n\nThere is nothing to ask: too few are labelled."
    best = {column.name: best_of(figures[column.name]) for column in shown}
    header = ["method", *(column.title for column in shown), "fit, CPU s", "tuned to"]
    lines = [f"### {title}", "", line_of(header), line_of(["---"] * len(header))]
    for method, fit_s in seconds.items():
        cells = [method]
        for column in shown:
            text = cell(figures[column.name].get(method))
            cells.append(f"**{text}**" if method in best[column.name] else text)
        if set(cells[1:]) == {NONE}:
            continue  # it takes no part in this table
        lines.append(line_of([*cells, f"{fit_s:.2f}", options[method]]))
    return "\n".join(lines)


def cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return NONE
    return f"{estimate.value:.3f} ±{(estimate.high - estimate.low) / 2:.3f}"


def best_of(figures: Mapping[str, Estimate]) -> set[str]:
    """The method with the highest figure, and those whose distance from it includes 0."""
    first = max(figures, key=lambda name: figures[name].value)
    return {name for name in figures if (figures[first] - figures[name]).low <= 0}
