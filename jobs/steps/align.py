"""align: the day's vectors -> the coordinates of its space, by rotating both sides in the same way.

    rotation.npy                        (k, k) float32
    ids.npy, producers.npy              the producers and their vectors, aligned; rows as in the
                                        matrix
    fold_in/...                         the fold-in, aligned; the consumers follow in the step
                                        `fold_in`
    encoder/...                         what shortens vectors, where the settings learn lengths
    reference/<side>/{ids,vectors,weights}.npy
                                        what the day leaves to those after it: embeddings.spaces

A day is rotated to the reference that the newest trusted day before it left, and leaves one of
which it is a part. The chain of references begins with `embedding.anchor_day`, which is on its own
canonical axes. The space of a day is therefore a function of the days between, and not of the order
in which they are computed: they are computed first where they are missing. A day before the first
anchor is aligned to the reference of the anchor, and leaves none that another day reads.

A space is named by the digest of its first reference. A new one is opened only by a day whose
vectors, paired with those of the reference by id, are no more alike than if paired at random. Days
after it return to the space that was left as soon as they agree with it, until the new one is the
longer of the two: some odd or nearly empty days end nothing.

Shorter lengths are learned by the day that opens a space, and all its days shorten their vectors in
the same way: so the shorter vectors of two days mix wherever the whole ones do.

A day that cannot be computed is passed over; where all before it cannot, a space is opened until
one of them can be computed again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from embeddings.blocks import load_block
from embeddings.facts import Fact
from embeddings.fold_in.base import load_fold_in, save_fold_in
from embeddings.lengths.base import reducer
from embeddings.lengths.encoder import Encoder, load_encoder, save_encoder
from embeddings.sampling import smallest_hashes
from embeddings.spaces.judgement import Judgement, judge
from embeddings.spaces.placement import FEW, Comparison, Placed, place
from embeddings.spaces.reference import (
    MOST,
    Entities,
    Sides,
    directions,
    folds,
    pairs,
    shared_rows,
)
from embeddings.spaces.rotation import Rotations, n_pairs
from embeddings.spaces.similarity import mean_cosine, neighbour_overlap
from jobs.judging.vectors import ENCODER
from jobs.lake.store import Partition
from jobs.pipeline.keyframes import keyframe_of, placement_facts, save_reference
from jobs.pipeline.needs import Needs, if_there, optional
from jobs.pipeline.plan import Reads, anchor_day, reads, recording, trusted
from jobs.plots import figure
from jobs.settings import Settings, days_between

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")
FORMAT = 2
SPARK = False
FACTS = (
    Fact("space", "coordinate system of the vectors", headline=True),
    Fact("anchor", "the first day of the space"),
    Fact("opened", "why the day opened a space; empty if it joined one"),
    Fact("left", "the last day of a space that is as long, to which the next day may return"),
    Fact("reference_days", "days behind the reference that the day leaves", "days"),
    Fact("pairs", "consumers and producers that the day shares with the reference", "entities"),
    Fact(
        "cosine_to_reference",
        "mean cosine to the reference, of entities that had no part in the rotation",
        better="higher",
    ),
    Fact("beyond_chance", "deviation of that cosine from pairs at random", "standard deviations"),
    Fact("stable_rank", "directions that agree with the reference", "directions", headline=True),
    Fact("cosine_by_chance", "cosine_to_previous of producers paired at random", headline=True),
    Fact(
        "cosine_by_best_rotation",
        "cosine_to_previous, had the day been rotated to that day alone",
        headline=True,
    ),
    Fact(
        "cosine_to_<day>",
        "mean cosine of shared producers to their vectors of an earlier day of the space, such as "
        "the last one, each rotated without its own part in the rotation",
        better="higher",
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
AGES = (7, 30)  # days, besides the day before, over which the change of the vectors is reported
COMPARED = 10_000  # producers at most that are compared with their earlier vectors
NEIGHBOURS_OF = 128  # producers whose neighbours are compared with those of the day before
log = logging.getLogger(__name__)


def needs(settings: Settings, day: date) -> Needs[None]:
    """The day's factors, and the newest trusted day before it with what it is compared with."""
    yield from [("matrix", day), ("embed", day)]
    for earlier in days_to_follow(settings, day):
        if (yield from needs_to_follow(settings, earlier)):
            followed = settings.lake.get("align", earlier)
            if followed.facts["left"]:
                yield optional("align", date.fromisoformat(followed.facts["left"]))
            for age in AGES:
                other = day - timedelta(days=age)
                if anchor_day(settings) <= other < earlier:
                    yield if_there("align", other)
            return


def needs_to_follow(settings: Settings, earlier: date) -> Needs[bool]:
    """What a day reads to join the space of an earlier one; can it do so?"""
    if not (yield optional("validate", earlier)):
        return False
    if not trusted(settings.lake.get("validate", earlier)):
        return False
    return bool((yield optional("align", earlier)))


def days_to_follow(settings: Settings, day: date) -> list[date]:
    """The days whose space this day may join, best first.

    They are those from the first anchor to the day before, or the first anchor for a day before it.
    """
    first = anchor_day(settings)
    if day < first:
        return [first]
    return days_between(first, day - timedelta(days=1))[::-1]


def followed(read: Reads) -> list[Partition]:
    """The alignments whose space the day may join, best first: two after a space was opened."""
    alignments = [partition for (step, _), partition in read.items() if step == "align"]
    if not alignments:
        return []
    newest = alignments[0]
    left = [other for other in alignments if str(other.day) == newest.facts["left"]]
    return [newest, *left]


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Rotate producers and fold-in to the reference, and leave the reference of the next day."""
    read = reads(settings, "align", day)
    factors = Factors.load(read["matrix", day].path, read["embed", day].path)
    keyframes = [keyframe_of(partition) for partition in followed(read)]
    placed = place(factors.sides, keyframes, settings.embedding.name, day)
    rotation = placed.rotation.astype(np.float32)  # or the products would be float64
    # On one thread, because the last bits would depend on their number.
    with threadpool_limits(1):
        producers = factors.producers @ rotation
        # By the same rotation: the product of a consumer and a producer must not change.
        model = load_fold_in(read["embed", day].path / "fold_in").rotated(rotation)
    with recording(settings, "align", day, read.values()) as staging:
        np.save(staging.path / "rotation.npy", rotation, allow_pickle=False)
        np.save(staging.path / "ids.npy", factors.producer_ids, allow_pickle=False)
        np.save(staging.path / "producers.npy", producers, allow_pickle=False)
        save_fold_in(staging.path / "fold_in", model)
        encoder = encoder_of(settings, placed, factors.sides, read)
        if encoder is not None:
            save_encoder(staging.path / ENCODER, encoder)
        save_reference(staging.path, placed.keyframe)
        staging.facts |= placement_facts(placed)
        if placed.compared:
            judgement = placed.compared[-1].judgement
            staging.facts["stable_rank"] = int(np.count_nonzero(judgement.stable))
        if placed.joined:
            earlier = [partition for (step, _), partition in read.items() if step == "align"]
            staging.facts |= changes(factors.sides["producer"], placed.joined, earlier, day)
    if placed.opened and placed.keyframe.left:
        log.warning(
            "%s OPENS A NEW SPACE, %s: %s Vectors of another space do not mix with it.",
            day,
            placed.keyframe.space,
            placed.opened,
        )
    if placed.compared:
        draw(placed.compared[-1].judgement, day, settings.report("align", day) / "alignment.png")


def encoder_of(settings: Settings, placed: Placed, sides: Sides, read: Reads) -> Encoder | None:
    """What shortens the vectors of the day's space; None where the settings learn no lengths.

    sides: in coordinates of their own. A day that joined a space takes that of the day it followed.
    """
    cfg = settings.embedding.lengths
    if not cfg.are_learned:
        return None
    if placed.joined:
        return load_encoder(read["align", placed.joined.keyframe.day].path / ENCODER)
    consumers = sides["consumer"].rotated(placed.rotation).vectors
    producers = sides["producer"].rotated(placed.rotation).vectors
    if not len(consumers) or not len(producers):
        return None  # nobody to learn from: the vectors of such a space are all zero
    return reducer(cfg.method).fit(consumers, producers, cfg.of, settings.embedding.seed)


# The factors of a day


@dataclass(frozen=True)
class Factors:
    """What `embed` wrote for a day, in its own coordinates.

    producer_ids: (m,) bytes, in the order of the matrix; producers: (m, k) float32; sides: both
    sides as the reference takes them.
    """

    producer_ids: np.ndarray
    producers: np.ndarray
    sides: Sides

    @classmethod
    def load(cls, matrix: Path, embed: Path) -> Factors:
        """Read the partitions of `matrix` and `embed`."""
        ids = np.load(matrix / "producers.npy")
        vectors = np.load(embed / "producers.npy")
        sides = {
            "consumer": load_consumers(matrix / "fitted", embed / "consumers"),
            "producer": Entities.of_day(ids, vectors, np.load(matrix / "column_sums.npy")),
        }
        return cls(ids, vectors, sides)


def load_consumers(fitted: Path, vectors: Path) -> Entities:
    """The fitted consumers, at most MOST of them; only the vectors of these are read."""
    homes = sorted(fitted.glob("block-*"))
    blocks = [load_block(home) for home in homes]
    ids = np.concatenate([block.ids for block in blocks])
    chosen = np.zeros(len(ids), bool)
    chosen[smallest_hashes(ids, MOST)] = True
    starts = np.cumsum([0, *(len(block.ids) for block in blocks)])
    parts = []
    for home, block, start in zip(homes, blocks, starts, strict=False):
        rows = np.flatnonzero(chosen[start : start + len(block.ids)])
        of_block = np.load(vectors / f"{home.name}.npy", mmap_mode="r", allow_pickle=False)
        parts.append((block.ids[rows], of_block[rows], block.sums()[rows]))
    return Entities.of_day(*(np.concatenate(column) for column in zip(*parts, strict=True)))


# How much the vectors have changed


def changes(
    mine: Entities, joined: Comparison, earlier: list[Partition], day: date
) -> dict[str, float]:
    """The figures of the producers against their vectors of some earlier days of the space.

    mine: the day's producers in coordinates of their own; of many, the same ones as on other days
    are compared.
    """
    mine = mine.at_most(COMPARED)
    held_out = joined.rotations.held_out(mine.vectors, folds(mine.ids))
    facts: dict[str, float] = {}
    for partition in earlier:
        if partition.facts["space"] != joined.keyframe.space:
            continue
        others = producers_of(partition, mine.ids)
        rows, other_rows = shared_rows(mine.ids, others.ids)
        if partition.day == joined.keyframe.day:
            name = "previous"
            facts |= yardsticks(mine, others)
            facts["shared_with_previous"] = len(rows) / max(len(mine.ids), 1)
            facts["overlap10_with_previous"] = neighbour_overlap(
                mine.vectors[rows], others.vectors[other_rows], 10, NEIGHBOURS_OF
            )
        else:
            name = f"{(day - partition.day).days}_days_ago"
        facts[f"cosine_to_{name}"] = mean_cosine(held_out[rows], others.vectors[other_rows])
    return facts


def producers_of(partition: Partition, wanted: np.ndarray) -> Entities:
    """Those of the wanted producers that an aligned day has, all of weight 1. wanted: sorted."""
    ids = np.load(partition.path / "ids.npy")
    order = np.argsort(ids, kind="stable")
    _, places = shared_rows(wanted, ids[order])
    rows = order[places]
    vectors = np.load(partition.path / "producers.npy", mmap_mode="r", allow_pickle=False)
    return Entities.of_day(ids[rows], vectors[rows], np.ones(len(rows)))


def yardsticks(mine: Entities, others: Entities) -> dict[str, float]:
    """What another rotation would reach at best, and what pairs at random reach."""
    shared = pairs({"producer": mine}, {"producer": directions(others)})
    if n_pairs(shared) < FEW:
        return {}
    judgement = judge(shared, Rotations.of(shared))
    return {
        "cosine_by_best_rotation": judgement.cosine,
        "cosine_by_chance": judgement.chance,
    }


def draw(judgement: Judgement, day: date, path: Path) -> None:
    """The agreement of each direction with the reference, the strongest first."""
    numbers = np.arange(1, len(judgement.correlations) + 1)
    title = f"{day}: {np.count_nonzero(judgement.stable)} of {len(numbers)} directions are stable"
    with figure(path, title) as axes:
        for stable, label, colour in (
            (True, "stable", "tab:blue"),
            (False, "no better than chance", "tab:orange"),
        ):
            rows = judgement.stable == stable
            # As one collection: a bar each would take longer than the alignment.
            heights = judgement.correlations[rows]
            axes.vlines(numbers[rows], 0, heights, colour, linewidth=3, label=label)
        axes.axhline(0, color="black", linewidth=1)
        axes.set(xlabel="direction, the strongest first", ylabel="rank correlation, held out")
        axes.legend()
