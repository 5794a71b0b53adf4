"""Pictures of models that were tested on a day."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np

from jobs.plots import figure
from models.calibration import BINS
from models.metrics import both_classes, calibration_curve, roc_curve
from models.scratch import PIECE, Rows, pieces

PLOT_SIZE = (4.4, 4.0)  # inches
POINTS = 2000  # of a curve, more than a picture has pixels
MOST = 1 << 18  # rows that curves are drawn from


def draw(
    folder: Path, labels: np.ndarray, scores: dict[str, np.ndarray], label: str, day: date
) -> None:
    """calibration.png and roc.png of the primary label, of the rows of `drawn_rows`."""
    if not both_classes(labels):
        return  # with one class only, neither curve says anything
    title = f"Calibration of '{label}' on {day}"
    with figure(folder / "calibration.png", title, PLOT_SIZE) as axes:
        for role, probabilities in scores.items():
            axes.plot(*calibration_curve(labels, probabilities, BINS), ".-", label=role)
        axes.axline((0, 0), slope=1, color="grey", linewidth=0.8)
        axes.set(xlabel="predicted", ylabel="happened")
        axes.legend()
    with figure(folder / "roc.png", f"ROC of '{label}' on {day}", PLOT_SIZE) as axes:
        for role, probabilities in scores.items():
            false_positives, true_positives = roc_curve(labels, probabilities)
            drawn = np.linspace(0, len(labels) - 1, min(POINTS, len(labels))).astype(int)
            axes.plot(false_positives[drawn], true_positives[drawn], label=role)
        axes.axline((0, 0), slope=1, color="grey", linewidth=0.8)
        axes.set(xlabel="false positives, share", ylabel="true positives, share")
        axes.legend()


def drawn_rows(column: Rows) -> np.ndarray:
    """At most MOST rows, evenly spaced: as many as a picture shows."""
    step = max(1, -(-len(column) // MOST))
    size = step * max(1, PIECE // step)  # so that each piece begins with a row that is taken
    return np.concatenate([column[:0], *(piece[::step] for piece in pieces(column, size))])
