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


class LearnedLengths(Answer):
    """Shorter lengths of the vectors, which are published beside them."""

    method: str = Field(description="what has learned them")
    of: list[int] = Field(description="the longest first")


class Counts(Answer):
    """The size of one entity in a version."""

    rows: int = Field(description="vectors")
    folded: int = Field(description="vectors that were not fitted but folded in")
    engagements: int = Field(description="engagements behind these vectors")
    index: dict[str, Any] | None = Field(
        None, description="the index of neighbours, with its measured recall, if there is one"
    )
    lengths: LearnedLengths | None = Field(
        None, description="the shorter lengths that were learned, if there are any"
    )


class Version(Answer):
    """One published version."""

    id: str = Field(description="NAME/DAY.rREVISION", examples=["author/2022-04-25.r1"])
    name: str
    kind: str = Field(description="embedding, or features for a table of features")
    day: Day
    revision: int
    current: bool = Field(description="whether the day means this revision when none is named")
    aliases: list[str] = Field(description="the aliases that point at it")
    status: str = Field(
        description="current; replaced by another revision of its day; or damaged, by its last "
        "verification"
    )
    verified_at: Moment | None = Field(
        description="when its bytes were last compared with their digests; null: not yet"
    )
    faults: list[str] = Field(description="what was wrong with its files then")
    space: str = Field(description="vectors of two spaces must not be mixed; empty for features")
    dim: int = Field(description="length of a vector; 0 for features")
    entities: dict[str, Counts]
    lineage: dict[str, Any] = Field(description="what the version was computed from")
    digest: str = Field(description="SHA-256 of its content")
    published_at: Moment
    size_bytes: int | None = Field(
        description="of all its files; null if an older Evergreen has published it, and it was not "
        "verified since"
    )
    coverage: dict[str, float] = Field(
        description="entity -> share of the day's engaged ones that have a vector, if it is known"
    )


class Embedding(Answer):
    """One embedding, all versions together."""

    name: str
    versions: int = Field(description="how many there are")
    first_day: Day
    last_day: Day
    latest: Version


class FeatureTable(Embedding):
    """One table of features, all versions together."""

    entity: str
    columns: list[str] | None = Field(
        description="the features of the latest version; null if its files are damaged"
    )


class Move(Answer):
    """One move of an alias. The versions may have been removed since."""

    name: str
    alias: str
    from_version: str | None = Field(description="null before the alias was first set")
    to_version: str | None = Field(description="null after the alias was deleted")
    moved_at: Moment
    reason: str
    moved_by: str = Field(description="who moved it; empty if that was not recorded")


class Source(Answer):
    """Where vectors or scores come from."""

    version: str = Field(description="its id")
    space: str = Field(description="vectors of two spaces must not be mixed")


class ShortenedSource(Source):
    """Where they come from, and how the vectors were shortened."""

    shortened_by: str = Field(
        description="what has learned this length, or prefixes: their leading numbers; empty: they "
        "are whole"
    )


class VectorRecord(Answer):
    """One vector."""

    entity: str
    id: str
    count: int = Field(description="engagements behind the vector")
    folded: bool = Field(description="whether the vector was not fitted but folded in")
    vector: list[float]


class Vectors(ShortenedSource):
    """Vectors in the order of the requested ids."""

    vectors: list[VectorRecord]


class Neighbour(Answer):
    """One result of a search."""

    id: str
    score: float = Field(description="cosine, -1 to 1")
    count: int = Field(description="engagements behind the vector")
    folded: bool = Field(description="whether the vector was not fitted but folded in")


class Recall(Answer):
    """The published recall of an index: how many of the nearest it finds."""

    at_10: float
    at_100: float


class Neighbours(ShortenedSource):
    """The nearest vectors, best first."""

    of: str
    among: str
    exact: bool = Field(description="whether every vector was searched")
    recall: Recall | None = Field(description="of the index that was used instead")
    neighbours: list[Neighbour]


class FoldedVector(ShortenedSource):
    """The vector of a history."""

    known: int = Field(description="producers that the vector is based on")
    unknown: list[str] = Field(description="producers that the version does not have, left out")
    unknown_features: list[str] = Field(
        description="texts of bags of features that the version does not have, left out"
    )
    whole: bool = Field(description="whether the vector is based on all that was given")
    residual: float | None = Field(
        description="what the vector leaves unexplained of the known part, from 0 for nothing; "
        "null where the kind of fold-in defines none"
    )
    vector: list[float]
    neighbours: list[Neighbour] | None = Field(
        description="the nearest producers; null unless k is given"
    )


class Lookalike(Answer):
    """A producer, and its dot products with the groups, summarised."""

    id: str
    mean: float
    max: float
    median: float
    min: float


class Lookalikes(ShortenedSource):
    """Producers for a consumer of these groups, best first."""

    groups: dict[str, int] = Field(description="group -> its number of consumers")
    producers: list[Lookalike]


class Result(Answer):
    """One metric of one benchmark, measured on one version."""

    task: str
    metric: str
    on: Day = Field(description="of the labels")
    value: float
    low: float = Field(description="of the 95 % interval")
    high: float
    n: int = Field(description="users or producers that were judged")
    baselines: dict[str, float] = Field(description="the same metric of others")
    dim: int = Field(description="the length at which vectors were judged; 0: whole")


class ComparedMetric(Answer):
    """One metric of everything that is compared."""

    task: str
    metric: str
    labels_of: str = Field(description="a day, or 'own day' for that of each version")
    results: list[Result | None] = Field(description="one per column")


class Comparison(Answer):
    """Benchmarks side by side."""

    columns: list[str] = Field(description="what is compared")
    rows: list[ComparedMetric]


class Moved(Answer):
    """An id, and the cosine of its vectors in both versions."""

    id: str
    cosine: float


class Drift(Answer):
    """Cosines of the vectors that ids have in both versions."""

    mean: float
    p10: float = Field(description="10th percentile")
    moved: list[Moved] = Field(
        description="of the half with most engagements, the smallest cosines, smallest first"
    )


class EntityDiff(Answer):
    """What differs in one entity."""

    gained: int = Field(description="ids only in b")
    lost: int = Field(description="ids only in a")
    common: int = Field(description="ids in both")
    gained_ids: list[str] = Field(description="a few of them")
    lost_ids: list[str] = Field(description="a few of them")
    sampled: int = Field(description="common ids whose vectors were compared")
    drift: Drift | None
    drift_reason: str = Field(description="why there is no drift")
    overlap: float | None = Field(description="share of the 10 nearest neighbours that stay")


class Change(Answer):
    """A field of the lineage in both versions, null where it is missing."""

    a: Any
    b: Any


class Gain(Answer):
    """By how much b is better than a, with its 95 % interval."""

    value: float
    low: float
    high: float


class Delta(Answer):
    """One benchmark of both versions."""

    name: str
    a: Result
    b: Result
    gain: Gain


class Diff(Answer):
    """What differs between two versions."""

    a: str = Field(description="its id")
    b: str = Field(description="its id")
    entities: dict[str, EntityDiff]
    lineage: dict[str, Change] = Field(description="fields that differ, parts named by dots")
    benchmarks: list[Delta]


class FeatureRow(Answer):
    """The features of one id."""

    id: str
    features: dict[str, float | str | list[float] | None] = Field(
        description="feature -> number, text or vector; null where there is none"
    )


class Features(Answer):
    """Features of any kind, joined."""

    entity: str
    sources: dict[str, Source] = Field(description="feature -> where it was read")
    rows: list[FeatureRow] = Field(description="in the order of the ids")
