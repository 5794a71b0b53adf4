"""An open version and its lookups, which do not access the catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from embeddings.features import Value
from embeddings.fold_in.base import FoldIn
from embeddings.lengths.encoder import shortened
from embeddings.lookalike import SUMMARIES, products
from embeddings.registry.answers import FoldedVector, Lookalike, Lookup, Neighbour, Results
from embeddings.registry.approximate import MOST
from embeddings.registry.chunked import Rows, blocks, columns
from embeddings.registry.errors import BadRequest, UnknownEntity, UnknownId, missing
from embeddings.registry.files import Files, folded_entity
from embeddings.registry.search import BLOCK, best, cosine_top_k, cosine_top_k_of
from embeddings.registry.vectors import Entity, Index, text_list
from embeddings.registry.versions import PREFIXES, Version

# The entity of the lookalike fold-in: a group's vector is the mean of its consumers' vectors.
GROUP = "group"
MANY = 8  # one candidate in so many rows: to score all is faster than to copy the candidates
# The strengths that a fold-in can compute with.
SMALLEST = float(np.finfo(np.float32).tiny)
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Loaded:
    """A version with its arrays, memory-mapped and read-only."""

    version: Version
    files: Files

    @property
    def entities(self) -> dict[str, Entity]:
        return self.files.entities

    @property
    def columns(self) -> str:
        """The entity that histories consist of: 'producer', or the only one of the version."""
        return folded_entity(self.entities)

    @property
    def fold_in(self) -> FoldIn:
        """The fold-in: column j of a history is row j of `columns`. Raises DamagedVersion."""
        return self.files.fold_in

    def get(self, entity: str, ids: Sequence[str], dim: int | None = None) -> Lookup:
        """See `Registry.get`."""
        self.check_dim(dim)
        stored = self.at_length(entity, dim)
        ids = text_list(ids)
        rows = self.known_rows(entity, ids)
        return Lookup(
            version=self.version,
            entity=entity,
            ids=ids,
            vectors=stored.vectors[rows][:, :dim],
            counts=stored.counts[rows],
            folded=stored.folded[rows],
            shortened_by=self.version.shortened_by(dim),
        )

    def neighbours(
        self,
        key: str,
        k: int = 10,
        among: str | None = None,
        dim: int | None = None,
        only: Sequence[str] | None = None,
        exact: bool = False,
        rows: np.ndarray | None = None,
    ) -> Results[Neighbour]:
        """See `Registry.neighbours`. rows: those of `among` that may be found, ascending."""
        check_k(k)
        self.check_dim(dim)
        entity, id_ = parse_key(key, list(self.entities))
        among = among or entity
        searched = self.at_length(among, dim)
        query_row = self.known_rows(entity, [id_])
        query = self.at_length(entity, dim).vectors[query_row][0, :dim]
        shortened_by = self.version.shortened_by(dim)
        if not query.any():
            prefix = f"the first {dim} dimensions of " if shortened_by == PREFIXES else ""
            raise BadRequest(
                f"'{entity}:{id_}' has a zero vector in {prefix}{self.version.id}, "
                "which has no direction and therefore no neighbours."
            )
        # Leave out the query itself. In another entity, its row number belongs to another id.
        leave_out = int(query_row[0]) if among == entity else -1
        candidates = self._candidates(among, only, rows)
        index = self.files.indexes.get(among)
        recall = index.recall(entity) if index else None
        if index and recall and not exact and only is None and len(query) == self.version.dim:
            depth = k if rows is None else MOST
            found = nearest(searched, query, depth, index.candidates(query), leave_out, rows)[:k]
            # Too few if k is larger than what an index answers, the lists were short, or few of
            # the nearest may be found. If enough may be, they are among the 100 nearest of all, of
            # which the published recall says how many are missing.
            if len(found) == k <= MOST:
                return Results(self.version, found, recall)
        found = nearest(searched, query, k, candidates, leave_out)
        return Results(self.version, found, shortened_by=shortened_by)

    def searched(self, key: str, among: str | None) -> str:
        """The entity that a search is among: by default that of the key. Raises BadRequest."""
        return among or parse_key(key, list(self.entities))[0]

    def _candidates(
        self, among: str, only: Sequence[str] | None, rows: np.ndarray | None
    ) -> np.ndarray | None:
        """The rows of an exact search, ascending; None for all. Raises UnknownId."""
        if only is None:
            return rows
        listed = np.unique(self.known_rows(among, text_list(only)))
        return listed if rows is None else np.intersect1d(listed, rows)

    def fold(
        self,
        strengths: Mapping[str, float],
        k: int | None = None,
        dim: int | None = None,
        features: Mapping[str, Value] | None = None,
    ) -> FoldedVector:
        """See `Registry.fold_in`."""
        self.check_dim(dim)
        if k is not None:
            check_k(k)
        if strengths or not features:
            check_strengths(strengths)
        features = features or {}
        profile = self._profile(features) if features else ()
        producers = self.entities[self.columns]
        ids = list(strengths)
        rows = find_rows(producers.index, ids)
        known = rows >= 0
        if not known.any() and not features:
            self.known_rows(self.columns, ids)  # raises UnknownId with near misses
        unknown_features = self._unknown(features)
        if not known.any() and profile and not profile[0].nnz:
            raise self._nothing_known(unknown_features)
        values = np.fromiter(strengths.values(), np.float64, len(ids))[known]
        shape = (1, self.fold_in.n_producers)
        history = sp.csr_matrix((values, rows[known], [0, len(values)]), shape=shape)
        # As in the nightly matrix: sums in the same order round the same way.
        history.sort_indices()
        whole = self.fold_in.fold(history, *profile)
        check_folded(whole, strengths)
        if not known.any() and profile and not whole.any():  # of features that were left out
            raise self._nothing_known(unknown_features)
        vector = self.shortened(whole, dim)[0]
        producers = self.at_length(self.columns, dim)
        engaged = producers.vectors[history.indices][:, :dim]
        return FoldedVector(
            version=self.version,
            vector=vector,
            known=len(values),
            unknown=[id_ for id_, is_known in zip(ids, known, strict=True) if not is_known],
            residual=self.fold_in.residual(history, vector, engaged),
            neighbours=None if k is None else nearest(producers, vector, k),
            unknown_features=unknown_features,
            shortened_by=self.version.shortened_by(dim),
        )

    def _nothing_known(self, unknown: list[str]) -> BadRequest:
        such = f", such as {unknown[0]!r}" if unknown else ""
        return BadRequest(
            f"{self.version.id} knows none of the features{such}, or has left them out as too "
            "common: nothing is left to compute a vector from. Show the newcomer what is popular."
        )

    def _unknown(self, features: Mapping[str, Value]) -> list[str]:
        """What of the features has no column. They were read before."""
        return self.fold_in.vocabulary.unknown(features) if features else []  # type: ignore[attr-defined]

    def _profile(self, features: Mapping[str, Value]) -> tuple[sp.csr_matrix]:
        """The features as a further argument of `fold`. Raises BadRequest."""
        vocabulary = getattr(self.fold_in, "vocabulary", None)
        if vocabulary is None:
            kind = self.fold_in.scalars()["kind"]
            raise BadRequest(
                f"{self.version.id} has a fold-in of the kind '{kind}', which reads no features; "
                "leave them out, or ask a version of 'towers' or 'bag', which read them."
            )
        try:
            return (vocabulary.row(features),)
        except ValueError as error:
            raise BadRequest(f"{self.version.id}: {error}") from None

    def lookalike(
        self,
        groups: Sequence[str],
        candidates: Sequence[str] = (),
        k: int = 10,
        by: str = "mean",
        dim: int | None = None,
    ) -> Results[Lookalike]:
        """See `Registry.lookalike`."""
        check_k(k)
        self.check_dim(dim)
        groups, candidates = text_list(groups), text_list(candidates)
        if not groups:
            raise BadRequest(
                "At least one group is required, such as user_active_degree=full_active."
            )
        if by not in SUMMARIES:
            raise BadRequest(
                f"Producers cannot be ranked by {by!r}; use one of {', '.join(SUMMARIES)}."
            )
        distinct = list(dict.fromkeys(groups))  # a repeated group counts once
        centroids = self.at_length(GROUP, dim).vectors[self.known_rows(GROUP, distinct)][:, :dim]
        producers = self.at_length("producer", dim)
        vectors = columns(producers.vectors, dim)
        rows = self.known_rows("producer", candidates)
        if not candidates:
            rows = best_rows(vectors, centroids, k, by)
        dots = products(vectors[rows], centroids)
        scores = [summary(dots, axis=1).tolist() for summary in SUMMARIES.values()]
        ids = texts(producers.ids, rows)
        scored = [Lookalike(*values) for values in zip(ids, *scores, strict=True)]
        return Results(self.version, scored, shortened_by=self.version.shortened_by(dim))

    def check_dim(self, dim: int | None) -> None:
        """Raise BadRequest unless the version's vectors have this many dimensions or more."""
        if dim is None or 1 <= dim <= self.version.dim:
            return
        offered = f"it must be 1 to {self.version.dim}"
        if learned := self.version.learned_lengths:
            of_methods = " and ".join(dict.fromkeys(learned.values()))
            offered += f", of which {', '.join(map(str, learned))} are learned by {of_methods}"
        raise BadRequest(
            f"{self.version.id} has vectors of length {self.version.dim}, "
            f"so dim = {dim} is invalid; {offered}."
        )

    def at_length(self, entity: str, dim: int | None) -> Entity:
        """An entity at a learned length; at any other, whole: its first columns are the prefix."""
        whole = self.entity(entity)
        if dim is None or dim not in self.version.learned_lengths:
            return whole
        return self.files.shorter[dim][entity]

    def shortened(self, vectors: np.ndarray, dim: int | None) -> np.ndarray:
        """Further vectors of this version, (n, its dim), at the length that the stored ones have.

        By the encoder that shortened those, to the rounding of float32.
        """
        is_learned = dim in self.version.learned_lengths
        return shortened(vectors, dim, self.files.encoder if is_learned else None)

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
        rows = find_rows(stored.index, ids)
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
            if find_rows(stored.index, [id_])[0] >= 0:
                near.append(f"{other}:{id_}")
        return near


def nearest(
    searched: Entity,
    query: np.ndarray,
    k: int,
    candidates: np.ndarray | None = None,
    leave_out: int = -1,
    allowed: np.ndarray | None = None,
) -> list[Neighbour]:
    """The k nearest vectors by cosine, best first; none for a zero vector.

    query: (dim,), compared with the first dim columns. candidates: the rows to search, ascending;
    None searches all. leave_out: a row that is never returned. allowed: the rows that may be
    returned of the k nearest, ascending; None returns all of them.
    """
    if not query.any():
        return []
    dim = len(query)
    vectors = columns(searched.vectors, dim)
    if candidates is None or len(candidates) * MANY > len(searched):
        norms = searched.norms(dim)
        rows, scores = cosine_top_k(vectors, norms, query, k, leave_out, only=candidates)
    else:
        rows, scores = cosine_top_k_of(vectors, candidates, query, k, leave_out)
    if allowed is not None:
        kept = np.isin(rows, allowed)
        rows, scores = rows[kept], scores[kept]
    found = zip(
        texts(searched.ids, rows),
        scores.tolist(),
        searched.counts[rows].tolist(),
        searched.folded[rows].tolist(),
        strict=True,
    )
    return [Neighbour(*values) for values in found]


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
    """Raise BadRequest unless there are strengths, all usable, of ids that are valid Unicode."""
    if not strengths:
        raise BadRequest("A history needs at least one producer and its strength.")
    for producer in text_list(strengths):
        if not is_unicode(producer):
            raise BadRequest(f"{producer!r} cannot be an id: it has a lone surrogate.")
    bad = {}
    for producer, strength in strengths.items():
        # The fold-in computes in float32, where 1e39 is infinite and 1e-50 is zero.
        if not SMALLEST <= strength <= LARGEST:  # written so that a NaN is bad too
            bad[producer] = strength
    if bad:
        raise BadRequest(
            f"Strengths must be finite and above 0; given: {bad}. "
            f"In float32, they must be {SMALLEST:.2g} to {LARGEST:.2g}."
        )


def check_folded(vector: np.ndarray, strengths: Mapping[str, float]) -> None:
    """Raise BadRequest if the strengths are valid one by one, but too large together."""
    if np.isfinite(vector).all():
        return
    if not strengths:
        raise BadRequest("The weights lead to a vector that is not finite. Use smaller ones.")
    producer = max(strengths, key=lambda id_: strengths[id_])
    raise BadRequest(
        "The strengths lead to a vector that is not finite. Use smaller ones; the largest is "
        f"{strengths[producer]} of {producer!r}."
    )


def is_unicode(text: str) -> bool:
    """Can UTF-8 express the text? Half a surrogate pair cannot be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def find_rows(index: Index, ids: Sequence[str]) -> np.ndarray:
    """The row of each id, (m,), -1 if unknown. ids: any text, as a user may type it."""
    if not ids:
        return np.empty(0, np.int64)
    # NumPy drops trailing NULs, so that 'p1' + NUL would match 'p1'. No published id has a NUL.
    has_nul = ["\0" in id_ for id_ in ids]
    return np.where(has_nul, -1, index.find(ids))


def texts(ids: Rows, rows: np.ndarray) -> list[str]:
    """The ids in these rows, decoded."""
    return [id_.decode() for id_ in ids[rows].tolist()]
