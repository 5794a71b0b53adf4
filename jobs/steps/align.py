"""align: the day's vectors -> the coordinates of its space, by rotating both sides in the same way.

    rotation.npy      (k, k)
    producers.npy     (m, k) float32, aligned; rows as in the matrix
    fold_in/...       the fold-in, aligned; the consumers follow in the step `fold_in`

A space keeps the coordinates of its anchor day. It begins with `embedding.anchor_day`; a later
day that is too far from the anchor (`embedding.min_cosine`) opens a new space, whose anchor is
that day and which the following days join. Which space a day belongs to therefore depends on the
days between it and the first anchor, and not on the order in which they are computed: they are
computed first where they are missing. A day before the first anchor is aligned to it directly, or
opens a space that no other day joins.
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
from embeddings.facts import Fact
from embeddings.fold_in.base import load_fold_in, save_fold_in
from jobs.lake.store import Partition
from jobs.pipeline.plan import anchor_day, writing
from jobs.plots import figure
from jobs.settings import Settings, days_between

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")
FORMAT = 1
SPARK = False
FACTS = (
    Fact("space", "coordinate system of the vectors", headline=True),
    Fact("anchor", "the day whose coordinates the space keeps"),
    # Before its family, whose pattern matches this name too. It says what the rotation was worth,
    # and nothing of the published vectors: no headline.
    Fact("cosine_to_anchor_unaligned", "the same as cosine_to_anchor, before the rotation"),
    Fact(
        "cosine_to_<day>",
        "mean cosine of shared producers to the anchor or the day before",
        better="higher",
        headline=True,
    ),
    Fact(
        "residual_to_<day>",
        "‖a − b‖ / ‖b‖ of shared producers",
        better="lower",
        headline=True,
    ),
    Fact(
        "overlap10_with_<day>",
        "share of a producer's 10 nearest that it keeps",
        "share",
        better="higher",
        headline=True,
    ),
    Fact("shared_with_<day>", "share of producers in common", "share", headline=True),
)
log = logging.getLogger(__name__)


def needs(settings: Settings, day: date) -> Iterator[tuple[str, date]]:
    """The day's factors, the newest trusted day before it, and the anchor's factors."""
    yield from factors(day)
    for earlier in days_to_follow(settings, day):
        yield ("validate", earlier)
        if is_trusted(settings, earlier):
            yield ("align", earlier)
            yield ("matrix", earlier)
            break
    yield from factors(anchor_of(settings, day))


def factors(day: date) -> list[tuple[str, date]]:
    """A day's producers: their ids and their vectors."""
    return [("matrix", day), ("embed", day)]


def days_to_follow(settings: Settings, day: date) -> list[date]:
    """The days whose space this day may join, best first.

    They are those from the first anchor to the day before, or the first anchor for a day before it.
    """
    first = anchor_day(settings)
    if day < first:
        return [first]
    return days_between(first, day - timedelta(days=1))[::-1]


def anchor_of(settings: Settings, day: date) -> date:
    """The anchor of the space that this day may join; the day itself where there is none."""
    before = previous(settings, day)
    return date.fromisoformat(before.facts["anchor"]) if before else day


def is_trusted(settings: Settings, day: date) -> bool:
    return bool(settings.lake.get("validate", day).facts["trusted"])


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Rotate producers and fold-in; compare the day with its anchor and the day before."""
    before = previous(settings, day)
    anchor = anchor_of(settings, day)
    own = factorised(settings, day)
    reference = factorised(settings, anchor)
    placed = place(own, reference, settings.embedding.min_cosine)
    with writing(settings, "align", day) as staging:
        np.save(staging.path / "rotation.npy", placed.rotation, allow_pickle=False)
        np.save(staging.path / "producers.npy", placed.producers.vectors, allow_pickle=False)
        model = load_fold_in(settings.lake.get("embed", day).path / "fold_in")
        # By the same rotation: the product of a consumer and a producer must not change.
        save_fold_in(staging.path / "fold_in", model.rotated(placed.rotation))
        staging.facts |= {"space": space(settings, placed.anchor), "anchor": str(placed.anchor)}
        staging.facts |= placed.facts
        # Cosines between two spaces would mean nothing.
        if before and before.facts["anchor"] == str(placed.anchor):
            earlier = producers_of(settings, before)
            staging.facts |= compared(placed.producers, earlier, "previous")
    if placed.anchor != anchor:
        log.warning(
            "%s OPENS A NEW SPACE, %s: mean cosine to the anchor %s is %.2f, below "
            "embedding.min_cosine = %g. Vectors of the old space do not mix with it; rankers are "
            "retrained on it before they use it.",
            day,
            staging.facts["space"],
            anchor,
            placed.facts["cosine_to_anchor"],
            settings.embedding.min_cosine,
        )
    picture = settings.report("align", day) / "cosine_to_anchor.png"
    plot_cosines(placed, own, reference, picture)


def space(settings: Settings, anchor: date) -> str:
    """The name of the coordinate system, from the embedding, its anchor and its settings."""
    return f"{settings.embedding.name}-{anchor}-{settings.digest(*SETTINGS)[:6]}"


def previous(settings: Settings, day: date) -> Partition | None:
    """`align` of the first trusted one of the days to follow; None where all were refused."""
    for earlier in days_to_follow(settings, day):
        if is_trusted(settings, earlier):
            return settings.lake.get("align", earlier)
    return None


@dataclass(frozen=True)
class Producers:
    """The producers of a day's version."""

    day: date
    ids: np.ndarray  # (m,) bytes
    vectors: np.ndarray  # (m, k)


def factorised(settings: Settings, day: date) -> Producers:
    """A day's producers as `embed` wrote them."""
    return producers_of(settings, settings.lake.get("embed", day))


def producers_of(settings: Settings, partition: Partition) -> Producers:
    """The producers in a partition of `embed` or `align`, whose rows are those of the matrix."""
    ids = np.load(settings.lake.get("matrix", partition.day).path / "producers.npy")
    return Producers(partition.day, ids, np.load(partition.path / "producers.npy"))


@dataclass(frozen=True)
class Placed:
    """A day in the coordinates of its space. anchor: the day whose coordinates these are."""

    producers: Producers
    rotation: np.ndarray  # (k, k)
    anchor: date
    facts: dict[str, float | int]


def place(own: Producers, anchor: Producers, min_cosine: float) -> Placed:
    """Rotate the day to its anchor, or to its own canonical axes if it is too far from the anchor.

    Too far: the mean cosine of the shared producers is below `min_cosine`.
    """
    # The anchor is on its canonical axes, so that a space does not depend on the solver or its
    # seed (docs/decisions/0010).
    anchor_axes = canonical_axes(anchor.vectors)
    reference = rotated(anchor, anchor_axes)
    if own.day == anchor.day:
        return Placed(reference, anchor_axes, anchor.day, compared(reference, reference, "anchor"))
    rows, reference_rows = shared(own, reference)
    rotation = procrustes(own.vectors[rows], reference.vectors[reference_rows])
    turned = rotated(own, rotation)
    facts = compared(turned, reference, "anchor")
    unaligned = compared(own, reference, "anchor")
    facts["cosine_to_anchor_unaligned"] = unaligned["cosine_to_anchor"]
    if facts["cosine_to_anchor"] >= min_cosine:
        return Placed(turned, rotation, anchor.day, facts)
    own_axes = canonical_axes(own.vectors)
    return Placed(rotated(own, own_axes), own_axes, own.day, facts)


def rotated(producers: Producers, rotation: np.ndarray) -> Producers:
    """The producers in other coordinates."""
    vectors = (producers.vectors @ rotation).astype(np.float32)
    return Producers(producers.day, producers.ids, vectors)


def shared(a: Producers, b: Producers) -> tuple[np.ndarray, np.ndarray]:
    """Rows in a and rows in b of the ids that both have, in the same order."""
    _, rows_a, rows_b = np.intersect1d(a.ids, b.ids, assume_unique=True, return_indices=True)
    return rows_a, rows_b


def compared(own: Producers, other: Producers, day: str) -> dict[str, float | int]:
    """How close the vectors of shared producers are. day: "anchor" or "previous"."""
    rows, other_rows = shared(own, other)
    a = own.vectors[rows]
    b = other.vectors[other_rows]
    return {
        f"shared_with_{day}": len(rows) / len(own.ids),
        f"cosine_to_{day}": mean_cosine(a, b),
        f"residual_to_{day}": relative_residual(a, b),
        f"overlap10_with_{day}": neighbour_overlap(a, b, 10),
    }


def plot_cosines(placed: Placed, own: Producers, anchor: Producers, path: Path) -> None:
    """Cosine of each shared producer to the anchor's vector, before and after the rotation."""
    reference = rotated(anchor, canonical_axes(anchor.vectors))
    rows, reference_rows = shared(own, reference)
    target = reference.vectors[reference_rows]

    def cosines(vectors: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(target, axis=1)
        known = norms > 0  # the cosine to a vector of zeros is undefined
        return np.sum(vectors * target, axis=1)[known] / norms[known]

    bins = np.linspace(-1, 1, 81)
    with figure(path, f"{own.day} against {anchor.day}") as axes:
        for producers, label in ((own, "as factorised"), (placed.producers, "aligned")):
            values = cosines(producers.vectors[rows])
            axes.hist(values, bins=bins, histtype="stepfilled", alpha=0.6, label=label)
        axes.set(xlabel="cosine to the anchor's vector of the same producer", ylabel="producers")
        axes.legend()
