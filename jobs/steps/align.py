"""align: the day's vectors -> the coordinates of its space, by one rotation of both sides.

    rotation.npy      (k, k)
    producers.npy     (m, k) float32, aligned; rows as in the matrix
    fold_in/...       the fold-in, aligned; the consumers follow in `fold_in`

A space keeps the coordinates of its anchor day for ever. It begins with `embedding.anchor_day`; a later day that lies
too far from the anchor (`embedding.min_cosine`) opens a new space, whose anchor is that day, and the days after it
follow. So which space a day is in depends on the days between it and the first anchor, in their order and not in the
order in which they are computed: they are computed first where they are missing. A day before the first anchor is
aligned to it, or alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embeddings.align import (
    canonical_axes,
    mean_cosine,
    neighbour_overlap,
    procrustes,
    relative_residual,
)
from jobs.lake.store import Partition
from jobs.pipeline.plan import anchor_day
from jobs.settings import Settings, days_between
from jobs.steps.embed import load_fold_in, save_fold_in

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")
log = logging.getLogger(__name__)


def needs(settings: Settings, day: date) -> Iterator[tuple[str, date]]:
    """The day's factors, the first anchor's, and every trusted day between them, oldest first."""
    yield ("embed", day)
    yield ("embed", anchor_day(settings))
    for between in days_between(anchor_day(settings), day - timedelta(days=1)):
        yield ("validate", between)
        if settings.lake.get("validate", between).facts["trusted"]:
            yield ("align", between)


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Rotate producers and fold-in, and tell how the day lies to its anchor and to the day before it."""
    before = previous(settings, day)
    anchor = before.facts["anchor"] if before else str(anchor_day(settings))
    mine, theirs = factorised(settings, day), factorised(settings, date.fromisoformat(anchor))
    placed = place(mine, theirs, settings.embedding.min_cosine)
    inputs = [
        settings.lake.get(step, d)
        for d in dict.fromkeys([day, theirs.day])
        for step in ("matrix", "embed")
    ]
    inputs += [before] if before else []
    with settings.lake.writing(
        "align", day, settings=settings.digest(*SETTINGS), inputs=inputs
    ) as staging:
        np.save(staging.path / "rotation.npy", placed.rotation, allow_pickle=False)
        np.save(staging.path / "producers.npy", placed.producers.vectors, allow_pickle=False)
        model = load_fold_in(settings.lake.get("embed", day).path / "fold_in")
        save_fold_in(staging.path / "fold_in", model.rotated(placed.rotation))
        staging.facts |= {
            "space": space(settings, placed.anchor),
            "anchor": str(placed.anchor),
            **placed.facts,
        }
        if before and before.facts["anchor"] == str(placed.anchor):
            staging.facts |= compared(placed.producers, aligned(settings, before), "previous")
    if placed.anchor != theirs.day:
        log.warning(
            "%s OPENS A NEW SPACE, %s: mean cosine to the anchor %s is %.2f, below embedding.min_cosine = %g. "
            "Vectors of the old space do not mix with it; rankers are retrained on it before they use it.",
            day, staging.facts["space"], theirs.day, placed.facts["cosine_to_anchor"], settings.embedding.min_cosine,
        )  # fmt: skip
    plot_cosines(placed, mine, theirs, settings.report("align", day) / "cosine_to_anchor.png")


def space(settings: Settings, anchor: date) -> str:
    """The name of the coordinate system: the embedding, its anchor, and the settings that shape it."""
    return f"{settings.embedding.name}-{anchor}-{settings.digest(*SETTINGS)[:6]}"


def previous(settings: Settings, day: date) -> Partition | None:
    """`align` of the newest trusted day before `day`, from the first anchor on; None where there is none."""
    for earlier in reversed(days_between(anchor_day(settings), day - timedelta(days=1))):
        if settings.lake.get("validate", earlier).facts["trusted"]:
            return settings.lake.get("align", earlier)
    return None


@dataclass(frozen=True)
class Producers:
    """The producers of a day's version. ids: (m,) bytes; vectors: (m, k)."""

    day: date
    ids: np.ndarray
    vectors: np.ndarray


def factorised(settings: Settings, day: date) -> Producers:
    """As `embed` left them."""
    ids = np.load(settings.lake.get("matrix", day).path / "producers.npy")
    return Producers(day, ids, np.load(settings.lake.get("embed", day).path / "producers.npy"))


def aligned(settings: Settings, partition: Partition) -> Producers:
    """As `align` left them."""
    ids = np.load(settings.lake.get("matrix", partition.day).path / "producers.npy")
    return Producers(partition.day, ids, np.load(partition.path / "producers.npy"))


@dataclass(frozen=True)
class Placed:
    """A day in the coordinates of its space. anchor: whose coordinates these are. facts: how it lies there."""

    producers: Producers
    rotation: np.ndarray  # (k, k)
    anchor: date
    facts: dict[str, float | int]


def place(mine: Producers, anchor: Producers, min_cosine: float) -> Placed:
    """Turn the day to the anchor, which itself lies on its canonical axes; a day too far from it gets its own."""
    theirs = turned(anchor, canonical_axes(anchor.vectors))
    if mine.day == anchor.day:
        return Placed(
            theirs, canonical_axes(anchor.vectors), anchor.day, compared(theirs, theirs, "anchor")
        )
    rows, their_rows = shared(mine, theirs)
    rotation = procrustes(mine.vectors[rows], theirs.vectors[their_rows])
    facts = compared(turned(mine, rotation), theirs, "anchor")
    facts["cosine_to_anchor_unaligned"] = compared(mine, theirs, "anchor")["cosine_to_anchor"]
    if facts["cosine_to_anchor"] >= min_cosine:
        return Placed(turned(mine, rotation), rotation, anchor.day, facts)
    own = canonical_axes(mine.vectors)
    return Placed(turned(mine, own), own, mine.day, facts)


def turned(producers: Producers, rotation: np.ndarray) -> Producers:
    return Producers(
        producers.day, producers.ids, (producers.vectors @ rotation).astype(np.float32)
    )


def shared(a: Producers, b: Producers) -> tuple[np.ndarray, np.ndarray]:
    """Rows in a and rows in b of the ids that both have, in the same order."""
    _, rows_a, rows_b = np.intersect1d(a.ids, b.ids, assume_unique=True, return_indices=True)
    return rows_a, rows_b


def compared(mine: Producers, theirs: Producers, whom: str) -> dict[str, float | int]:
    """How near the vectors of the producers in common lie, and who is in common. whom: "anchor" or "previous"."""
    rows, their_rows = shared(mine, theirs)
    a, b = mine.vectors[rows], theirs.vectors[their_rows]
    return {
        f"shared_with_{whom}": len(rows) / len(mine.ids),
        f"cosine_to_{whom}": mean_cosine(a, b),
        f"residual_to_{whom}": relative_residual(a, b),
        f"overlap10_with_{whom}": neighbour_overlap(a, b, 10),
    }


def plot_cosines(placed: Placed, mine: Producers, anchor: Producers, path: Path) -> None:
    """How near each shared producer lies to where the anchor has it, before and after the rotation."""
    from jobs.plots import figure

    theirs = turned(anchor, canonical_axes(anchor.vectors))
    rows, their_rows = shared(mine, theirs)
    target = theirs.vectors[their_rows]

    def cosines(v: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(v, axis=1) * np.linalg.norm(target, axis=1)
        return np.sum(v * target, axis=1)[norms > 0] / norms[norms > 0]

    with figure(path, f"{mine.day} against {anchor.day}") as axes:
        for producers, label in ((mine, "as factorised"), (placed.producers, "aligned")):
            bins = np.linspace(-1, 1, 81)
            axes.hist(
                cosines(producers.vectors[rows]),
                bins=bins,
                histtype="stepfilled",
                alpha=0.6,
                label=label,
            )
        axes.set(xlabel="cosine to the anchor's vector of the same producer", ylabel="producers")
        axes.legend()
