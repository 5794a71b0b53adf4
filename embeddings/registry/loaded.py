"""A version that is open: what can be asked of it without another look at the catalog."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from embeddings.fold_in import FoldIn
from embeddings.lookalike import SUMMARIES, products
from embeddings.registry.chunked import blocks
from embeddings.registry.errors import BadRequest, UnknownEntity, UnknownId, missing
from embeddings.registry.search import BLOCK, best, cosine_top_k
from embeddings.registry.vectors import Entity
from embeddings.registry.versions import Version

GROUP = (
    "group"  # the entity of lookalike folding-in: a group's vector is the mean of its consumers'
)


@dataclass(frozen=True)
class Found:
    """Vectors as asked for, row by row, and where they come from. Shapes: as in `Vectors`; ids are texts here."""

    version: Version
    entity: str
    ids: list[str]
    vectors: np.ndarray
    counts: np.ndarray
    folded: np.ndarray


@dataclass(frozen=True)
class Neighbour:
    """score: cosine, -1 to 1. count: engagements behind the vector. folded: folded in instead of fitted."""

    id: str
    score: float
    count: int
    folded: bool


@dataclass(frozen=True)
class FoldedIn:
    """A vector made from a history, in the version's space.

    known: interactions that it comes from, one a producer. unknown: producers that the version does not know, left out.
    """

    version: Version
    vector: np.ndarray
    known: int
    unknown: list[str]


@dataclass(frozen=True)
class Lookalike:
    """A producer, and its dot products with the groups asked about, summed up."""

    id: str
    mean: float
    max: float
    median: float
    min: float


@dataclass(frozen=True)
class Loaded:
    """A version with its arrays, memory-mapped and read-only. Row j of the fold-in speaks of the producer in row j."""

    version: Version
    entities: dict[str, Entity]
    fold_in: FoldIn

    def get(self, entity: str, ids: Sequence[str]) -> Found:
        """As Registry.get."""
        its, rows = self.entity(entity), self.known_rows(entity, ids)
        return Found(
            self.version, entity, list(ids), its.vectors[rows], its.counts[rows], its.folded[rows]
        )

    def neighbours(self, who: str, k: int = 10, among: str | None = None) -> list[Neighbour]:
        """As Registry.neighbours."""
        check_k(k)
        entity, id_ = parse_who(who, list(self.entities))
        among = among or entity
        searched, row = self.entity(among), self.known_rows(entity, [id_])
        query = self.entities[entity].vectors[row][0]
        if not query.any():
            raise BadRequest(
                f"'{entity}:{id_}' has a vector of zeros in {self.version.id}: no direction, no neighbours."
            )
        rows, scores = cosine_top_k(
            searched.vectors, searched.norms, query, k, row[0] if among == entity else -1
        )
        counts, folded = searched.counts[rows].tolist(), searched.folded[rows].tolist()
        return [
            Neighbour(*its)
            for its in zip(texts(searched, rows), scores.tolist(), counts, folded, strict=True)
        ]

    def folded_in(self, strengths: Mapping[str, float]) -> FoldedIn:
        """As Registry.fold_in."""
        if bad := {p: s for p, s in strengths.items() if not (math.isfinite(s) and s > 0)}:
            raise BadRequest(f"Strengths must be finite and above 0; given: {bad}.")
        if not strengths:
            raise BadRequest("A history needs at least one producer and its strength.")
        ids = list(strengths)
        rows = find_rows(self.entities["producer"], ids)
        known = rows >= 0
        if not known.any():
            self.known_rows("producer", ids)
        values = np.fromiter(strengths.values(), np.float64, len(ids))[known]
        history = sp.csr_matrix(
            (values, rows[known], [0, len(values)]), shape=(1, self.fold_in.n_producers)
        )
        history.sort_indices()
        unknown = [id_ for id_, row in zip(ids, rows, strict=True) if row < 0]
        return FoldedIn(self.version, self.fold_in.fold(history)[0], len(values), unknown)

    def lookalike(
        self, groups: Sequence[str], candidates: Sequence[str] = (), k: int = 10, by: str = "mean"
    ) -> list[Lookalike]:
        """As Registry.lookalike."""
        check_k(k)
        if not groups:
            raise BadRequest(
                "A newcomer needs at least one group, such as user_active_degree=full_active."
            )
        if by not in SUMMARIES:
            raise BadRequest(
                f"Producers cannot be ranked by {by!r}; take one of {', '.join(SUMMARIES)}."
            )
        centroids = self.entity(GROUP).vectors[self.known_rows(GROUP, list(dict.fromkeys(groups)))]
        producers = self.entities["producer"]
        if candidates:
            rows = self.known_rows("producer", candidates)
        else:
            some = blocks(producers.vectors, max(1, BLOCK // len(centroids)))
            rows, _ = best((SUMMARIES[by](products(block, centroids), axis=1) for block in some), k)
        found = products(producers.vectors[rows], centroids)
        columns = [summary(found, axis=1).tolist() for summary in SUMMARIES.values()]
        return [Lookalike(*its) for its in zip(texts(producers, rows), *columns, strict=True)]

    def entity(self, entity: str) -> Entity:
        """Raises UnknownEntity."""
        if entity not in self.entities:
            raise UnknownEntity(*missing("entity", entity, self.entities, of=self.version.id))
        return self.entities[entity]

    def known_rows(self, entity: str, ids: Sequence[str]) -> np.ndarray:
        """Rows of ids that must all be there. Raises UnknownId: it names near misses and where else the id is known."""
        its = self.entity(entity)
        rows = find_rows(its, ids)
        if (rows >= 0).all():
            return rows
        unknown = [id_ for id_, row in zip(ids, rows, strict=True) if row < 0]
        first = unknown[0]
        elsewhere = [
            f"{other}:{first}"
            for other, rest in self.entities.items()
            if find_rows(rest, [first])[0] >= 0
        ]
        near = [f"{entity}:{id_}" for id_ in its.near(first)] + elsewhere
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        others = f", nor {len(unknown) - 1} more of the ids asked for" if len(unknown) > 1 else ""
        some = " and ".join(map(repr, texts(its, np.arange(min(2, len(its))))))
        raise UnknownId(
            f"There is no {entity} {first!r} in {self.version.id}{others}.{hint} "
            f"It has {len(its):,} of them, such as {some}.",
            near,
        )


def parse_who(who: str, entities: Sequence[str]) -> tuple[str, str]:
    """'producer:1196' -> ('producer', '1196'). Raises BadRequest."""
    entity, colon, id_ = who.partition(":")
    if not colon or not entity or not id_:
        raise BadRequest(
            f"{who!r} does not say who; write entity:id, as in producer:1196. Entities: {', '.join(entities)}."
        )
    return entity, id_


def check_k(k: int) -> None:
    if k < 1:
        raise BadRequest(f"k = {k} cannot be found; ask for at least one.")


def find_rows(its: Entity, ids: Sequence[str]) -> np.ndarray:
    """Rows of ids that a person typed, -1 where unknown. NumPy drops a trailing NUL, so an id with one is nobody's."""
    return (
        np.where(["\0" in id_ for id_ in ids], -1, its.rows(ids)) if ids else np.empty(0, np.int64)
    )


def texts(its: Entity, rows: np.ndarray) -> list[str]:
    return [id_.decode() for id_ in its.ids[rows].tolist()]
