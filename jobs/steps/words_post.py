"""words_post: the summary of the week, for people.

    post.md             which words are used otherwise, and how many frequent ones are new
    moved.json          the same words with their figures and neighbours

A word has moved where its vectors of this week and the last are further apart than those of two
halves of one week, beyond chance: `embeddings.words.meaning`. Of the words that are named, at most
a tenth are so by chance.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from embeddings.facts import Fact
from embeddings.words.meaning import Movement, movement
from embeddings.words.tokens import KINDS
from jobs.lake.store import Partition
from jobs.pipeline.needs import Need, optional
from jobs.pipeline.plan import Reads, reads, recording
from jobs.plots import figure
from jobs.settings import Settings
from jobs.words import post
from jobs.words.stored import Vocabulary, read_halves
from jobs.words.weeks import WEEK, earlier_week

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "words")
FORMAT = 1
SPARK = False
AGES = {"week": 1, "month": 4}  # in weeks
POST = "post.md"
DIGITS = 6  # after the point: the same on every machine
LEARNED = "words_train"


def overlap_facts() -> tuple[Fact, ...]:
    found = []
    for kind in KINDS:
        for age in AGES:
            meaning = f"of the {post.MOST[kind]} most frequent {kind}s, those that were so a {age}"
            found.append(Fact(f"overlap_{kind}_{age}", f"{meaning} before", "share"))
    return tuple(found)


FACTS = (
    Fact("compared", "words that are frequent in both halves of both weeks", "words"),
    Fact("moved", "words used otherwise than in the week before", "words", headline=True),
    Fact("most_moved", "the words that have moved most"),
    *overlap_facts(),
)


def needs(settings: Settings, day: date) -> list[Need]:
    """The published week, its words, and those of earlier weeks."""
    wanted: list[Need] = [("words_publish", day), (LEARNED, day), ("words_phrases", day)]
    for before in earlier_week(settings, day, 1):
        wanted.append(optional(LEARNED, before))
    for weeks in AGES.values():
        for before in earlier_week(settings, day, weeks):
            wanted.append(optional("words_phrases", before))
    return wanted


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Compare the week with the one before and with that of a month ago."""
    read = reads(settings, "words_post", day)
    learned, before = read[LEARNED, day], read.get((LEARNED, day - WEEK))
    shares = shares_of(read, day)
    with (
        recording(settings, "words_post", day, read.values()) as staging,
        threadpool_limits(1),  # or the last bits would depend on the number of threads
    ):
        for age, by_kind in shares.items():
            for kind, share in by_kind.items():
                staging.facts[f"overlap_{kind}_{age}"] = round(share, DIGITS)
        found = movement(read_halves(before.path), read_halves(learned.path)) if before else None
        moved = None
        if found is not None and before is not None:
            moved = post.most_moved(found, table_of(before), table_of(learned))
            staging.facts |= {
                "compared": len(found.ids),
                "moved": int(found.found().sum()),
                "most_moved": ", ".join(each.word for each in moved),
            }
        version = read["words_publish", day].facts["version"]
        n_moved = staging.facts.get("moved", 0)
        text = post.text_of(day, version, shares, moved, n_moved)
        (staging.path / POST).write_text(text)
        rows = [asdict(each) for each in moved or []]
        (staging.path / "moved.json").write_text(json.dumps(rounded(rows), indent=1) + "\n")
    report = settings.report("words_post", day)
    (report / POST).write_text(text)
    if found is not None and len(found.ids):
        draw(found, day, report / "moved.png")


def shares_of(read: Reads, day: date) -> dict[str, dict[str, float]]:
    """age -> kind -> overlap of the frequent tokens with those of that age."""
    now = frequent(read["words_phrases", day])
    shares = {}
    for age, weeks in AGES.items():
        then = read.get(("words_phrases", day - weeks * WEEK))
        if then is not None:
            shares[age] = post.overlaps(now, frequent(then))
    return shares


def frequent(phrases: Partition) -> dict[str, np.ndarray]:
    words = Vocabulary.read(phrases.path)
    return post.frequent(words.ids, words.counts)


def table_of(learned: Partition) -> post.Table:
    """The words of a week, and their vectors."""
    return np.load(learned.path / "words.npy"), np.load(learned.path / "whole" / "inputs.npy")


def rounded(rows: list[dict]) -> list[dict]:
    figures = ("moved", "deviations")
    return [row | {name: round(row[name], DIGITS) for name in figures} for row in rows]


def draw(found: Movement, day: date, path) -> None:
    """How far words have moved, by how frequent they are; those beyond chance by name."""
    moved = found.found()
    with figure(path, f"Words of the week to {day}: {moved.sum()} have moved") as axes:
        axes.scatter(
            found.counts[~moved], found.moved[~moved], s=4, color="grey", label="as by chance"
        )
        axes.scatter(found.counts[moved], found.moved[moved], s=8, color="tab:red", label="moved")
        for row in found.order()[: post.SHOWN]:
            if moved[row]:
                place = (found.counts[row], found.moved[row])
                axes.annotate(found.ids[row].decode(), place, fontsize=7)
        axes.set(xscale="log", xlabel="occurrences in the smallest half")
        axes.set_ylabel("cosine lost, beyond chance")
        axes.legend(fontsize=8)
