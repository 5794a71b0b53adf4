"""A file of features with one row for each id: CSV with a header line, or Parquet.

What is in a CSV file is text, unless it is said to be a number: "007" and "1e5" may be names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from embeddings.registry.checks import TEXT_LENGTH
from embeddings.registry.errors import BadRequest

PARQUET = b"PAR1"  # the first bytes of such a file
ID = "id"
LONGEST_ID = 10_000  # bytes, as the loop's own limit


def read_table(
    file: Path, id_column: str = ID, numeric: Sequence[str] = ()
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Ids, (n,) 'S', sorted, and a column of the same order for each other column of the file.

    numeric: the columns of a CSV file that hold numbers; an empty field is a missing one. Parquet
    knows its own types. Raises BadRequest, which names the file, the column and the row.
    """
    table = as_table(file)
    absent = [name for name in (id_column, *numeric) if name not in table.column_names]
    if absent:
        raise BadRequest(
            f"{file} has no column {', '.join(map(repr, absent))}; "
            f"its columns are {', '.join(map(repr, table.column_names))}."
        )
    ids = ids_of(file, table[id_column])
    order = np.argsort(ids)
    columns = {}
    for name in table.column_names:
        if name != id_column:
            columns[name] = column_of(file, name, table[name], name in numeric)[order]
    return ids[order], columns


def as_table(file: Path) -> pa.Table:
    """The whole file; all of a CSV file as texts. Raises BadRequest."""
    try:
        with file.open("rb") as opened:
            if opened.read(len(PARQUET)) == PARQUET:
                return pq.read_table(file)
        names = header_of(file)
        texts = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        )
        parsing = pa.csv.ParseOptions(newlines_in_values=True)
        return pa.csv.read_csv(file, parse_options=parsing, convert_options=texts)
    except (OSError, pa.ArrowException) as error:
        raise BadRequest(
            f"{file} cannot be read as a table: {error}. Expected is Parquet, or CSV in UTF-8 with "
            "commas between its fields and one header line."
        ) from error


def header_of(file: Path) -> list[str]:
    """The names in a CSV file's first line. Raises BadRequest if one is there twice."""
    with pa.csv.open_csv(file) as opened:
        names = opened.schema.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadRequest(f"{file} has the column {', '.join(map(repr, twice))} twice.")
    return names


def ids_of(file: Path, column: pa.ChunkedArray) -> np.ndarray:
    """The ids as UTF-8. Raises BadRequest for one that is missing or there twice."""
    if not (pa.types.is_integer(column.type) or is_text(column.type)):
        raise BadRequest(f"{file}: an id must be a text or a whole number, not {column.type}.")
    texts = encoded(file, "id", column, LONGEST_ID)
    if (texts == b"").any():
        raise BadRequest(f"{file}: row {int(np.argmax(texts == b'')) + 1} has no id.")
    distinct, counts = np.unique(texts, return_counts=True)
    if len(distinct) < len(texts):
        twice = distinct[np.argmax(counts > 1)].decode()
        raise BadRequest(f"{file} has the id {twice!r} more than once; keep one row of each id.")
    return texts


def column_of(file: Path, name: str, column: pa.ChunkedArray, is_number: bool) -> np.ndarray:
    """Numbers with NaN where one is missing, or texts as UTF-8. Raises BadRequest."""
    if is_text(column.type) and not is_number:
        return encoded(file, name, column, TEXT_LENGTH)
    if is_text(column.type):
        column = pc.if_else(pc.equal(column, ""), None, column)
    try:
        numbers = column.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise BadRequest(f"{file}: the column {name!r} must hold numbers. {error}.") from None
    except pa.ArrowNotImplementedError:
        raise BadRequest(
            f"{file}: the column {name!r} is {column.type}; a feature is a number or a text."
        ) from None
    return numbers.to_numpy()


def encoded(file: Path, name: str, column: pa.ChunkedArray, most: int) -> np.ndarray:
    """Texts as UTF-8 of kind 'S'; a missing one is empty. Raises BadRequest for one too long.

    Every text takes as much memory as the longest: an open quote must not become a text.
    """
    texts = column.cast(pa.string()).fill_null("").cast(pa.binary())
    lengths = pc.binary_length(texts).to_numpy()
    if len(lengths) and lengths.max() > most:
        row = int(np.argmax(lengths))
        raise BadRequest(
            f"{file}: the column {name!r} has a text of {lengths[row]:,} bytes in row {row + 1}; "
            f"at most {most:,} are published. Is there a quote that is not closed?"
        )
    return texts.to_numpy().astype("S")


def is_text(type_: pa.DataType) -> bool:
    is_plain = pa.types.is_string(type_) or pa.types.is_large_string(type_)
    return is_plain or (pa.types.is_dictionary(type_) and is_text(type_.value_type))
