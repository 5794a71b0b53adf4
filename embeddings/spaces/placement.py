"""Where a day is placed: in the space of a day before it, or as the first day of a new one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from embeddings.spaces.judgement import Judgement, judge
from embeddings.spaces.reference import (
    Sides,
    continued,
    first_reference,
    identity,
    pairs,
)
from embeddings.spaces.rotation import Rotations, canonical_axes, n_pairs

FEW = 30  # shared entities of which nothing can be said


@dataclass(frozen=True)
class Keyframe:
    """What a day leaves to those after it.

    space: its name; anchor: the first day of the space; days: behind the reference; left: the last
    day of a space that was left and is as long, to which the next day may return.
    """

    day: date
    space: str
    anchor: date
    days: int
    reference: Sides
    left: date | None = None


@dataclass(frozen=True)
class Comparison:
    """A day against a keyframe."""

    keyframe: Keyframe
    rotations: Rotations
    judgement: Judgement


@dataclass(frozen=True)
class Placed:
    """A day in the coordinates of its space.

    rotation: (k, k), from its own coordinates; keyframe: what it leaves; compared: with which
    keyframes, the last one being that of the space it joined, if it did; opened: why it opened a
    space, else empty.
    """

    rotation: np.ndarray
    keyframe: Keyframe
    compared: list[Comparison]
    opened: str = ""

    @property
    def joined(self) -> Comparison | None:
        """The comparison with the space that the day joined; None if it opened one."""
        return None if self.keyframe.days == 1 else self.compared[-1]


def place(sides: Sides, keyframes: list[Keyframe], name: str, day: date) -> Placed:
    """Rotate a day to the longest space that it agrees with, or open a space.

    sides: in coordinates of their own. keyframes: of the day before, and of the one that it names
    as `left`. name: with which the name of a new space begins.
    """
    longest_first = sorted(
        keyframes, key=lambda keyframe: (keyframe.days, keyframe.day), reverse=True
    )
    compared: list[Comparison] = []
    why = "there is no day before it that could be compared."
    for keyframe in longest_first:
        shared = pairs(sides, keyframe.reference)
        if n_pairs(shared) < FEW:
            why = (
                f"{n_pairs(shared)} of its consumers and producers are in the reference that "
                f"{keyframe.day} left, too few to compare."
            )
            continue
        rotations = Rotations.of(shared)
        compared.append(Comparison(keyframe, rotations, judge(shared, rotations)))
        if compared[-1].judgement.beyond_chance:
            after = keyframe_after(sides, compared[-1], day, longest_first[0])
            return Placed(rotations.whole, after, compared)
        why = no_better_than_chance(compared[-1])
    rotation = canonical_axes(sides["consumer"].vectors, sides["producer"].vectors)
    left = longest_first[0].day if longest_first else None
    opened = first_keyframe(rotated(sides, rotation), name, day, left)
    return Placed(rotation, opened, compared, why)


def no_better_than_chance(comparison: Comparison) -> str:
    judgement = comparison.judgement
    return (
        f"its vectors are no more like the reference that {comparison.keyframe.day} left than "
        f"pairs at random: their mean cosine is {judgement.cosine:.2f}, by chance it would be "
        f"{judgement.chance:.2f} ({judgement.pairs} pairs)."
    )


def keyframe_after(sides: Sides, comparison: Comparison, day: date, longest: Keyframe) -> Keyframe:
    """The keyframe after a day that joined a space. longest: of all that it might have joined."""
    before = comparison.keyframe
    in_space = rotated(sides, comparison.rotations.whole)
    reference = continued(before.reference, in_space, abs((day - before.day).days))
    days = before.days + 1
    left = longest.day if longest.days >= days else None
    return Keyframe(day, before.space, before.anchor, days, reference, left)


def first_keyframe(sides: Sides, name: str, day: date, left: date | None) -> Keyframe:
    """The keyframe of a new space. sides: in its coordinates."""
    reference = first_reference(sides)
    # By content: no two spaces have one name.
    space = f"{name}-{day}-{identity(reference)[:12]}"
    return Keyframe(day, space, day, 1, reference, left)


def rotated(sides: Sides, rotation: np.ndarray) -> Sides:
    """Both sides in other coordinates."""
    return {side: entities.rotated(rotation) for side, entities in sides.items()}
