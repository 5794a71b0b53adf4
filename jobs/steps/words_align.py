"""words_align: the week's vectors -> the coordinates of the weeks before it, by one rotation.

    inputs.npy, outputs.npy         (m, k) float32, aligned; rows as in words_train
    rotation.npy                    (k, k) float32
    reference/<side>/...            what the week leaves to those after it: `embeddings.spaces`

As `align` does with consumers and producers: here the two sides are the input and the output
vectors of the words, which one rotation leaves the products of. The chain of references begins
with the first week; a week without texts is passed over.
"""

from __future__ import annotations

import logging
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from embeddings.facts import Fact
from embeddings.spaces.placement import place
from embeddings.spaces.reference import SIDES, Entities
from jobs.pipeline.keyframes import keyframe_of, placement_facts, save_reference
from jobs.pipeline.needs import Needs, optional
from jobs.pipeline.plan import reads, recording
from jobs.settings import Settings
from jobs.words.weeks import WEEK, first_week, words_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "words")
FORMAT = 1
SPARK = False
TABLES = dict(zip(SIDES, ("inputs", "outputs"), strict=True))
FACTS = (
    Fact("space", "coordinate system of the vectors", headline=True),
    Fact("anchor", "the first week of the space"),
    Fact("reference_days", "weeks behind the reference that the week leaves", "weeks"),
    Fact("opened", "why the week opened a space; empty if it joined one"),
    Fact("left", "the last week of a space that is as long, to which the next may return"),
    Fact("pairs", "input and output vectors that the week shares with the reference", "vectors"),
    Fact(
        "cosine_to_reference",
        "mean cosine to the reference, of words that had no part in the rotation",
        better="higher",
        headline=True,
    ),
    Fact("beyond_chance", "deviation of that cosine from pairs at random", "standard deviations"),
)
log = logging.getLogger(__name__)


def needs(settings: Settings, day: date) -> Needs[None]:
    """The week's vectors, and the newest week before it that there is."""
    yield ("words_train", day)
    earlier = day - WEEK
    while earlier >= first_week(settings):
        if (yield optional("words_align", earlier)):
            left = settings.lake.get("words_align", earlier).facts["left"]
            if left:
                yield optional("words_align", date.fromisoformat(left))
            return
        earlier -= WEEK


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Rotate both tables to the reference, and leave that of the next week."""
    read = reads(settings, "words_align", day)
    train = read["words_train", day].path
    ids, counts = np.load(train / "words.npy"), np.load(train / "counts.npy")
    tables = {side: np.load(train / "whole" / f"{name}.npy") for side, name in TABLES.items()}
    sides = {side: Entities.of_day(ids, table, counts) for side, table in tables.items()}
    keyframes = [keyframe_of(each) for (step, _), each in read.items() if step == "words_align"]
    placed = place(sides, keyframes, words_of(settings).name, day)
    rotation = placed.rotation.astype(np.float32)
    with (
        recording(settings, "words_align", day, read.values()) as staging,
        threadpool_limits(1),  # or the last bits would depend on the number of threads
    ):
        np.save(staging.path / "rotation.npy", rotation, allow_pickle=False)
        for side, name in TABLES.items():
            np.save(staging.path / f"{name}.npy", tables[side] @ rotation, allow_pickle=False)
        save_reference(staging.path, placed.keyframe)
        staging.facts |= placement_facts(placed)
    if placed.opened and placed.keyframe.left:
        log.warning("%s opens a new space of words: %s", day, placed.opened)
