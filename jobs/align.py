"""align: the day's vectors -> the coordinates of the space's anchor day, by one rotation of both sides."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embeddings.align import mean_cosine, procrustes, relative_residual
from jobs.errors import EvergreenError
from jobs.settings import Settings
from jobs.steps import anchor_day

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("embed", day), ("embed", anchor_day(settings))]


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Rotate consumers, producers and the fold-in matrix; dot products stay as they are.

    Raises EvergreenError when day and anchor have no producer in common: they cannot live in one space.
    """
    anchor = anchor_day(settings)
    inputs = [settings.lake.get(step, d) for d in dict.fromkeys([day, anchor]) for step in ("matrix", "embed")]
    mine, theirs = shared_producers(producer_ids(settings, day), producer_ids(settings, anchor))
    if not len(mine):
        raise EvergreenError(
            f"{day} and the anchor {anchor} of space '{space(settings)}' have no producer in common. "
            "Set embedding.anchor_day to a day nearer by: it opens a new space."
        )
    embed = settings.lake.get("embed", day).path
    vectors = {name: np.load(embed / f"{name}.npy") for name in ("consumers", "producers", "fold_in")}
    target = np.load(settings.lake.get("embed", anchor).path / "producers.npy")[theirs]
    rotation = np.eye(settings.embedding.dim) if day == anchor else procrustes(vectors["producers"][mine], target)
    aligned = {name: (v.astype(np.float64) @ rotation).astype(np.float32) for name, v in vectors.items()}
    before, after = vectors["producers"][mine], aligned["producers"][mine]
    with settings.lake.writing("align", day, settings=settings.digest(*SETTINGS), inputs=inputs) as staging:
        for name, values in {**aligned, "rotation": rotation}.items():
            np.save(staging.path / f"{name}.npy", values, allow_pickle=False)
        staging.facts |= {
            "space": space(settings),
            "anchor": str(anchor),
            "shared_producers": len(mine),
            "shared_share": len(mine) / len(vectors["producers"]),
            "cosine_to_anchor": mean_cosine(after, target),
            "cosine_to_anchor_unaligned": mean_cosine(before, target),
            "residual": relative_residual(after, target),
        }
    plot_cosines(
        before, after, target, settings.report("align", day) / "cosine_to_anchor.png", f"{day} against {anchor}"
    )


def space(settings: Settings) -> str:
    """The name of the coordinate system: the embedding, its anchor, and the settings that shape it."""
    return f"{settings.embedding.name}-{anchor_day(settings)}-{settings.digest(*SETTINGS)[:6]}"


def producer_ids(settings: Settings, day: date) -> np.ndarray:
    return np.load(settings.lake.get("matrix", day).path / "producers.npy")


def shared_producers(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in a and rows in b of the ids that both have, in the same order."""
    _, rows_a, rows_b = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    return rows_a, rows_b


def plot_cosines(before: np.ndarray, after: np.ndarray, target: np.ndarray, path: Path, title: str) -> None:
    """How near each shared producer lies to where the anchor has it, before and after the rotation."""
    from jobs.plots import figure

    def cosines(v: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(v, axis=1) * np.linalg.norm(target, axis=1)
        return np.sum(v * target, axis=1)[norms > 0] / norms[norms > 0]

    with figure(path, title) as axes:
        for vectors, label in ((before, "as factorised"), (after, "aligned")):
            axes.hist(cosines(vectors), bins=np.linspace(-1, 1, 81), histtype="stepfilled", alpha=0.6, label=label)
        axes.set(xlabel="cosine to the anchor's vector of the same producer", ylabel="producers")
        axes.legend()
