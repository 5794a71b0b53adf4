"""What a partition of vectors leaves to those after it, and the facts of its place in a space.

Days of `align` and weeks of `words_align` are placed in the same way: see `embeddings.spaces`.

    reference/<side>/{ids,vectors,weights}.npy
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

from embeddings.blocks import load_arrays, save_arrays
from embeddings.spaces.placement import Keyframe, Placed
from embeddings.spaces.reference import SIDES, Entities
from jobs.lake.store import Partition

FOLDER = "reference"


def keyframe_of(partition: Partition) -> Keyframe:
    """What the partition left to those after it."""
    facts = partition.facts
    return Keyframe(
        day=partition.day,
        space=facts["space"],
        anchor=date.fromisoformat(facts["anchor"]),
        days=facts["reference_days"],
        left=date.fromisoformat(facts["left"]) if facts["left"] else None,
        reference={side: load_arrays(partition.path / FOLDER / side, Entities) for side in SIDES},
    )


def save_reference(home: Path, keyframe: Keyframe) -> None:
    """Write what is left to later partitions below the folder of this one."""
    for side in SIDES:
        save_arrays(home / FOLDER / side, keyframe.reference[side])


def placement_facts(placed: Placed) -> dict[str, str | int | float]:
    """Where it was placed, and how it agrees with the last reference it was compared with."""
    facts: dict[str, str | int | float] = {
        "space": placed.keyframe.space,
        "anchor": str(placed.keyframe.anchor),
        "reference_days": placed.keyframe.days,
        "opened": placed.opened,
        "left": str(placed.keyframe.left or ""),
    }
    if placed.compared:
        judgement = placed.compared[-1].judgement
        facts |= {
            "pairs": judgement.pairs,
            "cosine_to_reference": judgement.cosine,
            "beyond_chance": judgement.deviation,
        }
    return facts
