"""Finding the files of a log, checking their columns, and naming the file in every error."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.errors import BadInput

# Classic Spark and Spark Connect report this failure in the same words, except for the number of
# slashes after "file:".
SPARK_READ_FAILURE = re.compile(
    r"FAILED_READ_FILE.*?reading file (?:file:/*(?=/))?(\S+?)\.?\s", re.DOTALL
)


def find_files(path: Path, setting: str = "source.path") -> list[Path]:
    """A file itself, all files below a folder, or the matches of a glob; sorted.

    Hidden files and marks such as _SUCCESS are not data. setting: the option to name in the error.
    """
    if path.is_file():
        return [path]
    candidates = path.rglob("*") if path.is_dir() else matches_of(path)
    files = []
    for file in sorted(candidates):
        if file.is_file() and not file.name.startswith((".", "_")):
            files.append(file)
    if not files:
        raise BadInput(
            f"There is no file at {path}. Set {setting} to a file, a folder with files, or a glob."
        )
    return files


def matches_of(pattern: Path) -> Iterator[Path]:
    # `Path.glob` accepts relative patterns only.
    root = Path(pattern.anchor)
    return root.glob(str(pattern.relative_to(root)))


def header_of(file: Path, separator: str = ",") -> tuple[str, ...]:
    """The column names in the first line of a CSV file, gzipped or not."""
    opened = gzip.open if file.suffix == ".gz" else open
    with naming(file), opened(file, "rt") as stream:
        names = next(csv.reader(stream, delimiter=separator), [])
    if not names:
        raise BadInput(f"{file} is empty; expected a header line with the names of its columns.")
    # A byte order mark at the start of the file would be part of the first name.
    return tuple(name.strip().removeprefix("\ufeff") for name in names)


def parquet_columns(file: Path) -> tuple[str, ...]:
    """The column names of a Parquet file."""
    from pyarrow import parquet

    with naming(file):
        return tuple(parquet.read_schema(file).names)


def require_columns(file: Path, columns: Iterable[str], required: dict[str, str]) -> None:
    """Raise BadInput for the first required column that the file lacks.

    columns: those of the file. required: column -> the remedy when it is missing.
    """
    columns = list(columns)
    for column, remedy in required.items():
        if column not in columns:
            raise BadInput(
                f"{file} has no column '{column}'. It has: {', '.join(columns)}. {remedy}"
            )


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Turn a failure of this process to read the file into BadInput with the file's name."""
    import pyarrow as pa

    try:
        yield
    except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as error:
        raise BadInput(
            f"{file} cannot be read: {error}. "
            "It may be truncated or not in the format that its name claims; fetch it again."
        ) from error


@contextmanager
def naming_the_file() -> Iterator[None]:
    """Turn a Spark job's failure to read a file into BadInput with that file's name."""
    try:
        yield
    except Exception as error:
        failure = SPARK_READ_FAILURE.search(str(error))
        if failure is None:
            raise
        raise BadInput(
            f"{failure[1]} cannot be read to its end. "
            "It may be truncated or damaged; fetch it again."
        ) from error
