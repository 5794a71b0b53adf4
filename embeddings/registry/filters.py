"""Conditions on features: which ids of an entity a search may return.

A condition names a column of a published table, and the text that it must be, the number, or the
range of numbers, with both ends in it; None stands for no end. In an address or a command line:

    profile.user_active_degree=full_active
    profile.register_days=7     =7..30     =7..     =..30
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from embeddings.registry import features, files
from embeddings.registry.errors import BadRequest
from embeddings.registry.features import Opened, Reference, Table
from embeddings.registry.loaded import Loaded
from embeddings.registry.versions import Version

Range: TypeAlias = tuple[float | None, float | None]
Condition: TypeAlias = str | float | Range | Sequence[float | None]
Where: TypeAlias = Mapping[str, Condition]

RANGE = ".."


def parsed(texts: Sequence[str]) -> dict[str, Condition]:
    """'profile.register_days=7..30' as a condition. Raises BadRequest."""
    where: dict[str, Condition] = {}
    for text in texts:
        feature, equals, value = text.partition("=")  # no feature has a = in its name
        if not equals:
            raise BadRequest(
                f"{text!r} is not a condition; write it as NAME.COLUMN=VALUE, or as "
                "NAME.COLUMN=LOW..HIGH for a range of numbers."
            )
        if feature in where:
            raise BadRequest(f"{feature!r} has two conditions; give one, which may be a range.")
        where[feature] = value
    return where


def rows_where(
    loaded: Loaded, entity: str, where: Mapping[Reference, Condition], opened: Opened
) -> np.ndarray:
    """The rows of an entity that meet all conditions, ascending.

    opened: the source of every reference -> its version, as `Registry.features` opens them. Raises
    BadRequest, UnknownEntity, UnknownFeature.
    """
    met = np.ones(len(loaded.entity(entity)), bool)
    for reference, condition in where.items():
        table = opened[reference.source]
        if isinstance(table, Loaded):
            raise BadRequest(
                f"'{reference.text}' is an embedding, which no condition can be about: use a "
                "column of a table of features, as in profile.register_days."
            )
        features.index_of(table, entity)  # raises UnknownEntity
        of_condition = np.zeros(len(met) + 1, bool)  # the last for rows of the table that are -1
        rows = _joined_rows(loaded.version, entity, table.version)
        of_condition[rows[fulfilled(table, reference, condition)]] = True
        met &= of_condition[:-1]
    return np.flatnonzero(met)


@lru_cache(maxsize=16)  # pairs of a version and a table; ids are searched once, not per request
def _joined_rows(version: Version, entity: str, table: Version) -> np.ndarray:
    """The row of an entity that each row of a table belongs to, (n,) int32, -1 for none."""
    stored = files.open_files(version.place, version.folder).entities[entity]
    return stored.rows(features.open_table(table).ids).astype(np.int32)


def fulfilled(table: Table, reference: Reference, condition: Condition) -> np.ndarray:
    """Which rows of a table meet a condition, (n,) bool. Raises BadRequest, UnknownFeature."""
    column = features.column_of(table, reference)
    if column.dtype.kind == "S":
        if not isinstance(condition, str):
            raise BadRequest(
                f"'{reference.text}' holds texts, so {condition!r} cannot be its value: give one "
                f"text, such as {_example(column)!r}."
            )
        return column == condition.encode(errors="surrogatepass")
    low, high = _ends(reference, condition)
    # Widened, so that no end of a range overflows. A missing number, NaN, meets no condition.
    numbers = column.astype(np.float64)
    return (numbers >= low) & (numbers <= high)


def _example(column: np.ndarray) -> str:
    return column[:1].tolist()[0].decode()


def _ends(reference: Reference, condition: Condition) -> tuple[float, float]:
    """The smallest and the largest number that meet a condition. Raises BadRequest."""
    try:
        low, high = _pair(condition)
        return _number(low, -math.inf), _number(high, math.inf)
    except (TypeError, ValueError):
        raise BadRequest(
            f"'{reference.text}' holds numbers, so {condition!r} cannot be its value: give a "
            "number, or a range as in 7..30, 7.. or ..30."
        ) from None


def _pair(condition: Condition) -> Sequence[object]:
    """Both ends of a condition about numbers, as they were given."""
    if isinstance(condition, str) and RANGE in condition:
        low, _, high = condition.partition(RANGE)
        return low or None, high or None
    if isinstance(condition, Sequence) and not isinstance(condition, str):
        return condition
    return condition, condition


def _number(end: object, missing: float) -> float:
    """An end of a range. Raises ValueError, TypeError unless it is a finite number or None."""
    if end is None:
        return missing
    number = float(end)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError
    return number
