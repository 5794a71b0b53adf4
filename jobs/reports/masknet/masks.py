"""What the masks of a trained network do on tested rows: their values, and what they change.

The control of a mask's effect is the same layer's output without masking.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.reports.report import Row
from jobs.reports.trials import Trial
from models.inspection import Masks, masks_of
from models.rankers.base import Ranker

INSPECTED = 2000  # rows, evenly spaced over the tested ones
NEAR_ZERO = 0.1
EDGES = np.linspace(-4, 4, 161)  # of the histograms; what lies beyond is counted in the last bins
VALUES, MASKED, CONTROL = "mask", "layer with masks", "layer without (control)"


@dataclass(frozen=True)
class MaskFigures:
    """Of one network, by group of fields, (G,), and by what the values are.

    effects: log odds of the tested label that the mask of a group changes, mean of the absolute
    values; signed: mean; strengths: mean absolute value of the masks. layers: of the masks and of
    the layer with and without them, all blocks together.
    """

    names: tuple[str, ...]
    effects: np.ndarray
    signed: np.ndarray
    strengths: np.ndarray
    layers: dict[str, LayerFigures]


@dataclass(frozen=True)
class LayerFigures:
    """density: (len(EDGES) - 1,), its integral is 1. near_zero: share with |x| < NEAR_ZERO."""

    mean: float
    std: float
    near_zero: float
    density: np.ndarray


def measured(model: Ranker, trial: Trial) -> MaskFigures:
    """The figures of a network with masks on the tested rows of the trial."""
    rows = trial.tested_rows()
    count = min(INSPECTED, len(rows))
    places = np.linspace(0, len(rows) - 1, count).astype(np.int64)
    (batch,) = rows.reordered(places).batches(count)
    return figures_of_masks(masks_of(model, batch), trial.label)


def figures_of_masks(found: Masks, label: int) -> MaskFigures:
    """label: the column of the label that the effects are of."""
    effects_BG = found.effects[:, :, label]
    strengths = [np.abs(found.values[:, :, fields]).mean() for fields in found.groups]
    layers = {VALUES: found.values, MASKED: found.layer, CONTROL: found.unmasked_layer}
    return MaskFigures(
        names=found.names,
        effects=np.abs(effects_BG).mean(axis=0),
        signed=effects_BG.mean(axis=0),
        strengths=np.array(strengths),
        layers={name: layer_figures(values) for name, values in layers.items()},
    )


def layer_figures(values: np.ndarray) -> LayerFigures:
    """values: of any shape."""
    inside = values.clip(EDGES[0], EDGES[-1])
    density, _ = np.histogram(inside, EDGES, density=True)
    return LayerFigures(
        mean=float(values.mean()),
        std=float(values.std()),
        near_zero=float((np.abs(values) < NEAR_ZERO).mean()),
        density=density,
    )


def field_rows(start: Row, found: list[MaskFigures]) -> list[Row]:
    """A row per group of fields, the largest effect first: means and deviations of the networks.

    start: the first columns of every row. found: of the same fields.
    """
    rows = []
    for place, name in enumerate(found[0].names):
        row = start | {"field": name}
        for figure in ("effects", "signed", "strengths"):
            row |= spread(figure, [float(getattr(one, figure)[place]) for one in found])
        rows.append(row)
    return sorted(rows, key=lambda row: -float(row["effects"]))


def value_rows(start: Row, found: list[MaskFigures]) -> list[Row]:
    """A row per layer: mean, deviation and share near zero of its values."""
    rows = []
    for name in found[0].layers:
        row = start | {"layer": name}
        for figure in ("mean", "std", "near_zero"):
            row |= spread(figure, [getattr(one.layers[name], figure) for one in found])
        rows.append(row)
    return rows


def spread(name: str, values: list[float]) -> Row:
    """The mean, and with several values their standard deviation as NAME_std."""
    row: Row = {name: float(np.mean(values))}
    if len(values) > 1:
        row[f"{name}_std"] = float(np.std(values, ddof=1))
    return row
