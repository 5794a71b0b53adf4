"""Pictures of one training: its losses, and what the masks of the ranker do."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jobs.plots import figure
from models.features import Examples

if TYPE_CHECKING:
    from models.training import Trained

INSPECTED = 500  # rows over which the effects of masks are averaged


def draw_losses(path: Path, trained: Trained, day: date) -> None:
    """The loss of each label while training, smoothed over a fiftieth of the steps."""
    width = max(1, len(trained.losses) // 50)
    kernel = np.ones(width) / width
    with figure(path, f"Training up to {day}: loss by label") as axes:
        for column, label in enumerate(trained.model.spec.labels):
            # Only full windows ("valid"): the others would bend the curve towards zero.
            smooth = np.convolve(trained.losses[:, column], kernel, mode="valid")
            axes.plot(np.arange(len(smooth)) + width, smooth, label=label.removeprefix("label_"))
        axes.set(xlabel="step", ylabel="binary cross-entropy", yscale="log")
        axes.legend(fontsize=7, ncols=2)


def draw_masks(folder: Path, trained: Trained, rows: Examples) -> None:
    """masks.png: what the mask of every field changes. mask-control.png: what the blocks read.

    Over the first rows of a day, for a ranker that has masks. Both compare it with its control, the
    same layer without masking.
    """
    from models.inspection import has_masks, masks_of

    batch = next(iter(rows.batches(INSPECTED)), None)
    if batch is None or not has_masks(trained.model):
        return
    found = masks_of(trained.model, batch)
    labels = [label.removeprefix("label_") for label in trained.model.spec.labels]
    size = (3 + 0.7 * len(labels), 1.8 + 0.3 * len(found.names))
    title = f"Log odds that the mask of a field changes, {rows.name}"
    with figure(folder / "masks.png", title, size) as axes:
        sizes = axes.imshow(np.abs(found.effects).mean(axis=0), cmap="Greens", aspect="auto")
        axes.set_xticks(np.arange(len(labels)), labels, rotation=30, ha="right")
        axes.set_yticks(np.arange(len(found.names)), found.names)
        axes.grid(visible=False)
        axes.figure.colorbar(sizes, label=f"absolute, mean over {len(found.logits):,} rows")
    layers = {"with masks": found.layer, "without (control)": found.unmasked_layer}
    with figure(folder / "mask-control.png", f"What the first blocks read, {rows.name}") as axes:
        for name, values in layers.items():
            counts, edges = np.histogram(values.clip(-4, 4), np.linspace(-4, 4, 81), density=True)
            axes.stairs(counts, edges, label=name)
        axes.set(xlabel="value (beyond ±4 at the edges)", ylabel="density")
        axes.legend()
