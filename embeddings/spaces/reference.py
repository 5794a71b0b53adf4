"""The reference of a space: where each consumer and producer has been, as a running mean.

Every day is rotated to the reference that the day before it left, and leaves one that it has become
a part of. An error of one day's rotation is averaged away, where a chain from day to day would add
all of them up (docs/decisions/0010).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from embeddings.sampling import hashes, smallest_hashes
from embeddings.spaces.rotation import FOLDS, SLICE, Group, Pairs
from embeddings.spaces.similarity import SHORTEST, unit_rows

SIDES = ("consumer", "producer")
MEMORY = 0.99  # of an entity's weight, kept from one day to the next
FORGOTTEN = 0.1  # of the day's median weight: who weighs less and is not there is dropped
MOST = 100_000  # entities remembered of each side: far more than a rotation needs


@dataclass(frozen=True)
class Entities:
    """Some consumers or producers, with a vector and a weight each.

    ids: (n,) bytes, sorted; vectors: (n, k) float32; weights: (n,) float32, > 0.
    """

    ids: np.ndarray
    vectors: np.ndarray
    weights: np.ndarray

    @classmethod
    def of_day(cls, ids: np.ndarray, vectors: np.ndarray, strengths: np.ndarray) -> Entities:
        """The entities of one day that have a vector. strengths: (n,), the sum of each one's.

        The weight is √strength: a vector of few engagements is mostly noise.
        """
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        known = np.flatnonzero((lengths > SHORTEST) & np.isfinite(lengths) & (strengths > 0))
        known = known[smallest_hashes(ids[known], MOST)]
        known = known[np.argsort(ids[known], kind="stable")]
        weights = np.sqrt(strengths[known]).astype(np.float32)
        return cls(ids[known], np.asarray(vectors[known], dtype=np.float32), weights)

    def rotated(self, rotation: np.ndarray) -> Entities:
        """In other coordinates. rotation: (k, k)."""
        # On one thread, because the last bits would depend on their number.
        with threadpool_limits(1):
            vectors = self.vectors @ rotation.astype(np.float32)
        return Entities(self.ids, vectors, self.weights)

    def at_most(self, n: int) -> Entities:
        """The same n entities on every day, as far as they are there."""
        return self.chosen(smallest_hashes(self.ids, n))

    def chosen(self, rows: np.ndarray) -> Entities:
        return Entities(self.ids[rows], self.vectors[rows], self.weights[rows])


Sides = dict[str, Entities]  # by SIDES


def pairs(day: Sides, reference: Sides) -> Pairs:
    """The entities that both have, each weighted by its less certain vector: w W / (w + W).

    Of the day's vectors only the directions count; the reference holds directions, or means of
    them. Every side has a group per fold, which may be empty.
    """
    groups = []
    for side in SIDES:
        if side in day and side in reference:
            groups += groups_of(day[side], reference[side])
    return groups


def groups_of(a: Entities, b: Entities) -> list[Group]:
    """The shared entities of one side, by fold."""
    rows_a, rows_b = shared_rows(a.ids, b.ids)
    fold_of = folds(a.ids[rows_a])
    groups = []
    for fold in range(FOLDS):
        chosen_a, chosen_b = rows_a[fold_of == fold], rows_b[fold_of == fold]
        w, other = a.weights[chosen_a], b.weights[chosen_b]
        groups.append(
            Group(
                fold=fold,
                day=unit_rows(a.vectors[chosen_a]),
                # A mean of directions is the shorter, the less they agree: it pulls less.
                reference=b.vectors[chosen_b],
                weights=w * other / (w + other),
            )
        )
    return groups


def shared_rows(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in a and rows in b of the ids that both have, in the order of the ids. Both sorted."""
    if not len(b):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    place = np.minimum(np.searchsorted(b, a), len(b) - 1)
    rows = np.flatnonzero(b[place] == a)
    return rows, place[rows]


def first_reference(day: Sides) -> Sides:
    """The reference that the first day of a space leaves. day: in the coordinates of the space."""
    return {side: directions(entities) for side, entities in day.items()}


def continued(reference: Sides, day: Sides, days: int, memory: float = MEMORY) -> Sides:
    """The reference after another day. days: since the day that left the reference.

    With the weights W of the reference and w of the day, W ← γW + w; a vector becomes the mean of
    directions by these weights, and is shorter than 1 where they disagree.
    """
    kept = memory**days
    return {side: remembered(reference[side], entities, kept) for side, entities in day.items()}


def directions(entities: Entities) -> Entities:
    """The same with vectors of length 1."""
    return Entities(entities.ids, unit_rows(entities.vectors), entities.weights)


def remembered(old: Entities, new: Entities, kept: float) -> Entities:
    """The mean of old vectors and new directions. kept: share of the old weight that is left."""
    ids = np.union1d(old.ids, new.ids)
    of_old, of_new = np.searchsorted(ids, old.ids), np.searchsorted(ids, new.ids)
    weights = np.zeros(len(ids), np.float32)
    weights[of_old] = kept * old.weights
    weights[of_new] += new.weights
    vectors = np.zeros((len(ids), new.vectors.shape[1]), np.float32)
    share = kept * old.weights / weights[of_old]
    lengths = np.sqrt(np.einsum("ij,ij->i", new.vectors, new.vectors))
    new_share = new.weights / weights[of_new] / lengths
    for start in range(0, len(ids), SLICE):  # what fits into the cache is not read twice
        for entities, rows, part in ((old, of_old, share), (new, of_new, new_share)):
            first, last = np.searchsorted(rows, [start, start + SLICE])
            vectors[rows[first:last]] += entities.vectors[first:last] * part[first:last, None]
    after = Entities(ids, vectors, weights)
    # In units of the day, because strengths may have any scale.
    lasting = weights >= FORGOTTEN * np.median(new.weights) if len(new.ids) else weights > 0
    lasting[of_new] = True
    rows = np.flatnonzero(lasting)
    rows = rows[smallest_hashes(ids[rows], MOST)]
    return after if len(rows) == len(ids) else after.chosen(rows)


def identity(reference: Sides) -> str:
    """The digest of a reference: what its ids, vectors and weights are, in hexadecimal."""
    digest = hashlib.sha256()
    for side in SIDES:
        for name, array in vars(reference[side]).items():
            digest.update(f"{side}/{name}/{array.dtype}/{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def folds(ids: np.ndarray) -> np.ndarray:
    """The fold of each id, (n,) int64: the same on every day."""
    return (hashes(ids) % np.uint64(FOLDS)).astype(np.int64)
