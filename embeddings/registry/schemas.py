"""The service's answers as types. They describe the JSON in OpenAPI.

The service does not build its answers from these models, because checking every number of a vector
takes longer than looking the vector up. The tests check that every answer is one of these.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Day = Annotated[str, Field(json_schema_extra={"format": "date"})]
Moment = Annotated[str, Field(description="UTC", json_schema_extra={"format": "date-time"})]


class Answer(BaseModel):
    """Base of all answers: fields are complete and no others occur."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Error(Answer):
    """Why a request has no answer, and what to do about it."""

    error: str = Field(description="the kind of error, as in UnknownId")
    detail: str = Field(description="the culprit, what was expected, and the remedy")
    near: list[str] = Field(description="similar names that exist")


class Health(Answer):
    """The service runs and can read its catalog."""

    status: str
    embeddings: int = Field(description="how many there are")


class Counts(Answer):
    """The size of one entity in a version."""

    rows: int = Field(description="vectors")
    folded: int = Field(description="vectors that were not fitted but folded in")
    engagements: int = Field(description="engagements behind these vectors")


class Version(Answer):
    """One published version."""

    id: str = Field(description="NAME/DAY.rREVISION", examples=["author/2022-04-25.r1"])
    name: str
    day: Day
    revision: int
    current: bool = Field(description="whether the day means this revision when none is named")
    aliases: list[str] = Field(description="the aliases that point at it")
    space: str = Field(description="vectors of two spaces must not be mixed")
    dim: int = Field(description="length of a vector")
    entities: dict[str, Counts]
    lineage: dict[str, Any] = Field(description="what the version was computed from")
    digest: str = Field(description="SHA-256 of its content")
    published_at: Moment


class Embedding(Answer):
    """One embedding, all versions together."""

    name: str
    versions: int = Field(description="how many there are")
    first_day: Day
    last_day: Day
    latest: Version


class Move(Answer):
    """One move of an alias. The versions may have been removed since."""

    name: str
    alias: str
    from_version: str | None = Field(description="null before the alias was first set")
    to_version: str | None = Field(description="null after the alias was deleted")
    moved_at: Moment
    reason: str


class Source(Answer):
    """Where vectors or scores come from."""

    version: str = Field(description="its id")
    space: str = Field(description="vectors of two spaces must not be mixed")


class VectorRecord(Answer):
    """One vector."""

    entity: str
    id: str
    count: int = Field(description="engagements behind the vector")
    folded: bool = Field(description="whether the vector was not fitted but folded in")
    vector: list[float]


class Vectors(Source):
    """Vectors in the order of the requested ids."""

    vectors: list[VectorRecord]


class Neighbour(Answer):
    """One result of a search."""

    id: str
    score: float = Field(description="cosine, -1 to 1")
    count: int = Field(description="engagements behind the vector")
    folded: bool = Field(description="whether the vector was not fitted but folded in")


class Neighbours(Source):
    """The nearest vectors, best first."""

    of: str
    among: str
    neighbours: list[Neighbour]


class FoldedVector(Source):
    """The vector of a history."""

    known: int = Field(description="producers that the vector is based on")
    unknown: list[str] = Field(description="producers that the version does not have, left out")
    vector: list[float]


class Lookalike(Answer):
    """A producer, and its dot products with the groups, summarised."""

    id: str
    mean: float
    max: float
    median: float
    min: float


class Lookalikes(Source):
    """Producers for a consumer of these groups, best first."""

    groups: dict[str, int] = Field(description="group -> its number of consumers")
    producers: list[Lookalike]
