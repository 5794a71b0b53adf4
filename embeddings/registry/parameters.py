"""What a request to the service may contain: each parameter with its limit, meaning and example."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Path, Query
from pydantic import BaseModel, Field

from embeddings.registry.aliases import BY_LENGTH, REASON_LENGTH
from embeddings.registry.arrow import MAX_BULK_IDS

# Limits of one request, whose vectors are in memory at once.
MAX_IDS = 1000  # in an address; a body may list MAX_BULK_IDS
MAX_NEIGHBOURS = 1000
MAX_GROUPS = 100  # the work per producer is proportional to it
MAX_STRENGTHS = 10_000
MAX_PROFILE = 1000  # features of one consumer
MAX_FEATURES = 100
MAX_VALUES = 500_000  # ids times features, of which each may be a vector
MAX_COMPARED = 20
MAX_CONDITIONS = 20
MAX_STRENGTH = 3e38  # the largest number of 32 bits is a little larger

A_REFERENCE = "a day, a revision (2022-04-25.r1) or an alias"
A_REASON = "one line, kept in the alias's history"
WHO = "who moves the alias, kept in its history"
UNNAMED = "http"  # moved it, if a request does not say who

Name = Annotated[str, Path(max_length=1000, description="of an embedding", examples=["author"])]
PathReference = Annotated[
    str, Path(max_length=100, description=A_REFERENCE, examples=["2022-04-25.r1"])
]
Reference = Annotated[str, Query(max_length=100, description=A_REFERENCE, examples=["2022-04-25"])]
Key = Annotated[
    str,
    Query(max_length=1000, description="entity:id, as in producer:1196", examples=["producer:1"]),
]
Keys = Annotated[
    list[Key], Query(min_length=1, max_length=MAX_IDS, examples=[["producer:1", "consumer:2"]])
]
ProducerId = Annotated[str, Query(max_length=1000, description="of a producer, as in 1196")]
Producers = Annotated[list[ProducerId] | None, Query(max_length=MAX_IDS, examples=[["1196", "33"]])]
Group = Annotated[str, Query(max_length=1000, description="as in user_active_degree=full_active")]
Groups = Annotated[
    list[Group],
    Query(min_length=1, max_length=MAX_GROUPS, examples=[["user_active_degree=full_active"]]),
]
PathAlias = Annotated[str, Path(max_length=100, description="an alias", examples=["champion"])]
Reason = Annotated[
    str, Query(max_length=REASON_LENGTH, description=A_REASON, examples=["worse for newcomers"])
]
Mover = Annotated[str, Query(min_length=1, max_length=BY_LENGTH, description=WHO, examples=["ann"])]
Alias = Annotated[
    str | None,
    Query(max_length=100, description="an alias; by default all of them", examples=["latest"]),
]
Space = Annotated[
    str | None,
    Query(
        max_length=1000,
        description="the space in which the vectors will be used; any other is refused",
        examples=["author/2022-04-25"],
    ),
]
Dim = Annotated[
    int | None,
    Query(
        ge=1,
        description="the length of the vectors, by default all of it: a learned one where the "
        "version has it, else so many leading numbers",
        examples=[2],
    ),
]
Exact = Annotated[
    bool,
    Query(description="search every vector, also where the version has an index of neighbours"),
]
Among = Annotated[
    str | None,
    Query(
        max_length=1000,
        description="the entity to search, by default that of the id",
        examples=["consumer"],
    ),
]
K = Annotated[
    int, Query(ge=1, le=MAX_NEIGHBOURS, description="the most results to return", examples=[5])
]
FoldedK = Annotated[
    int | None,
    Query(
        ge=1,
        le=MAX_NEIGHBOURS,
        description="how many of the nearest producers to return, by default none",
        examples=[5],
    ),
]
EntityId = Annotated[str, Query(max_length=1000, description="of the searched entity, as in 1196")]
Only = Annotated[
    list[EntityId] | None,
    Query(
        max_length=MAX_IDS,
        description="the ids to search, by default all",
        examples=[["1196", "33"]],
    ),
]
Conditions = Annotated[
    list[Annotated[str, Query(max_length=1000)]] | None,
    Query(
        max_length=MAX_CONDITIONS,
        description="what neighbours must be by their features: NAME.COLUMN=TEXT, =NUMBER, or a "
        "range with both ends, =LOW..HIGH, =LOW.. or =..HIGH",
        examples=[["profile.degree=full_active", "profile.register_days=7..30"]],
    ),
]
VersionId = Annotated[
    str,
    Query(
        max_length=1101,
        description=f"NAME for the latest version, or NAME/ and {A_REFERENCE}",
        examples=["author/2022-04-25"],
    ),
]
Compared = Annotated[
    list[VersionId],
    Query(
        min_length=1,
        max_length=MAX_COMPARED,
        description=f"NAME for all its versions, or NAME/ and {A_REFERENCE}",
        examples=[["author", "author/2022-04-25"]],
    ),
]
By = Annotated[
    str,
    Query(
        max_length=100,
        description="what to rank by: mean, max, median or min of the dot products",
        examples=["mean"],
    ),
]
# The service decides by it, and OpenAPI has another place for it.
Accept = Annotated[str, Header(include_in_schema=False)]
Id = Annotated[str, Field(max_length=1000)]
Text = Annotated[str, Field(max_length=1000)]
Range = Annotated[list[float | None], Field(min_length=2, max_length=2)]


class AliasRequest(BaseModel):
    """Where an alias shall point."""

    alias: str = Field(max_length=100, examples=["champion"])
    version: str = Field(max_length=100, description=A_REFERENCE, examples=["2022-04-25.r1"])
    only_forward: bool = Field(
        False, description="leave the alias where it is if that is a newer version"
    )
    reason: str = Field(
        "",
        max_length=REASON_LENGTH,
        description=A_REASON,
        examples=["the log of 04-26 was wrong"],
    )
    by: str = Field(UNNAMED, min_length=1, max_length=BY_LENGTH, description=WHO, examples=["ann"])


class VectorsRequest(BaseModel):
    """Ids of one entity."""

    entity: str = Field(max_length=1000, examples=["producer"])
    ids: list[Id] = Field(max_length=MAX_BULK_IDS, examples=[["1196", "33"]])


class NeighboursRequest(BaseModel):
    """Which ids may be found, when an address has no room for them. All of them without a limit."""

    only: list[Id] | None = Field(
        None,
        max_length=MAX_BULK_IDS,
        description="the ids to search, by default all",
        examples=[["1196", "33"]],
    )
    where: dict[str, Text | float | Range] | None = Field(
        None,
        max_length=MAX_CONDITIONS,
        description="NAME.COLUMN of a table of features -> the text, the number, or the range "
        "[low, high] of numbers, null for no end",
        examples=[{"profile.degree": "full_active", "profile.register_days": [7, None]}],
    )


class FeaturesRequest(BaseModel):
    """Which features of which ids."""

    entity: str = Field(max_length=1000, examples=["consumer"])
    ids: list[Id] = Field(max_length=MAX_BULK_IDS, examples=[["42", "7"]])
    names: list[Annotated[str, Field(max_length=1000)]] = Field(
        min_length=1,
        max_length=MAX_FEATURES,
        description="NAME of an embedding or NAME.COLUMN of a table, and @VERSION for one other "
        "than the latest",
        examples=[["profile.register_days", "author@champion"]],
    )
    as_of: str | None = Field(
        None,
        max_length=100,
        description="a day, after which nothing is read",
        examples=["2022-05-01"],
    )
    space: str | None = Field(
        None,
        max_length=1000,
        description="every embedding must be in it",
        examples=["author/2022-04-25"],
    )


Bag = Annotated[
    dict[str, Annotated[float, Field(gt=0, le=MAX_STRENGTH)]], Field(max_length=MAX_STRENGTHS)
]


class History(BaseModel):
    """The engagements of a consumer, and its profile."""

    strengths: dict[str, Annotated[float, Field(le=MAX_STRENGTH)]] = Field(
        default_factory=dict,
        max_length=MAX_STRENGTHS,
        description="producer id -> strength, > 0; at least one, unless there are features",
        examples=[{"1196": 3.0, "33": 1.0}],
    )
    features: dict[str, str | float | Bag] = Field(
        default_factory=dict,
        max_length=MAX_PROFILE,
        description="name -> value, for a version whose fold-in reads features; the value of a bag "
        "is an object, text -> weight > 0",
        examples=[{}],
    )
