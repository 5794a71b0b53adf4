"""Who of a day's engaged consumers and producers has a vector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.registry.vectors import Index, encode_ids
from jobs.judging.labels import counted_rows
from jobs.lake.store import Partition

SIDES = ("consumer", "producer")


def coverage(
    day: Partition, weights: dict[str, float], published: Mapping[str, Iterable[np.ndarray]]
) -> dict[str, float]:
    """coverage_consumer and coverage_producer: the shares of those with an engagement that counts.

    weights: strength by kind, as of the matrix. published: side -> ids with a vector, 'S', sorted
    within each array. Empty for a day without engagements.
    """
    engaged = engaged_ids(day, weights)
    shares = {}
    for side, ids in engaged.items():
        if len(ids):
            covered = np.zeros(len(ids), bool)
            for part in published[side]:
                covered |= len(part) > 0 and Index(part).find(ids) >= 0
            shares[f"coverage_{side}"] = float(covered.mean())
    return shares


def engaged_ids(day: Partition, weights: dict[str, float]) -> dict[str, np.ndarray]:
    """The distinct ids of the day's engagements that count, by side, 'S'.

    Of each piece of the day only its distinct ids stay in memory.
    """
    found: dict[str, list[pa.Array]] = {side: [] for side in SIDES}
    for rows in counted_rows(day, [f"{side}_id" for side in SIDES], weights):
        for side in SIDES:
            found[side].append(pc.unique(rows[f"{side}_id"]))
    engaged = {}
    for side, parts in found.items():
        ids = pc.unique(pa.chunked_array(parts, pa.string()))
        engaged[side] = encode_ids(ids.to_numpy(zero_copy_only=False))
    return engaged
