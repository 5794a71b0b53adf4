"""The post about a week: how many words are new, and which are used otherwise than before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from embeddings.monitors.overlap import overlap, top
from embeddings.spaces.similarity import cosines, unit_rows
from embeddings.words.meaning import Movement
from embeddings.words.tokens import KINDS, kind_of

MOST = {"word": 1000, "hashtag": 100, "mention": 100, "link": 100}  # frequent ones compared
SHOWN = 10  # words of a post
NEIGHBOURS = 5  # of each
LEAST = 50  # tokens of a kind in each period, of which an overlap says something


@dataclass(frozen=True)
class Moved:
    """A word that is used otherwise: its neighbours before and now.

    moved: the cosine lost beyond chance; deviations: the same in standard deviations of chance.
    """

    word: str
    moved: float
    deviations: float
    before: list[str]
    now: list[str]


def overlaps(now: Mapping[str, np.ndarray], then: Mapping[str, np.ndarray]) -> dict[str, float]:
    """By kind, the share of the most frequent tokens of now that were among those of then.

    Of as many of each, where a period has few. now, then: as from `frequent`.
    """
    shares = {}
    for kind in KINDS:
        most = min(len(now[kind]), len(then[kind]))
        if most >= LEAST:
            shares[kind] = overlap(now[kind][:most], then[kind][:most])
    return shares


def frequent(ids: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """The most frequent tokens of each kind. ids: (m,) bytes; counts: (m,)."""
    kinds = np.array([kind_of(word.decode()) for word in ids.tolist()], dtype=object)
    found = {}
    for kind in KINDS:
        chosen = kinds == kind
        found[kind] = top(ids[chosen], counts[chosen], MOST[kind])
    return found


def neighbours(ids: np.ndarray, vectors: np.ndarray, words: np.ndarray) -> list[list[str]]:
    """The nearest words of each one. ids: (m,) bytes, sorted; words: some of them."""
    rows = np.searchsorted(ids, words)
    near = np.argsort(-cosines(unit_rows(vectors), rows), axis=1, kind="stable")
    return [[ids[at].decode() for at in row[:NEIGHBOURS]] for row in near]


Table = tuple[np.ndarray, np.ndarray]  # ids and vectors of a period's words


def most_moved(found: Movement, before: Table, now: Table) -> list[Moved]:
    """The words that have moved beyond chance, most of all first, at most SHOWN."""
    order = found.order()
    rows = order[found.found()[order]][:SHOWN]
    words = found.ids[rows]
    pairs = zip(neighbours(*before, words), neighbours(*now, words), strict=True)
    moved = []
    for row, (earlier, later) in zip(rows, pairs, strict=True):
        figures = (float(found.moved[row]), float(found.deviations[row]))
        moved.append(Moved(found.ids[row].decode(), *figures, earlier, later))
    return moved


def text_of(
    week: date,
    version: str,
    shares: Mapping[str, Mapping[str, float]],
    moved: list[Moved] | None,
    n_moved: int,
) -> str:
    """The post as Markdown. shares: age -> kind -> overlap; moved: None where nothing precedes."""
    lines = [f"# Words of the week to {week}", "", f"Published as `{version}`.", ""]
    for age, found in shares.items():
        parts = [f"{share:.0%} of the {kind}s".replace("%", " %") for kind, share in found.items()]
        if parts:
            lines += [f"Of the most frequent, {', '.join(parts)} were so a {age} before.", ""]
    if moved is None:
        lines.append("There is no week before it: nothing can have moved.")
    elif not moved:
        lines.append("No word is used otherwise than in the week before, beyond chance.")
    else:
        lines += [
            f"{n_moved} words are used otherwise than in the week before, most of all:",
            "",
            "| word | moved by | near it before | near it now |",
            "| --- | --- | --- | --- |",
        ]
        lines += [row_of(each) for each in moved]
    return "\n".join(lines) + "\n"


def row_of(each: Moved) -> str:
    by = f"{each.moved:.2f} ({each.deviations:.0f} σ)"
    cells = (each.word, by, ", ".join(each.before), ", ".join(each.now))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
