"""Features by name: columns of published tables, and whole vectors of embeddings.

A table of features is a version as an embedding is one: immutable, with digest, revisions and
aliases. Its files:

    versions/<name>/day=2022-04-25/<digest>/ids.npy                  sorted
    versions/<name>/day=2022-04-25/<digest>/columns/<column>.npy     row i belongs to ids[i]
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from sqlalchemy.orm import Session

from embeddings.registry import aliases, files, versions
from embeddings.registry.catalog import VersionRow
from embeddings.registry.checks import checked_table
from embeddings.registry.errors import (
    BadRequest,
    UnknownEntity,
    UnknownFeature,
    missing,
)
from embeddings.registry.loaded import Loaded, find_rows
from embeddings.registry.vectors import Index
from embeddings.registry.versions import FEATURES, REFERENCE, Version
from embeddings.storage.place import Place

# author, author@champion, profile.register_days, profile.register_days@2022-05-01
FEATURE = re.compile(r"([^.@]+)(?:\.([^.@]+))?(?:@(.+))?", re.DOTALL)


@dataclass(frozen=True)
class Table:
    """A published table of features of one entity, memory-mapped and read-only.

    ids: (n,) 'S', sorted. columns: name -> (n,) numbers, NaN where one is missing, or 'S' texts.
    """

    version: Version
    entity: str
    ids: np.ndarray
    columns: dict[str, np.ndarray]


# What features are read from, by the source of their references.
Opened: TypeAlias = Mapping[tuple[str, str], Loaded | Table]


@dataclass(frozen=True)
class Feature:
    """One feature of the requested ids.

    values: (n, dim) float32 of an embedding; of a column (n,) floats, or 'S' texts. mask: (n,)
    bool, True where the id has the feature; elsewhere the value is NaN, or empty. version: where it
    was read.
    """

    version: Version
    values: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class Features:
    """Features of the requested ids, joined: row i of every array belongs to ids[i].

    features: by name as requested, in that order.
    """

    entity: str
    ids: list[str]
    features: dict[str, Feature]

    @property
    def mask(self) -> np.ndarray:
        """(n, number of features) bool: which id has which feature."""
        return np.column_stack([feature.mask for feature in self.features.values()])

    def matrix(self) -> np.ndarray:
        """All numbers side by side, (n, total width) floats. Raises BadRequest for texts."""
        texts = [name for name, one in self.features.items() if one.values.dtype.kind == "S"]
        if texts:
            raise BadRequest(f"{', '.join(texts)}: texts cannot be in a matrix of numbers.")
        return np.column_stack([feature.values for feature in self.features.values()])


@dataclass(frozen=True)
class Reference:
    """What the name of a feature refers to. column: empty for an embedding."""

    text: str
    name: str
    column: str
    version: str

    @property
    def source(self) -> tuple[str, str]:
        """What it is read from: equal sources are one version."""
        return self.name, self.version


def parse(text: str) -> Reference:
    """A feature's name: NAME or NAME.COLUMN, and @VERSION for one other than the latest.

    Raises BadRequest.
    """
    match = FEATURE.fullmatch(text)
    if match is None:
        raise BadRequest(
            f"{text!r} is not the name of a feature, as author, author@champion or "
            "profile.register_days@2022-04-25 are."
        )
    return Reference(text, match[1], match[2] or "", match[3] or "")


def resolved(session: Session, reference: Reference, as_of: date | None) -> VersionRow:
    """The version of a feature. Raises BadRequest, UnknownName, UnknownVersion.

    as_of: a day after which nothing may have been published. An alias is refused then, whatever it
    points at: where it points was decided later.
    """
    if as_of is None:
        return aliases.found(session, reference.name, reference.version or versions.LATEST)
    if not reference.version:
        return versions.until(session, reference.name, as_of)
    match = REFERENCE.fullmatch(reference.version)
    if match is None:
        raise BadRequest(
            f"{reference.text!r} names an alias, which may have moved after {as_of}. "
            f"With as_of, use {reference.text.partition('@')[0]!r} for the newest day until then, "
            "or name a day."
        )
    if versions.calendar_day(match[1]) > as_of:
        raise BadRequest(f"{reference.text!r} is of a later day than as_of, {as_of}.")
    return aliases.found(session, reference.name, reference.version)


def joined(
    entity: str,
    ids: Sequence[str],
    references: Sequence[Reference],
    opened: Opened,
) -> Features:
    """The features of these ids. opened: the source of every reference -> its version.

    Raises BadRequest, UnknownEntity, UnknownFeature.
    """
    rows: dict[tuple[str, str], np.ndarray] = {}  # one search for all columns of a table
    read = {}
    for reference in references:
        source = opened[reference.source]
        if reference.source not in rows:
            rows[reference.source] = find_rows(index_of(source, entity), ids)
        of_ids = rows[reference.source]
        if isinstance(source, Table):
            read[reference.text] = from_table(source, reference, of_ids)
        else:
            read[reference.text] = from_embedding(source, reference, entity, of_ids)
    return Features(entity, list(ids), read)


def index_of(source: Loaded | Table, entity: str) -> Index:
    """The index of an entity. Raises UnknownEntity."""
    if isinstance(source, Loaded):
        return source.entity(entity).index
    if entity != source.entity:
        raise UnknownEntity(*missing("entity", entity, [source.entity], of=source.version.id))
    return Index(source.ids)


def from_table(table: Table, reference: Reference, rows: np.ndarray) -> Feature:
    """A column's values in these rows, -1 for none. Raises BadRequest, UnknownFeature."""
    column = column_of(table, reference)
    known = rows >= 0
    if column.dtype.kind == "S":
        return Feature(table.version, np.where(known, column[rows], b""), known)
    # A type that has NaN and all numbers of the column.
    values = np.full(len(rows), np.nan, np.result_type(column.dtype, np.float32))
    values[known] = column[rows[known]]
    return Feature(table.version, values, ~np.isnan(values))


def column_of(table: Table, reference: Reference) -> np.ndarray:
    """The whole column that a reference names, (n,). Raises BadRequest, UnknownFeature."""
    existing = [f"{reference.name}.{column}" for column in table.columns]
    if not reference.column:
        raise BadRequest(
            f"'{reference.name}' is a table of features; name one of them: {', '.join(existing)}."
        )
    if reference.column not in table.columns:
        wanted = f"{reference.name}.{reference.column}"
        raise UnknownFeature(*missing("feature", wanted, existing, of=table.version.id))
    return table.columns[reference.column]


def from_embedding(loaded: Loaded, reference: Reference, entity: str, rows: np.ndarray) -> Feature:
    """The vectors in these rows, -1 for none. Raises BadRequest."""
    if reference.column:
        raise BadRequest(
            f"'{reference.name}' is an embedding, which has no feature {reference.column!r}: "
            f"use {reference.name!r} for its vectors."
        )
    known = rows >= 0
    values = np.full((len(rows), loaded.version.dim), np.nan, np.float32)
    values[known] = loaded.entity(entity).vectors[rows[known]]
    return Feature(loaded.version, values, known)


def publishing_table(
    place: Place,
    name: str,
    day: date,
    entity: str,
    ids: np.ndarray,
    columns: Mapping[str, np.ndarray],
    lineage: dict[str, Any],
) -> AbstractContextManager[dict[str, Any]]:
    """As `files.publishing_files`, for a table of features."""
    stored_ids, stored = checked_table(entity, ids, columns)

    def write(staging: Path) -> dict[str, Any]:
        np.save(staging / "ids.npy", stored_ids, allow_pickle=False)
        (staging / "columns").mkdir()
        for column, values in stored.items():
            np.save(staging / "columns" / f"{column}.npy", values, allow_pickle=False)
        counts = {"rows": len(stored_ids), "folded": 0, "engagements": 0}
        return {"kind": FEATURES, "entities": {entity: counts}, "columns": list(stored)}

    return files.publishing_content(place, name, day, write, lineage)


def as_of_day(given: date | str | None) -> date | None:
    """The day of `as_of`. Raises BadRequest."""
    if isinstance(given, str):
        return versions.calendar_day(given)
    if given is not None:
        versions.require_day(given)
    return given


def open_table(version: Version) -> Table:
    """Map a table's arrays, once per process. Raises BadRequest, DamagedVersion."""
    if version.kind != FEATURES:
        raise BadRequest(f"{version.id} is an {version.kind}, not a table of features.")
    place, home = version.place, version.folder
    entity, ids, columns = _open(place, home, files.identity(place, home))
    return Table(version, entity, ids, columns)


@lru_cache(maxsize=64)  # as many as versions of embeddings
def _open(
    place: Place, home: Path, identity: tuple[int, int]
) -> tuple[str, np.ndarray, dict[str, np.ndarray]]:
    """The entity, the ids and the columns. identity: that of the folder."""
    with files.opening(place, home) as manifest:
        content = manifest["content"]
        (entity,) = content["entities"]
        ids = files.mapped(home / "ids.npy")
        columns = {}
        for column in content["columns"]:
            columns[column] = files.mapped(home / "columns" / f"{column}.npy")
    return entity, ids, columns
