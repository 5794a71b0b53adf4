"""Pictures of the experiment: quality by length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from embeddings.benchmarks.intervals import Estimate
from jobs.plots import save
from jobs.reports.tables.columns import Column

ACROSS = 4  # panels in a row


def draw(
    path: Path,
    title: str,
    columns: Sequence[Column],
    figures: Mapping[str, Mapping[tuple[str, int], Estimate]],
    levels: Sequence[str],
) -> None:
    """One panel per benchmark, one curve per way of shortening, with its band.

    figures: column -> (way, length) -> estimate. levels: the ways that are drawn as a line across.
    """
    from matplotlib.figure import Figure

    shown = [column for column in columns if figures[column.name]]
    across = min(ACROSS, len(shown))
    down = -(-len(shown) // across)
    picture = Figure(figsize=(3.2 * across, 0.8 + 2.6 * down), layout="constrained")
    picture.suptitle(title)
    panels = picture.subplots(down, across, squeeze=False).ravel()
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    for column, axes in zip(shown, panels, strict=False):
        draw_column(axes, figures[column.name], levels)
        axes.set_title(column.title, fontsize="medium")
    picture.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    save(picture, path)


def draw_column(axes, figures: Mapping[tuple[str, int], Estimate], levels: Sequence[str]) -> None:
    """One benchmark."""
    ways = list(dict.fromkeys(way for way, _ in figures))
    for way in ways:
        lengths = sorted(length for other, length in figures if other == way)
        found = [figures[way, length] for length in lengths]
        label = way.replace("_", " ")
        if way in levels:
            style = "--" if way == levels[0] else ":"
            axes.axhline(found[0].value, color="black", linewidth=1, linestyle=style, label=label)
            continue
        values = [estimate.value for estimate in found]
        (line,) = axes.plot(lengths, values, marker=".", label=label)
        low, high = [one.low for one in found], [one.high for one in found]
        axes.fill_between(lengths, low, high, color=line.get_color(), alpha=0.12)
    lengths = sorted({length for way, length in figures if way not in levels})
    axes.set_xscale("log")
    axes.set_xticks(lengths, map(str, lengths), minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
