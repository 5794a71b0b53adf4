"""Which items the ranker scores for a consumer: half of producers known to it, half of new ones.

    in         the newest items of producers that the consumer engaged with, in the window
    out        the newest items of the producers nearest to the consumer by the embedding
    popular    the items that most engaged with; they fill what the two halves leave open

An item is as new as its first event in the window. Items that the consumer was shown or engaged
with are none. Source of the halves: Twitter's home mixer, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.registry.client import Version, open_version
from embeddings.registry.errors import BadRequest, UnknownId
from jobs.features.past_counts import PastCounts
from jobs.lake.schema import ENGAGEMENT_TABLE

IN, OUT, POPULAR = "in", "out", "popular"


@dataclass(frozen=True)
class Candidates:
    """Rows of `Items`, (n,), and where each comes from: IN, OUT or POPULAR."""

    rows: np.ndarray
    origin: np.ndarray


@dataclass(frozen=True)
class Items:
    """The items of the window, ready for look-ups. table: item_id, producer_id, first_ms."""

    table: pa.Table
    counts: PastCounts

    def of_producers(self, producers: list[str], seen: np.ndarray, most: int) -> np.ndarray:
        """Up to `most` rows of these producers' items that are not seen: the newest of each first.

        After the newest item of every producer, in their order, comes the second of each, and so
        on. seen: (items,) bool.
        """
        order = {producer: place for place, producer in enumerate(producers)}
        places, ranks, found = [], [], []
        for producer in order:
            rows = self._of_producer.get(producer, np.zeros(0, np.int64))
            rows = rows[~seen[rows]]
            found.append(rows)
            ranks.append(np.arange(len(rows)))
            places.append(np.full(len(rows), order[producer]))
        if not found:
            return np.zeros(0, np.int64)
        by_round = np.lexsort((np.concatenate(places), np.concatenate(ranks)))
        return np.concatenate(found)[by_round][:most]

    def rows_of(self, ids: pa.ChunkedArray) -> np.ndarray:
        """The rows of these items; an id may occur several times."""
        return np.flatnonzero(pc.is_in(self.table["item_id"], value_set=pc.unique(ids)).to_numpy())

    @cached_property
    def by_popularity(self) -> np.ndarray:
        """All rows, those with the most engagements and then impressions in the window first."""
        counted = self.counts.of("item", self.table["item_id"].combine_chunks())
        ids = self._texts("item_id")
        return np.lexsort((ids, -counted[:, 0], -counted[:, 1]))

    @cached_property
    def _of_producer(self) -> dict[str, np.ndarray]:
        """Producer -> the rows of its items, newest first."""
        producers = self._texts("producer_id")
        first = pc.fill_null(self.table["first_ms"], 0).to_numpy()
        order = np.lexsort((self._texts("item_id"), -first, producers))
        starts = np.flatnonzero(np.r_[True, producers[order][1:] != producers[order][:-1]])
        names = producers[order][starts].tolist()
        return dict(zip(names, np.split(order, starts[1:]), strict=True)) if len(order) else {}

    def _texts(self, column: str) -> np.ndarray:
        return np.asarray(self.table[column].to_pylist(), dtype=str)


def find_candidates(
    items: Items, history: dict[str, pa.Table], consumer: str, version: Version | None, most: int
) -> Candidates:
    """Up to `most` items for a consumer, none of them twice, none that it has seen.

    history: the consumer's events by table, oldest first. version: of the vectors; None for none.
    """
    seen = np.zeros(len(items.table), dtype=bool)
    for events in history.values():
        seen[items.rows_of(events["item_id"])] = True
    newest_first = history[ENGAGEMENT_TABLE]["producer_id"].to_pylist()[::-1]
    known = list(dict.fromkeys(newest_first))
    half = -(-most // 2)
    parts = {IN: items.of_producers(known, seen, half)}
    # As many as there are places: some have no item that is new to the consumer.
    near = nearest_producers(version, consumer, set(known), most - half)
    parts[OUT] = items.of_producers(near, seen, most - half)
    for rows in parts.values():
        seen[rows] = True
    open_places = most - sum(map(len, parts.values()))
    popular = items.by_popularity
    parts[POPULAR] = popular[~seen[popular]][:open_places]
    origin = np.repeat(list(parts), [len(rows) for rows in parts.values()])
    return Candidates(np.concatenate(list(parts.values())), origin)


def nearest_producers(
    version: Version | None, consumer: str, known: set[str], most: int
) -> list[str]:
    """Up to `most` producers nearest to a consumer that it does not know, best first.

    None where the consumer has no vector: it is new, or has only engagements that weigh nothing.
    """
    if version is None:
        return []
    try:
        found = open_version(version).neighbours(
            f"consumer:{consumer}", most + len(known), among="producer"
        )
    except (BadRequest, UnknownId):
        return []
    return [one.id for one in found if one.id not in known][:most]
