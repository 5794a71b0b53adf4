"""An open version and its lookups, which do not access the catalog."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from embeddings.fold_in.base import FoldIn
from embeddings.lookalike import SUMMARIES, products
from embeddings.registry.chunked import Rows, blocks
from embeddings.registry.errors import BadRequest, UnknownEntity, UnknownId, missing
from embeddings.registry.files import Files
from embeddings.registry.search import BLOCK, best, cosine_top_k
from embeddings.registry.vectors import Entity
from embeddings.registry.versions import Version

# The entity of the lookalike fold-in: a group's vector is the mean of its consumers' vectors.
GROUP = "group"


@dataclass(frozen=True)
class Lookup:
    """The vectors of requested ids in the requested order, and the version they come from.

    Shapes as in `Vectors`, but ids are texts.
    """

    version: Version
    entity: str
    ids: list[str]
    vectors: np.ndarray
    counts: np.ndarray
    folded: np.ndarray


@dataclass(frozen=True)
class Neighbour:
    """One result of a nearest-neighbour search.

    score: cosine, -1 to 1. count: engagements behind the vector. folded: not fitted but folded in.
    """

    id: str
    score: float
    count: int
    folded: bool


@dataclass(frozen=True)
class FoldedVector:
    """A vector computed from a history, in the version's space.

    vector: (k,) float32. known: number of producers that it is based on. unknown: ids that are not
    in the version and were left out.
    """

    version: Version
    vector: np.ndarray
    known: int
    unknown: list[str]


@dataclass(frozen=True)
class Lookalike:
    """A producer, and its dot products with the requested groups, summarised."""

    id: str
    mean: float
    max: float
    median: float
    min: float


@dataclass(frozen=True)
class Loaded:
    """A version with its arrays, memory-mapped and read-only."""

    version: Version
    files: Files

    @property
    def entities(self) -> dict[str, Entity]:
        return self.files.entities

    @property
    def fold_in(self) -> FoldIn:
        """The fold-in: column j of a history is row j of 'producer'. Raises DamagedVersion."""
        return self.files.fold_in

    def get(self, entity: str, ids: Sequence[str]) -> Lookup:
        """See `Registry.get`."""
        stored = self.entity(entity)
        rows = self.known_rows(entity, ids)
        return Lookup(
            version=self.version,
            entity=entity,
            ids=list(ids),
            vectors=stored.vectors[rows],
            counts=stored.counts[rows],
            folded=stored.folded[rows],
        )

    def neighbours(self, key: str, k: int = 10, among: str | None = None) -> list[Neighbour]:
        """See `Registry.neighbours`."""
        check_k(k)
        entity, id_ = parse_key(key, list(self.entities))
        among = among or entity
        searched = self.entity(among)
        query_row = self.known_rows(entity, [id_])
        query = self.entities[entity].vectors[query_row][0]
        if not query.any():
            raise BadRequest(
                f"'{entity}:{id_}' has a zero vector in {self.version.id}, "
                "which has no direction and therefore no neighbours."
            )
        # Leave out the query itself. In another entity, its row number belongs to another id.
        leave_out = int(query_row[0]) if among == entity else -1
        rows, scores = cosine_top_k(searched.vectors, searched.norms, query, k, leave_out)
        columns = zip(
            texts(searched.ids, rows),
            scores.tolist(),
            searched.counts[rows].tolist(),
            searched.folded[rows].tolist(),
            strict=True,
        )
        return [Neighbour(*values) for values in columns]

    def fold(self, strengths: Mapping[str, float]) -> FoldedVector:
        """See `Registry.fold_in`."""
        check_strengths(strengths)
        ids = list(strengths)
        rows = find_rows(self.entities["producer"], ids)
        known = rows >= 0
        if not known.any():
            self.known_rows("producer", ids)  # raises UnknownId with near misses
        values = np.fromiter(strengths.values(), np.float64, len(ids))[known]
        shape = (1, self.fold_in.n_producers)
        history = sp.csr_matrix((values, rows[known], [0, len(values)]), shape=shape)
        # As in the nightly matrix: sums in the same order round the same way.
        history.sort_indices()
        unknown = [id_ for id_, is_known in zip(ids, known, strict=True) if not is_known]
        vector = self.fold_in.fold(history)[0]
        return FoldedVector(self.version, vector, len(values), unknown)

    def lookalike(
        self, groups: Sequence[str], candidates: Sequence[str] = (), k: int = 10, by: str = "mean"
    ) -> list[Lookalike]:
        """See `Registry.lookalike`."""
        check_k(k)
        if not groups:
            raise BadRequest(
                "At least one group is required, such as user_active_degree=full_active."
            )
        if by not in SUMMARIES:
            raise BadRequest(
                f"Producers cannot be ranked by {by!r}; use one of {', '.join(SUMMARIES)}."
            )
        distinct = list(dict.fromkeys(groups))  # a repeated group counts once
        centroids = self.entity(GROUP).vectors[self.known_rows(GROUP, distinct)]
        producers = self.entities["producer"]
        rows = self.known_rows("producer", candidates)
        if not candidates:
            rows = best_rows(producers.vectors, centroids, k, by)
        dots = products(producers.vectors[rows], centroids)
        columns = [summary(dots, axis=1).tolist() for summary in SUMMARIES.values()]
        ids = texts(producers.ids, rows)
        return [Lookalike(*values) for values in zip(ids, *columns, strict=True)]

    def entity(self, entity: str) -> Entity:
        """The vectors of an entity. Raises UnknownEntity."""
        if entity not in self.entities:
            raise UnknownEntity(*missing("entity", entity, self.entities, of=self.version.id))
        return self.entities[entity]

    def known_rows(self, entity: str, ids: Sequence[str]) -> np.ndarray:
        """The rows of ids that must all exist.

        Raises UnknownId, which names near misses and other entities that have the id.
        """
        stored = self.entity(entity)
        rows = find_rows(stored, ids)
        if (rows >= 0).all():
            return rows
        unknown = [id_ for id_, row in zip(ids, rows, strict=True) if row < 0]
        near = self._near(entity, unknown[0])
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        more = f", nor {len(unknown) - 1} more of the requested ids" if len(unknown) > 1 else ""
        examples = texts(stored.ids, np.arange(min(2, len(stored))))
        raise UnknownId(
            f"There is no {entity} {unknown[0]!r} in {self.version.id}{more}.{hint} "
            f"It has {len(stored):,} of them, such as {' and '.join(map(repr, examples))}.",
            near,
        )

    def _near(self, entity: str, id_: str) -> list[str]:
        """Ids spelt alike, and the same id of other entities, as 'entity:id'."""
        near = [f"{entity}:{similar}" for similar in self.entities[entity].near(id_)]
        for other, stored in self.entities.items():
            if find_rows(stored, [id_])[0] >= 0:
                near.append(f"{other}:{id_}")
        return near


def best_rows(producers: Rows, centroids: np.ndarray, k: int, by: str) -> np.ndarray:
    """The rows of the k producers with the largest `by` over their dot products, best first.

    producers: (n, d), centroids: (g, d). Returns (min(k, n),) int64.
    """
    summary = SUMMARIES[by]
    # A block's products with all groups are in memory at once: the more groups, the smaller it is.
    size = max(1, BLOCK // len(centroids))
    scores = (summary(products(block, centroids), axis=1) for block in blocks(producers, size))
    rows, _ = best(scores, k)
    return rows


def parse_key(key: str, entities: Sequence[str]) -> tuple[str, str]:
    """'producer:1196' -> ('producer', '1196'). Raises BadRequest."""
    entity, _, id_ = key.partition(":")
    if not entity or not id_:
        raise BadRequest(
            f"{key!r} is not of the form entity:id, as in producer:1196. "
            f"Entities: {', '.join(entities)}."
        )
    return entity, id_


def check_k(k: int) -> None:
    """Raise BadRequest unless k is at least one."""
    if k < 1:
        raise BadRequest(f"k = {k} is invalid; it must be at least one.")


def check_strengths(strengths: Mapping[str, float]) -> None:
    """Raise BadRequest unless there are strengths and all are finite and above 0."""
    bad = {}
    for producer, strength in strengths.items():
        if not (math.isfinite(strength) and strength > 0):
            bad[producer] = strength
    if bad:
        raise BadRequest(f"Strengths must be finite and above 0; given: {bad}.")
    if not strengths:
        raise BadRequest("A history needs at least one producer and its strength.")


def find_rows(entity: Entity, ids: Sequence[str]) -> np.ndarray:
    """The row of each id, (m,), -1 if unknown. ids: any text, as a user may type it."""
    if not ids:
        return np.empty(0, np.int64)
    # NumPy drops trailing NULs, so that 'p1' + NUL would match 'p1'. No published id has a NUL.
    has_nul = ["\0" in id_ for id_ in ids]
    return np.where(has_nul, -1, entity.rows(ids))


def texts(ids: Rows, rows: np.ndarray) -> list[str]:
    """The ids in these rows, decoded."""
    return [id_.decode() for id_ in ids[rows].tolist()]
