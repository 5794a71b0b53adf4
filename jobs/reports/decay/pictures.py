"""The pictures of the decay report: curves with bands, matrices, windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jobs.plots import figure, panels
from jobs.reports.report import Row, column_of, distinct, select

COLOURS = {
    "folded in": "tab:green",
    "equal volume": "tab:orange",
    "popularity": "tab:grey",
    "unaligned refresh": "tab:red",
    "aligned refresh": "tab:green",
    "everything fresh": "tab:grey",
}  # of lines; the others are blue
XLABEL = "days without a refresh"
SMALLEST_CELL = 0.55  # inches of a matrix


def draw_curves(
    path: Path, title: str, rows: list[Row], group: str, value: str, ylabel: str
) -> None:
    """One line with its band per group, by age."""
    with figure(path, title) as axes:
        for name in distinct(rows, group):
            colour = COLOURS.get(name, "tab:blue")
            draw_band(axes, select(rows, group, name), value, name, colour)
        finish(axes, rows, ylabel)


def draw_losses(path: Path, titles: list[str], tables: list[list[Row]], ylabel: str) -> None:
    """What a user loses, and how much of it is drift; one panel per label."""
    with panels(path, titles) as all_axes:
        for axes, rows in zip(all_axes, tables, strict=True):
            draw_band(axes, rows, "auc_lost", "lost by not retraining", "tab:red")
            draw_band(axes, rows, "auc_drift", "of that drift, at equal volume", "tab:blue")
            axes.axhline(0, color="black", linewidth=0.8)
            axes.set(xlabel=XLABEL, xticks=column_of(rows, "age"))
        all_axes[0].set_ylabel(ylabel)
        all_axes[0].legend(fontsize=8)


def draw_band(axes, rows: list[Row], value: str, label: str, colour: str) -> None:
    ages = column_of(rows, "age")
    axes.plot(ages, column_of(rows, value), ".-", label=label, color=colour)
    low = column_of(rows, f"{value}_low")
    high = column_of(rows, f"{value}_high")
    axes.fill_between(ages, low, high, color=colour, alpha=0.15, linewidth=0)


def finish(axes, rows: list[Row], ylabel: str) -> None:
    axes.set(xlabel=XLABEL, ylabel=ylabel, xticks=np.unique(column_of(rows, "age")))
    axes.legend(fontsize=8)


def draw_matrix(path: Path, title: str, rows: list[Row], value: str, digits: int) -> None:
    """The matrix trained-on day x evaluated-on day; its diagonals are the curve."""
    days = sorted({str(row[name]) for row in rows for name in ("learned", "tested")})
    place = {day: position for position, day in enumerate(days)}
    learned, tested = days[:-1], days[1:]
    cells = np.full((len(learned), len(tested)), np.nan)
    for row in rows:
        if value in row:
            cells[place[str(row["learned"])], place[str(row["tested"])] - 1] = row[value]
    width = 2.2 + SMALLEST_CELL * len(tested)
    height = 1.4 + 0.36 * len(learned)
    with figure(path, title, (max(width, 4.5), max(height, 3.0))) as axes:
        axes.grid(visible=False)
        shown = axes.imshow(cells, cmap="YlGn", aspect="auto")
        write_cells(axes, cells, digits)
        axes.set_xticks(range(len(tested)), [day[5:] for day in tested], rotation=45, ha="right")
        axes.set_yticks(range(len(learned)), [day[5:] for day in learned])
        axes.set(xlabel="evaluated on", ylabel="learned up to")
        axes.figure.colorbar(shown, ax=axes, shrink=0.8)


def write_cells(axes, cells: np.ndarray, digits: int) -> None:
    """The value of every cell in it, white on dark ones."""
    if np.isnan(cells).all():
        return
    low, high = np.nanmin(cells), np.nanmax(cells)
    for (row, column), value in np.ndenumerate(cells):
        if np.isnan(value):
            continue
        dark = high > low and (value - low) / (high - low) > 0.6
        colour = "white" if dark else "black"
        text = f"{value:.{digits}f}".replace("0.", ".", 1)
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)


def draw_windows(path: Path, tables: dict[str, tuple[list[Row], str]]) -> None:
    """Fresh vectors and rankers by the length of their window. title -> rows, column."""
    from matplotlib.figure import Figure

    from jobs.plots import save

    picture = Figure(figsize=(1 + 3.6 * len(tables), 3.2), layout="constrained")
    all_axes = picture.subplots(1, len(tables), squeeze=False)[0]
    for axes, (title, (rows, value)) in zip(all_axes, tables.items(), strict=True):
        positions = np.arange(len(rows))
        values = column_of(rows, value)
        below = values - column_of(rows, f"{value}_low")
        above = column_of(rows, f"{value}_high") - values
        axes.errorbar(positions, values, (below, above), fmt="o-", capsize=3, color="tab:green")
        axes.set_xticks(positions, [str(row["window"]) for row in rows])
        axes.set(title=title, xlabel="newest days learned from")
        axes.grid(alpha=0.3)
    save(picture, path)
