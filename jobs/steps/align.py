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

A day follows the newest trusted day before it. One that cannot be computed, or whose anchor cannot,
is passed over; where all are, the day opens a space, until one of them can be computed again.
"""

from __future__ import annotations

import logging
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
from jobs.pipeline.needs import Need, Needs, optional
from jobs.pipeline.plan import Reads, anchor_day, reads, recording, trusted
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


def needs(settings: Settings, day: date) -> Needs[None]:
    """The day's factors, and the newest trusted day before it with the factors of its anchor."""
    yield from factors(day)
    for earlier in days_to_follow(settings, day):
        if (yield from needs_to_follow(settings, earlier)):
            return


def needs_to_follow(settings: Settings, earlier: date) -> Needs[bool]:
    """What a day reads to join the space of an earlier one; can it do so?"""
    if not (yield optional("validate", earlier)):
        return False
    if not trusted(settings.lake.get("validate", earlier)):
        return False
    if not (yield optional("align", earlier)):
        return False
    missing = 0
    for need in to_compare(settings.lake.get("align", earlier)):
        if not (yield optional(*need)):
            missing += 1
    return not missing


def to_compare(aligned: Partition) -> list[Need]:
    """What is read beside the alignment of a day by one that follows it."""
    return [("matrix", aligned.day), *factors(anchor_of(aligned))]


def factors(day: date) -> list[Need]:
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


def anchor_of(aligned: Partition) -> date:
    """The anchor of the space of a day."""
    return date.fromisoformat(aligned.facts["anchor"])


def previous(read: Reads) -> Partition | None:
    """`align` of the day to follow, the newest of which everything is there; None without one."""
    for (step, _), partition in read.items():
        if step == "align" and all(need in read for need in to_compare(partition)):
            return partition
    return None


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Rotate producers and fold-in; compare the day with its anchor and the day before."""
    read = reads(settings, "align", day)
    before = previous(read)
    anchor = anchor_of(before) if before else day
    own = factorised(read, day)
    reference = factorised(read, anchor)
    placed = place(own, reference, settings.embedding.min_cosine)
    with recording(settings, "align", day, read.values()) as staging:
        np.save(staging.path / "rotation.npy", placed.rotation, allow_pickle=False)
        np.save(staging.path / "producers.npy", placed.producers.vectors, allow_pickle=False)
        model = load_fold_in(read["embed", day].path / "fold_in")
        # By the same rotation: the product of a consumer and a producer must not change.
        save_fold_in(staging.path / "fold_in", model.rotated(placed.rotation))
        staging.facts |= {"space": space(settings, placed.anchor), "anchor": str(placed.anchor)}
        staging.facts |= placed.facts
        # Cosines between two spaces would mean nothing.
        if before and before.facts["anchor"] == str(placed.anchor):
            earlier = producers_of(read, before)
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


@dataclass(frozen=True)
class Producers:
    """The producers of a day's version."""

    day: date
    ids: np.ndarray  # (m,) bytes
    vectors: np.ndarray  # (m, k)


def factorised(read: Reads, day: date) -> Producers:
    """A day's producers as `embed` wrote them."""
    return producers_of(read, read["embed", day])


def producers_of(read: Reads, partition: Partition) -> Producers:
    """The producers in a partition of `embed` or `align`, whose rows are those of the matrix."""
    ids = np.load(read["matrix", partition.day].path / "producers.npy")
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
