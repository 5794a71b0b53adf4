"""The vectors of one entity, and the index from ids to rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache, partial

import numpy as np

from embeddings.registry.chunked import Rows, joined
from embeddings.registry.errors import BadRequest

NEARBY = 200  # sorted ids on either side in which a near miss is searched
LENGTHS = 8  # of vectors, whose norms are kept
FIELDS = ("ids", "vectors", "counts", "folded")


@dataclass(frozen=True)
class Vectors:
    """Vectors of one entity, all of them or one shard. Row i of every array belongs to ids[i].

    ids: (n,) 'S', sorted bytewise, unique, UTF-8. vectors: (n, k) float32.
    counts: (n,) int32, engagements behind each vector.
    folded: (n,) bool, True where the vector was folded in instead of fitted.
    """

    ids: np.ndarray
    vectors: np.ndarray
    counts: np.ndarray
    folded: np.ndarray


@dataclass(frozen=True)
class Index:
    """From ids to rows.

    ids: (n,) 'S', n >= 1, sorted bytewise, unique. rows: (n,) int64, the row of each id; None if
    ids[i] is in row i.
    """

    ids: np.ndarray
    rows: np.ndarray | None = None

    def find(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """The row of each id, -1 if unknown. ids: (m,) texts or 'S'. Returns (m,) int64."""
        wanted = encode_ids(ids)
        # If the wanted ids were wider, NumPy would first copy the whole index at that width.
        narrow = wanted.astype(self.ids.dtype)
        # One call for all ids, because a call costs more than the search of one id.
        at = np.minimum(np.searchsorted(self.ids, narrow), len(self.ids) - 1)
        rows = at if self.rows is None else self.rows[at]
        # Compared with the full id: a longer one may match only because it was cut.
        return np.where(self.ids[at] == wanted, rows, -1)

    def near(self, wanted: str, n: int = 3) -> list[str]:
        """Up to n ids spelt like this one, among those that sort next to it."""
        narrow = encode_ids([wanted]).astype(self.ids.dtype)
        at = int(np.searchsorted(self.ids, narrow)[0])
        encoded = self.ids[max(0, at - NEARBY) : at + NEARBY].tolist()
        return get_close_matches(wanted, [id_.decode() for id_ in encoded], n)


class Entity:
    """All vectors of one entity, in shards whose rows follow each other.

    ids, vectors, counts, folded: as in `Vectors`, but sorted only within a shard. `vectors[rows]`
    reads only those rows, `np.asarray(vectors)` all of them.
    """

    ids: Rows
    vectors: Rows
    counts: Rows
    folded: Rows

    def __init__(self, shards: Sequence[Vectors], index: Index | None = None) -> None:
        """index: over all shards; may be omitted if there is only one shard."""
        assert index or len(shards) == 1
        self.shards = tuple(shards)
        self.index = index or Index(self.shards[0].ids)
        for field in FIELDS:
            setattr(self, field, joined([getattr(shard, field) for shard in self.shards]))

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """The row of each id, -1 if unknown. ids: (m,) texts or 'S'. Returns (m,) int64."""
        return self.index.find(ids)

    def near(self, wanted: str, n: int = 3) -> list[str]:
        """Up to n ids spelt like this one."""
        return self.index.near(wanted, n)

    @cached_property
    def norms(self) -> Callable[[int], Rows]:
        """norms(dim): (n,) float32, the length of each vector's first `dim` numbers.

        Computed at the first search with this dim. Only a few are kept, because a client may ask
        for any.
        """
        # Not a cached method: the cache would refer to the entity, and keep its maps open.
        return lru_cache(maxsize=LENGTHS)(partial(_norms, self.shards))


def _norms(shards: Sequence[Vectors], dim: int) -> Rows:
    return joined([lengths(shard.vectors[:, :dim]) for shard in shards])


def lengths(vectors: np.ndarray) -> np.ndarray:
    """The length of each vector, (n,) float32. vectors: (n, dim) float32."""
    # In float64: the square of a number above 2e19 or below 1e-19 is no float32.
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return np.sqrt(squares).astype(np.float32)


def text_list(ids: Iterable[str]) -> list[str]:
    """Ids as a list of texts, from a list, an array, a Series or any other collection of them.

    Raises BadRequest for a single text, which is a collection of letters, and for an id of another
    type.
    """
    if isinstance(ids, str | bytes):
        raise BadRequest(f"{ids!r} is one id, expected a list of ids: use [{ids!r}].")
    given = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    if set(map(type, given)) <= {str}:
        return given
    texts = []
    for id_ in given:
        if isinstance(id_, bytes):
            id_ = id_.decode(errors="replace")
        if not isinstance(id_, str):
            raise BadRequest(f"{id_!r} is no id, because all ids are texts: use '{id_}'.")
        texts.append(str(id_))
    return texts


def encode_ids(ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """Ids as an 'S' array of their UTF-8 bytes; an 'S' array is returned unchanged."""
    texts = np.asarray(ids)
    if texts.dtype.kind == "S":
        return texts
    texts = texts.astype(np.str_)
    try:
        return texts.astype(np.bytes_)  # ASCII, the usual case: three times as fast
    except UnicodeEncodeError:
        return np.strings.encode(texts, "utf-8", "surrogatepass")
