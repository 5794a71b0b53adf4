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
from embeddings.spaces.rotation import Rotations, canonical_axes

FEW = 20  # shared entities of which nothing can be said


@dataclass(frozen=True)
class Keyframe:
    """What a day leaves to those after it.

    space: its name; anchor: the first day of the space; days: behind the reference.
    """

    day: date
    space: str
    anchor: date
    days: int
    reference: Sides


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
    space, else empty; left: the last day of the space that it left, to which the day after it may
    return.
    """

    rotation: np.ndarray
    keyframe: Keyframe
    compared: list[Comparison]
    opened: str = ""
    left: date | None = None

    @property
    def joined(self) -> Comparison | None:
        """The comparison with the space that the day joined; None if it opened one."""
        return None if self.keyframe.days == 1 else self.compared[-1]


def place(sides: Sides, keyframes: list[Keyframe], name: str, day: date) -> Placed:
    """Rotate a day to the first keyframe that it agrees with, or open a space.

    sides: in coordinates of their own. keyframes: those that it may join, best first. name: with
    which the name of a new space begins.
    """
    compared: list[Comparison] = []
    why = "there is no day before it that could be compared."
    for keyframe in keyframes:
        shared = pairs(sides, keyframe.reference)
        n_shared = sum(map(len, shared))
        if n_shared < FEW:
            why = (
                f"{n_shared} of its consumers and producers are in the reference that "
                f"{keyframe.day} left, too few to compare."
            )
            continue
        rotations = Rotations.of(shared)
        compared.append(Comparison(keyframe, rotations, judge(shared, rotations)))
        if compared[-1].judgement.beyond_chance:
            return Placed(rotations.whole, joined(sides, compared[-1], day), compared)
        why = no_better_than_chance(compared[-1])
    # The day after it may return to where most days are.
    longest = max(keyframes, key=lambda keyframe: keyframe.days, default=None)
    rotation = canonical_axes(sides["consumer"].vectors, sides["producer"].vectors)
    opened = first(rotated(sides, rotation), name, day)
    return Placed(rotation, opened, compared, why, longest.day if longest else None)


def no_better_than_chance(comparison: Comparison) -> str:
    judgement = comparison.judgement
    return (
        f"its vectors are no more like the reference that {comparison.keyframe.day} left than "
        f"pairs at random: their mean cosine is {judgement.cosine:.2f}, by chance it would be "
        f"{judgement.chance:.2f} ({judgement.pairs} pairs)."
    )


def joined(sides: Sides, comparison: Comparison, day: date) -> Keyframe:
    """The keyframe after a day that joined a space."""
    before = comparison.keyframe
    in_space = rotated(sides, comparison.rotations.whole)
    reference = continued(before.reference, in_space, abs((day - before.day).days))
    return Keyframe(day, before.space, before.anchor, before.days + 1, reference)


def first(sides: Sides, name: str, day: date) -> Keyframe:
    """The keyframe of a new space. sides: in its coordinates."""
    reference = first_reference(sides)
    # By content: no two spaces have one name.
    space = f"{name}-{day}-{identity(reference)[:12]}"
    return Keyframe(day, space, day, 1, reference)


def rotated(sides: Sides, rotation: np.ndarray) -> Sides:
    """Both sides in other coordinates."""
    return {side: entities.rotated(rotation) for side, entities in sides.items()}
