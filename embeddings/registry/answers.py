"""What a version answers: vectors, neighbours, folded vectors, scored producers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from embeddings.registry.search import Recall
from embeddings.registry.versions import Version

T = TypeVar("T")


class Results(list[T]):
    """A list of results, and the version that they come from.

    recall: the published recall if the search was approximate; None if it was exact. shortened_by:
    how the vectors were shortened, see `Version.shortened_by`.
    """

    def __init__(
        self,
        version: Version,
        results: Iterable[T],
        recall: Recall | None = None,
        shortened_by: str = "",
    ) -> None:
        super().__init__(results)
        self.version = version
        self.recall = recall
        self.shortened_by = shortened_by

    @property
    def exact(self) -> bool:
        """Was everything searched?"""
        return self.recall is None


@dataclass(frozen=True)
class Lookup:
    """The vectors of requested ids in the requested order, and the version they come from.

    Shapes as in `Vectors`, but ids are texts. shortened_by: how the vectors were shortened, see
    `Version.shortened_by`.
    """

    version: Version
    entity: str
    ids: list[str]
    vectors: np.ndarray
    counts: np.ndarray
    folded: np.ndarray
    shortened_by: str = ""


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

    vector: (k,) float32. known: number of interactions, one per producer, that it is based on.
    unknown: ids that are not in the version and were left out. residual: the length of what the
    vector leaves unexplained of the known part of the history, over the length of that part: 0 if
    it explains everything; None where the kind of fold-in defines none. neighbours: the nearest
    producers, which may be part of the history; None unless requested. unknown_features: what of a
    bag of features the version does not have, as in `domain=17`. shortened_by: as in `Lookup`.
    """

    version: Version
    vector: np.ndarray
    known: int
    unknown: list[str]
    residual: float | None = None
    neighbours: list[Neighbour] | None = None
    unknown_features: list[str] = field(default_factory=list)
    shortened_by: str = ""

    @property
    def whole(self) -> bool:
        """Is the vector based on all that was given?"""
        return not self.unknown and not self.unknown_features


@dataclass(frozen=True)
class Lookalike:
    """A producer, and its dot products with the requested groups, summarised."""

    id: str
    mean: float
    max: float
    median: float
    min: float
