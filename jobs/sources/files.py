"""Finding the files of a log, checking their columns, and naming the file in every error."""

from __future__ import annotations

import csv
import gzip
import os
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

    A path that exists is never a glob. Links are followed. What is hidden, or begins with _, is not
    data: marks such as _SUCCESS, and folders such as .ipynb_checkpoints and _temporary with all
    that is in them. setting: the option to name in the error.
    """
    if path.is_file():
        return [path]
    found = files_below(path) if path.is_dir() else matches_of(path)
    files = sorted(file for file in found if is_data(file))
    if not files:
        raise BadInput(
            f"There is no file at {path}. Set {setting} to a file, a folder with files, or a glob."
        )
    return once(files)


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, and below the folders that links in it point to, each once."""
    seen = set()
    top = Path(os.path.realpath(folder))
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(parent)
        # A link to a folder above it, which may have more than the log.
        if real in seen or (Path(real) != top and top.is_relative_to(real)):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in names:
            yield Path(parent, name)


def is_data(path: Path) -> bool:
    """A file, or a link that leads nowhere, which is then named as what cannot be read."""
    there = path.is_file() or (path.is_symlink() and not path.exists())
    return there and not is_hidden(path.name)


def size_of(file: Path) -> int:
    """Bytes of a file; 0 of a link that leads nowhere."""
    return file.stat().st_size if file.exists() else 0


def once(files: list[Path]) -> list[Path]:
    """Without files that another one of them is a link to: their rows would count twice."""
    first: dict[str, Path] = {}
    # Links last, so that a file has its own name.
    for file in sorted(files, key=lambda file: file.is_symlink()):
        first.setdefault(os.path.realpath(file), file)
    return sorted(first.values())


def refuse(error: OSError) -> None:
    raise BadInput(f"{error.filename} cannot be listed: {error}. Let this user read it.") from error


def is_hidden(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def matches_of(pattern: Path) -> Iterator[Path]:
    """The matches below the last folder of the path that exists: its name is no pattern."""
    folder = next((parent for parent in pattern.parents if parent.is_dir()), Path())
    return folder.glob(str(pattern.relative_to(folder)))


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
