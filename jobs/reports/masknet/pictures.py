"""The pictures of the studies, one per data set and question."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jobs.plots import panels
from jobs.reports.masknet.masks import CONTROL, EDGES, MASKED, VALUES, MaskFigures
from jobs.reports.masknet.variants import BASE, STUDIES
from jobs.reports.report import Row, column_of, distinct, select


def draw_studies(path: Path, data: str, rows: list[Row]) -> None:
    """The AUC of every network by study, a line per structure; whiskers: deviation of seeds."""
    studies = [study for study in STUDIES if select(rows, "study", study)]
    titles = [f"{data}: {study}" for study in studies]
    with panels(path, titles) as all_axes:
        for study, axes in zip(studies, all_axes, strict=True):
            for shift, structure in enumerate(distinct(rows, "structure")):
                of_structure = select(rows, "structure", structure)
                shown = select(of_structure, "study", study)
                if study == "ablation":
                    shown = select(of_structure, "name", BASE) + shown
                names = [str(row["name"]).replace("no ", "no\n") for row in shown]
                places = np.arange(len(names)) + 0.1 * shift  # whiskers do not hide each other
                deviations = [float(row.get("auc_std", 0.0)) for row in shown]
                axes.errorbar(
                    places,
                    column_of(shown, "auc"),
                    deviations,
                    fmt=".-",
                    capsize=2,
                    label=structure,
                )
                axes.set_xticks(np.arange(len(names)), names, fontsize=7)
        all_axes[0].set_ylabel("AUC")
        all_axes[0].legend(fontsize=7)


def draw_values(path: Path, data: str, masks: dict[str, list[MaskFigures]]) -> None:
    """The distribution of the masks, and of the layer with and without them; mean of networks."""
    titles = [f"{data}, {structure}" for structure in masks]
    centres = (EDGES[1:] + EDGES[:-1]) / 2
    with panels(path, titles) as all_axes:
        for axes, found in zip(all_axes, masks.values(), strict=True):
            for name in (VALUES, MASKED, CONTROL):
                density = np.mean([one.layers[name].density for one in found], axis=0)
                axes.plot(centres, density, label=name, linewidth=1)
            axes.set(xlabel="value (beyond ±4 at the edges)", yscale="log")
        all_axes[0].set_ylabel("density")
        all_axes[0].legend(fontsize=7)


def draw_fields(path: Path, data: str, rows: list[Row]) -> None:
    """What the mask of every field changes, by structure; whiskers: deviation of seeds."""
    structures = distinct(rows, "structure")
    names = distinct(rows, "field")
    titles = [f"{data}, {structure}" for structure in structures]
    with panels(path, titles, height=1.2 + 0.22 * len(names)) as all_axes:
        for axes, structure in zip(all_axes, structures, strict=True):
            by_field = {str(row["field"]): row for row in select(rows, "structure", structure)}
            shown = [by_field[name] for name in names]
            deviations = [float(row.get("effects_std", 0.0)) for row in shown]
            axes.barh(np.arange(len(names)), column_of(shown, "effects"), xerr=deviations)
            axes.set_xlabel("|log odds|, mean over rows", fontsize=8)
        all_axes[0].set_yticks(np.arange(len(names)), names, fontsize=7)
        all_axes[0].invert_yaxis()
