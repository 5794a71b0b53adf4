"""Columns of a log -> columns of ours. Nothing is rounded, guessed or replaced on the way."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.intake.dialect import STAND_IN, Dialect

NOT_UTF8 = "not_utf8"
NOT_EXACT = "not_exact"
UNREADABLE = "unreadable"

# Whole numbers as columns of floats write them: 5.0, 2.0000001E7, 2e+16. A text such as 1e5 without
# a point or a sign may be a name.
FLOAT_TEXT = re.compile(r"-?(?:0|[1-9]\d*)\.0*|-?\d\.\d+[eE][+-]?\d+|-?\d[eE]\+\d+")
# Up to these, every whole number is a float of its own: 2^53 is also what 2^53 + 1 becomes.
EXACT = (1 << 53) - 1
EXACT_OF = {pa.float16(): (1 << 11) - 1, pa.float32(): (1 << 24) - 1, pa.float64(): EXACT}
NUMBER_TEXT = re.compile(
    r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|infinity|nan)", re.I
)
LABELS = {"0": 0, "1": 1, "true": 1, "false": 0}

# The values, and where something was there that cannot be one: reason -> rows; mostly empty.
Read = tuple[pa.Array, dict[str, np.ndarray]]


def by_value(column: pa.Array, read: Callable[[object], object | Fail], kind: pa.DataType) -> Read:
    """Read each distinct value once. read: returns the value, None, or a `Fail`."""
    encoded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
    values: list[object] = []
    failed: dict[str, list[int]] = {}
    for index, value in enumerate(encoded.dictionary.to_pylist()):
        found = None if value is None else read(value)
        if isinstance(found, Fail):
            failed.setdefault(found.reason, []).append(index)
            found = None
        values.append(found)
    taken = pa.array(values, kind).take(encoded.indices)
    indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    faults = {reason: np.isin(indices, which) for reason, which in failed.items()}
    return taken, faults


class Fail:
    """What a value is that cannot be read."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def text(column: pa.Array, dialect: Dialect) -> Read:
    """Ids and categories, as text without blanks around it; null where nothing is there.

    A whole number is written as one, whether it comes as 5, 5.0 or 2.0000001E7.
    """
    column = without_codes(column)
    kind = column.type
    if pa.types.is_integer(kind):
        return column.cast(pa.string()), {}
    if is_text(kind):
        column = column.cast(pa.binary()) if pa.types.is_large_binary(kind) else column
        return texts(column, dialect)
    if pa.types.is_floating(kind):
        return by_value(as_double(column), lambda value: id_of_float(value, kind), pa.string())
    return by_value(column, lambda value: plain(value, dialect), pa.string())


def without_codes(column: pa.Array) -> pa.Array:
    """Numbers that are stored as a dictionary and codes as what they are; texts stay so."""
    if isinstance(column, pa.DictionaryArray) and not is_text(column.type.value_type):
        return column.dictionary_decode()
    return column


def texts(column: pa.Array, dialect: Dialect) -> Read:
    """The same for a column of text or bytes, without a loop where every value is plain."""
    encoded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
    try:
        words = encoded.dictionary.cast(pa.string())
    except pa.ArrowInvalid:  # not UTF-8
        return by_value(encoded, lambda value: plain(value, dialect), pa.string())
    words = pc.utf8_trim_whitespace(words)
    odd = pc.match_substring_regex(words, r"^-?[0-9.]+([eE][+-]?\d+)?$")
    odd = pc.and_(odd, pc.match_substring_regex(words, r"[.+]|[eE]-"))
    if pc.any(odd).as_py() or dialect.byte == STAND_IN:
        return by_value(encoded, lambda value: plain(value, dialect), pa.string())
    nothing = pc.is_in(words, pa.array(dialect.nulls, pa.string()))
    words = pc.if_else(nothing, pa.scalar(None, pa.string()), words)
    return words.take(encoded.indices), {}


def as_double(column: pa.Array) -> pa.Array:
    """Floats of any width as float64; Arrow has few functions for half ones."""
    return column.cast(pa.float64()) if pa.types.is_floating(column.type) else column


def id_of_float(value: object, kind: pa.DataType) -> str | Fail | None:
    """One id of a column of floats: a whole number, if the column can tell it from the next one."""
    assert isinstance(value, float)
    if math.isnan(value):
        return None
    if math.isinf(value):
        return Fail(UNREADABLE)
    if value % 1 != 0:
        return str(value)
    return str(int(value)) if abs(value) <= EXACT_OF[kind] else Fail(NOT_EXACT)


def plain(value: object, dialect: Dialect) -> str | Fail | None:
    """One id or category as text."""
    match value:
        case bool():
            return str(value).lower()
        case Decimal() if value.is_nan():
            return None
        case Decimal() if value.is_finite() and value % 1 == 0:
            return str(int(value))
        case bytes():
            try:
                return plain(value.decode(), dialect)
            except UnicodeDecodeError:
                return Fail(NOT_UTF8)
        case str():
            if dialect.byte == STAND_IN:
                value = value.replace(STAND_IN.decode(), dialect.separator)
            word = value.strip()
            return None if word in dialect.nulls else whole_text(word)
    return str(value)


def whole_text(word: str) -> str | Fail:
    """5.0 -> 5; any text that is not a whole number written as a float stays as it is."""
    if not FLOAT_TEXT.fullmatch(word):
        return word
    number = Decimal(word)
    if number % 1 != 0:
        return word
    written_out = "e" not in word.lower()
    return str(int(number)) if written_out or abs(number) <= EXACT else Fail(NOT_EXACT)


def number(column: pa.Array, dialect: Dialect) -> Read:
    """Numbers, as float64; those that a text cannot hold are for validation to judge."""
    column = without_codes(column)
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.float64(), safe=False), {}
    return by_value(column, lambda value: float_of(value, dialect), pa.float64())


def float_of(value: object, dialect: Dialect) -> float | Fail | None:
    word = plain_text(value)
    if word is None or word in dialect.nulls:
        return None
    return float(word) if NUMBER_TEXT.fullmatch(word) else Fail(UNREADABLE)


def whole(column: pa.Array, dialect: Dialect) -> Read:
    """Whole numbers, as int64."""
    column = without_codes(column)
    if pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type):
        return column.cast(pa.int64()), {}
    most = EXACT_OF.get(column.type, EXACT)
    return by_value(as_double(column), lambda value: int_of(value, dialect, most), pa.int64())


def int_of(value: object, dialect: Dialect, most: int = EXACT) -> int | Fail | None:
    """One whole number. most: up to where each whole number is a float of its own."""
    found = float_of(value, dialect)
    if not isinstance(found, float):
        return found
    if found != found:
        return None
    exact = abs(found) <= most and found % 1 == 0
    return int(found) if exact else Fail(UNREADABLE)


def label(column: pa.Array, dialect: Dialect) -> Read:
    """Labels, as int32: what 0, 1, true and false are, and other whole numbers as they are."""
    column = as_double(without_codes(column))
    return by_value(column, lambda value: label_of(value, dialect), pa.int32())


def label_of(value: object, dialect: Dialect) -> int | Fail | None:
    word = plain_text(value)
    if word is None or word in dialect.nulls:
        return None
    if word.lower() in LABELS:
        return LABELS[word.lower()]
    found = int_of(value, dialect)
    return found if not isinstance(found, int) or abs(found) < 1 << 31 else Fail(UNREADABLE)


def plain_text(value: object) -> str | None:
    """A value as text without blanks around it; None for bytes that are not UTF-8."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace").strip()
    return str(value).strip()


def is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


READERS = {"text": text, "number": number, "whole": whole, "label": label}
TYPES = {
    "text": pa.string(),
    "number": pa.float64(),
    "whole": pa.int64(),
    "label": pa.int32(),
    "time": pa.int64(),
}
