"""`evergreen experiment dials`: turn one dial at a time, and compare with the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from jobs.plots import save
from jobs.reports.dials.measures import DIALS, PEOPLE, Dial, alarms_of_topics, with_shock
from jobs.reports.report import Report, Row, column_of, progress_bar, select
from jobs.settings import Settings
from simulation.drift import STILL, Drift

NAME = "dials"
LEVELS = (0.0, 1.0, 2.0, 4.0)  # times the usual rate of the dial
SHOCK, SHOCK_DAYS = 15, 20  # its day, and how many days are watched


def run(settings: Settings, worlds: int, folder: Path | None = None) -> Report:
    """Measure so many worlds at each level of each dial, with all others at zero."""
    report = Report(settings, NAME, 0, folder)
    rows: list[Row] = []
    shocks: list[Row] = []
    with progress_bar("dials", worlds * (len(DIALS) * len(LEVELS) + 1)) as progress:
        for dial in DIALS:
            for level in LEVELS:
                for seed in range(worlds):
                    progress(f"{dial.name} × {level:g}, world {seed}")
                    rows.append(measured(settings, dial, level, seed))
        for seed in range(worlds):
            progress(f"shock, world {seed}")
            shocks += shock_rows(seed)
    report.table("worlds", rows)
    means = mean_rows(rows)
    report.table("means", means)
    report.table("shocks", shocks)
    draw(rows, report.picture("measured"))
    for row in means:
        report.add_figures(f"{row['dial']}_{row['level']:g}", row)
    report.track()
    return report


def measured(settings: Settings, dial: Dial, level: float, seed: int) -> Row:
    """One world in which only this dial is turned."""
    rate = level * getattr(Drift(), dial.name)
    drift = replace(STILL, **{dial.name: rate})
    pair = dial.measure(settings, replace(dial.world, seed=seed, drift=drift))
    base: Row = {"dial": dial.name, "level": level, "rate": rate, "world": seed}
    return base | {"measured": pair.measured, "true": pair.true}


def shock_rows(seed: int) -> list[Row]:
    """A still world with a shock and one without: alarms on its day, and on the others."""
    rows: list[Row] = []
    still = replace(PEOPLE, seed=seed, drift=STILL)
    for name, world in (("still", still), ("shock", with_shock(still, SHOCK))):
        days = {alarm.day for alarm in alarms_of_topics(world, SHOCK_DAYS)}
        on_day = int(SHOCK in days)
        rows.append(
            {"world": name, "seed": seed, "on the day": on_day, "other days": len(days) - on_day}
        )
    return rows


def mean_rows(rows: list[Row]) -> list[Row]:
    """By dial and level: the means over the worlds, and the mean distance of the two."""
    means: list[Row] = []
    for dial in DIALS:
        for level in LEVELS:
            chosen = select(select(rows, "dial", dial.name), "level", level)
            found, true = column_of(chosen, "measured"), column_of(chosen, "true")
            row: Row = {"dial": dial.name, "level": level, "measured": float(found.mean())}
            row |= {"true": float(true.mean()), "off by": float(np.abs(found - true).mean())}
            means.append(row)
    return means


def draw(rows: list[Row], path: Path) -> None:
    """A panel per dial: what was measured over what is true, a point per world."""
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    panels = figure.subplots(2, 4).ravel()
    for axes in panels[len(DIALS) :]:
        axes.set_axis_off()
    for dial, axes in zip(DIALS, panels, strict=False):
        of_dial = select(rows, "dial", dial.name)
        for level in LEVELS:
            chosen = select(of_dial, "level", level)
            true, found = column_of(chosen, "true"), column_of(chosen, "measured")
            axes.plot(true, found, "o", label=f"× {level:g}", alpha=0.8)
        axes.axline((0, 0), slope=1, color="grey", linewidth=0.8)
        axes.set_title(f"{dial.name}: {dial.number}", fontsize=8)
        axes.set(xlabel="true", ylabel="measured")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    save(figure, path)
