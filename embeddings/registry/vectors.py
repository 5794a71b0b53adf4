"""The vectors of one entity, and where each id's are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

import numpy as np

from embeddings.registry.chunked import Rows, joined

NEARBY = 200  # sorted ids on either side among which a near miss is looked for
FIELDS = ("ids", "vectors", "counts", "folded")


@dataclass(frozen=True)
class Vectors:
    """Some vectors of one entity, a shard or all of them: row i of every array speaks of ids[i].

    ids: (n,) 'S', sorted bytewise, unique, UTF-8. vectors: (n, k) float32. counts: (n,) int32, engagements behind each.
    folded: (n,) bool, True where the vector was folded in instead of fitted.
    """

    ids: np.ndarray
    vectors: np.ndarray
    counts: np.ndarray
    folded: np.ndarray


@dataclass(frozen=True)
class Index:
    """Where each id is. ids: (n,) 'S', sorted bytewise, unique. rows: (n,) int64, the row of each; None: its own."""

    ids: np.ndarray
    rows: np.ndarray | None = None

    def find(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """The row of each id, -1 where it has none. ids: (m,) texts or 'S'. Returns (m,) int64."""
        wanted = encode_ids(ids)
        narrow = wanted.astype(
            self.ids.dtype
        )  # against wider ids NumPy would first copy all of ours to that width
        at = np.minimum(
            np.searchsorted(self.ids, narrow), len(self.ids) - 1
        )  # one call, whatever their number
        return np.where(self.ids[at] == wanted, at if self.rows is None else self.rows[at], -1)

    def near(self, wanted: str, n: int = 3) -> list[str]:
        """Up to n ids that look like this one, among those that sort next to it."""
        at = int(np.searchsorted(self.ids, encode_ids([wanted]).astype(self.ids.dtype))[0])
        around = [i.decode() for i in self.ids[max(0, at - NEARBY) : at + NEARBY].tolist()]
        return get_close_matches(wanted, around, n)


class Entity:
    """All vectors of one entity, in shards. Its rows are those of the shards, one shard after the other.

    ids, vectors, counts, folded: as in `Vectors`, sorted within a shard only; `vectors[rows]` reads those rows alone,
    np.asarray(vectors) is all of them. norms: (n,) float32, the length of each vector.
    """

    def __init__(self, shards: Sequence[Vectors], index: Index | None = None) -> None:
        """index: over all shards; it may be left out where there is one shard."""
        assert index or len(shards) == 1
        self.shards = tuple(shards)
        self.index = index or Index(self.shards[0].ids)
        self.ids, self.vectors, self.counts, self.folded = (
            joined([getattr(shard, field) for shard in self.shards]) for field in FIELDS
        )

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """The row of each id, -1 where it has none. ids: (m,) texts or 'S'. Returns (m,) int64."""
        return self.index.find(ids)

    def near(self, wanted: str, n: int = 3) -> list[str]:
        """Up to n ids that look like this one."""
        return self.index.near(wanted, n)

    @cached_property
    def norms(self) -> Rows:  # computed at the first search
        return joined(
            [np.sqrt(np.einsum("ij,ij->i", shard.vectors, shard.vectors)) for shard in self.shards]
        )


def encode_ids(ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """Ids as an 'S' array of their UTF-8 bytes; an 'S' array is returned as it is."""
    texts = np.asarray(ids)
    if texts.dtype.kind == "S":
        return texts
    texts = texts.astype(np.str_)
    try:
        return texts.astype(np.bytes_)  # ASCII, the usual case, three times as fast
    except UnicodeEncodeError:
        return np.strings.encode(texts, "utf-8", "surrogatepass")
