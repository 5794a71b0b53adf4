"""Pictures of the tables: a dot with its interval for every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jobs.plots import save
from jobs.reports.report import Row
from jobs.reports.tables.columns import Column
from jobs.reports.tables.markdown import Figures, best_of
from jobs.reports.tables.methods import POPULARITY, RANDOM

ACROSS = 4  # panels in a row
MARKERS = "os^vDP*Xd"
BEST, OTHER, FLOOR = "tab:green", "tab:blue", "tab:gray"


def draw(path: Path, title: str, columns: Sequence[Column], figures: Figures) -> None:
    """One panel per benchmark; green is the best and what chance alone could separate from it."""
    from matplotlib.figure import Figure

    shown = [column for column in columns if figures[column.name]]
    methods = list(dict.fromkeys(name for column in shown for name in figures[column.name]))
    across = min(ACROSS, len(shown))
    down = -(-len(shown) // across)
    size = (1.2 + 2.9 * across, down * (0.9 + 0.26 * len(methods)))
    picture = Figure(figsize=size, layout="constrained")
    picture.suptitle(title)
    panels = picture.subplots(down, across, sharey=True, squeeze=False).ravel()
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    for column, axes in zip(shown, panels, strict=False):
        draw_column(axes, column, methods, figures[column.name])
    save(picture, path)


def draw_column(axes, column: Column, methods: list[str], figures: Mapping) -> None:
    """One benchmark."""
    best = best_of(figures)
    for place, name in enumerate(methods):
        if name not in figures:
            continue
        estimate = figures[name]
        colour = FLOOR if name in (RANDOM, POPULARITY) else OTHER
        colour = BEST if name in best else colour
        axes.hlines(place, estimate.low, estimate.high, color=colour, linewidth=2)
        axes.plot(estimate.value, place, "o", color=colour, markersize=5)
    axes.set_title(column.title, fontsize="medium")
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.grid(alpha=0.3)


def draw_agreement(
    path: Path, columns: Sequence[Column], figures: Figures, truths: Figures, agreements: list[Row]
) -> None:
    """What is measured against what is true; one panel per benchmark, one dot per method."""
    from matplotlib.figure import Figure

    shown = [column for column in columns if column.name in truths]
    methods = list(dict.fromkeys(name for column in shown for name in truths[column.name]))
    tau = {row["column"]: row["kendall"] for row in agreements}
    picture = Figure(figsize=(4.0 * len(shown) + 1.6, 4.0), layout="constrained")
    panels = picture.subplots(1, len(shown), squeeze=False)[0]
    for column, axes in zip(shown, panels, strict=True):
        for number, name in enumerate(methods):
            if name in truths[column.name]:
                draw_dot(axes, name, number, figures[column.name], truths[column.name])
        axes.set_title(f"{column.title}: Kendall's τ {tau[column.name]:.2f}", fontsize="medium")
        axes.set(xlabel="measured", ylabel="true")
        axes.grid(alpha=0.3)
    most = max(panels, key=lambda axes: len(axes.get_legend_handles_labels()[1]))
    picture.legend(*most.get_legend_handles_labels(), loc="outside right center", fontsize="small")
    save(picture, path)


def draw_dot(axes, name: str, number: int, measured: Mapping, true: Mapping) -> None:
    """A method, with the interval of either figure."""
    x, y = measured[name], true[name]
    colour, marker = f"C{number % 10}", MARKERS[number % len(MARKERS)]
    axes.plot(x.value, y.value, marker, color=colour, label=name, linestyle="none")
    axes.hlines(y.value, x.low, x.high, color=colour, alpha=0.4)
    axes.vlines(x.value, y.low, y.high, color=colour, alpha=0.4)
