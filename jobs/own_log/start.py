"""`evergreen init`: look at a log, show how it is understood, and write a settings file for it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pydantic import ValidationError
from rich.console import Console
from rich.progress import track
from rich.table import Table

from jobs.errors import BadInput, SettingsError
from jobs.intake.look import WIDE, FileLook, alike, look, preview
from jobs.own_log.draft import draft
from jobs.own_log.roles import Roles, roles_of
from jobs.plugins import faults
from jobs.settings import Settings, anchored
from jobs.sources import source_kinds
from jobs.sources.file_log import FileLog
from jobs.sources.files import find_files, size_of
from jobs.terminal import console, plain

if TYPE_CHECKING:
    import pyarrow as pa

MANY_FILES = 20  # with which looking takes a while
ROWS = 10
SHOWN_FILES = 5
LONGEST_REASON = 80  # characters


@dataclass
class Start:
    """What was found of a log. path: what source.path becomes: the log, or a part of it."""

    path: Path
    roles: Roles
    files: list[Path]
    empty: list[Path] = field(default_factory=list)
    others: dict[Path, str] = field(default_factory=dict)  # files that are not alike, and why
    unsure: str = ""


def start(path: Path, output: Path, force: bool = False) -> None:
    """Look at a log, show it, and write `output`. Raises BadInput where it cannot be read."""
    if output.exists() and not force:
        raise SettingsError(f"{output} exists. Name another file with --output, or add --force.")
    screen = console()
    found = find(path, screen)
    text = draft(found.roles, found.path, output, found.unsure)
    settings = settings_of(text, output)
    rows, timezone = first_rows(found.roles.look.path, settings)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    show(screen, found)
    screen.print(rows_table(rows, timezone, len(found.files)))
    guesses = ""
    if "# unsure:" in text:
        guesses = " Lines marked 'unsure' are guesses: read them first."
    screen.print(f"\nWrote [bold]{plain(str(output))}[/].{guesses} Next:", soft_wrap=True)
    screen.print(f"  evergreen --settings {plain(str(output))} check", soft_wrap=True)


def find(path: Path, screen: Console) -> Start:
    """Look at all files of a log: closely at one, and whether the others are like it."""
    files = find_files(path, "PATH")
    looks: dict[Path, FileLook] = {}
    others: dict[Path, str] = {}
    by_size = sorted(files, key=lambda file: -size_of(file))
    disable = len(files) < MANY_FILES
    for file in track(by_size, "Looking", console=screen, transient=True, disable=disable):
        like = next((known for known in closely(looks) if alike(file, known)), None)
        try:
            looks[file] = replace(like, path=file) if like else look(file)
        except BadInput as error:
            if len(files) == 1:
                raise
            others[file] = str(error).removeprefix(f"{file} ").partition(": ")[0]
    looks = in_one_encoding(looks)
    empty = [file for file in files if file in looks and looks[file].format == "empty"]
    groups = grouped(found for found in looks.values() if found.format != "empty")
    if not groups:
        raise BadInput(f"{path} has no rows that can be read." + reasons(others))
    first, roles = chosen(groups)
    group = list(first)
    for other in groups:
        if other is first:
            continue
        if has_columns(other[0], roles):
            group += other
        else:
            others |= {left.path: shortened(difference(left, roles)) for left in other}
    for file in empty:
        if looks[file].names and not has_columns(looks[file], roles):
            others[file] = shortened(difference(looks[file], roles))
    empty = [file for file in empty if file not in others]
    members = sorted(member.path for member in group)
    part = part_of(path, members, files, empty)
    return Start(part, roles, members, empty, others, unsure_of_files(part == path, others))


def in_one_encoding(looks: dict[Path, FileLook]) -> dict[Path, FileLook]:
    """Files of ASCII in the encoding of the largest file that has other characters."""
    for found in looks.values():  # the largest first
        if found.format == "text" and not found.ascii and not found.encoding.value.startswith(WIDE):
            break
    else:
        return looks
    return {
        file: replace(one, encoding=found.encoding) if one.ascii else one
        for file, one in looks.items()
    }


def has_columns(found: FileLook, roles: Roles) -> bool:
    """Is a file read with the same settings? It may have more columns, in any order."""
    like = roles.look
    if like.header.value == "no" or found.header.value != like.header.value:
        return False
    written = (found.encoding.value, found.separator.value, found.quote.value, found.escape.value)
    as_well = (like.encoding.value, like.separator.value, like.quote.value, like.escape.value)
    if like.format != "parquet" and found.rows and written != as_well:
        return False
    time = next((column for column in found.columns if column.name == roles.time.name), None)
    if found.rows and (time is None or time.unit != roles.time.column.unit):
        return False
    same_format = found.format in (like.format, "empty")
    return same_format and all(found.names.count(name) == 1 for name in roles.used())


def difference(found: FileLook, roles: Roles) -> str:
    """Why a file is not read with the same settings, for a person."""
    if found.header.value == "no":
        return "has other kinds of fields"
    names, time = found.names, roles.time
    if found.rows and all(names.count(name) == 1 for name in roles.used()):
        (column,) = (column for column in found.columns if column.name == time.name)
        if column.unit != time.column.unit:
            return f"has {column.in_words()}; the others have {time.column.in_words()}"
        return "is written in another way"
    return f"has other columns: {', '.join(names)}"


def unsure_of_files(whole: bool, others: dict[Path, str]) -> str:
    """What is unsure about source.path, where it names files that are not alike."""
    if not whole or not others:
        return ""
    names = ", ".join(file.name for file in list(others)[:SHOWN_FILES])
    more = ", …" if len(others) > SHOWN_FILES else ""
    return f"some files differ, and no pattern leaves them out: {names}{more}"


def reasons(others: dict[Path, str]) -> str:
    """Why the first of the files that are left out are so."""
    shown = [f"\n  {file.name} {why}" for file, why in list(others.items())[:SHOWN_FILES]]
    more = len(others) - len(shown)
    return "".join(shown) + (f"\n  and {more:,} more" if more else "")


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + " …"


def closely(looks: dict[Path, FileLook]) -> list[FileLook]:
    """One look of every kind of file so far."""
    return [group[0] for group in grouped(looks.values()) if group[0].format != "empty"]


def grouped(looks: Iterable[FileLook]) -> list[list[FileLook]]:
    """Files that are read in the same way, the largest group first."""
    groups: dict[tuple, list[FileLook]] = {}
    for found in looks:
        # Read by their names, in any order; times of another unit are read with other settings.
        columns: tuple = tuple(sorted((column.name, column.unit) for column in found.columns))
        if found.header.value == "no":
            columns = tuple(column.unit for column in found.columns)
        written = (found.separator.value, found.encoding.value) if found.format == "text" else ()
        groups.setdefault((found.format, written, columns), []).append(found)

    def size(group: list[FileLook]) -> int:
        return sum(size_of(found.path) for found in group)

    return sorted(groups.values(), key=size, reverse=True)


def chosen(groups: list[list[FileLook]]) -> tuple[list[FileLook], Roles]:
    """The first group that is a log, and its roles; one with times, if any. Raises BadInput."""
    first: BadInput | None = None
    groups = sorted(groups, key=lambda group: not has_times(group[0]))
    for group in groups:
        largest = max(group, key=lambda found: size_of(found.path))
        try:
            return group, roles_of(largest)
        except BadInput as error:
            first = first or error
    assert first is not None, "there is a group"
    raise first


def has_times(look: FileLook) -> bool:
    return any(column.kind == "time" for column in look.columns)


def part_of(path: Path, members: list[Path], files: list[Path], empty: list[Path]) -> Path:
    """What names exactly these files of a log; the log itself where no pattern does."""
    fine = {*members, *empty}
    if len(members) == 1 and len(files) > len(fine):
        return members[0]
    folder = path if path.is_dir() else path.parent
    patterns = {"*" + "".join(file.suffixes) for file in members}
    patterns |= {common_start(members) + "*"}
    for pattern in sorted(patterns):
        matched = set(folder.glob(pattern)) & set(files)
        if not set(files) <= fine and set(members) <= matched <= fine:
            return folder / pattern
    return path


def common_start(files: list[Path]) -> str:
    first, last = min(file.name for file in files), max(file.name for file in files)
    length = 0
    while length < min(len(first), len(last)) and first[length] == last[length]:
        length += 1
    return first[:length]


def settings_of(text: str, output: Path) -> Settings:
    """The settings that a draft makes, as `load_settings` would read them."""
    try:
        return anchored(Settings(**tomllib.loads(text)), output.absolute().parent)
    except ValidationError as error:
        raise SettingsError(
            f"No settings were found for this log: {faults(error)}. Write them by hand: start from "
            "configs/table.toml."
        ) from None


# --- what is shown


def first_rows(file: Path, settings: Settings) -> tuple[pa.Table, str]:
    """The first rows of a file as `land` will read them, and the time zone of their days."""
    source = source_kinds()[settings.source.kind](settings.source, settings.intake)
    assert isinstance(source, FileLog), "a draft describes a table or a list of edges"
    return preview(file, source.wanted(file)), source.timezone


def show(screen: Console, found: Start) -> None:
    """How the log is written, and what its columns are."""
    show_files(screen, found)
    screen.print(columns_table(found.roles))
    for note in found.roles.notes:
        screen.print(f"[yellow]![/] {plain(note)}")


def show_files(screen: Console, found: Start) -> None:
    seen = found.roles.look
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("log", plain(str(found.path)))
    count = f"{len(found.files):,} with these columns" if len(found.files) > 1 else "1"
    more = f", {len(found.empty):,} without rows" if found.empty else ""
    table.add_row("files", count + more)
    for file, why in list(found.others.items())[:SHOWN_FILES]:
        table.add_row(
            "[yellow]differs[/]" if found.unsure else "left out", plain(f"{file.name} {why}")
        )
    if len(found.others) > SHOWN_FILES:
        table.add_row("", f"and {len(found.others) - SHOWN_FILES:,} more")
    table.add_row("format", seen.format + (f", {seen.compression}" if seen.compression else ""))
    if seen.format == "text":
        for what in ("encoding", "separator", "quote", "escape", "header"):
            value = getattr(seen, what)
            shown = repr(value.value) if what in ("separator", "quote", "escape") else value.value
            if value.value:
                table.add_row(what, plain(shown) + unsure("" if value.sure else value.why))
        if seen.comments:
            table.add_row("comments", f"lines that begin with {' or '.join(seen.comments)}")
    screen.print(table)


def unsure(why: str) -> str:
    return f"  [yellow]unsure: {plain(why)}[/]" if why else ""


def columns_table(roles: Roles) -> Table:
    table = Table("column", "looks like", "is used as", header_style="bold", box=None)
    table.title = f"Columns, by the first {roles.look.rows:,} rows of {plain(roles.look.path.name)}"
    table.title_justify = "left"
    used = roles.used()
    for column in roles.look.columns:
        what, why = used.get(column.name, ("", ""))
        table.add_row(plain(column.name), plain(column.in_words()), plain(what) + unsure(why))
    return table


def rows_table(rows: pa.Table, timezone: str, files: int) -> Table:
    """Ten rows in Evergreen's columns. A row that would be put aside shows why."""
    table = Table(header_style="bold", box=None)
    table.title = f"The first rows{' of one file' if files > 1 else ''}, as they are understood"
    table.title_justify = "left"
    named = ["consumer_id", "producer_id", "item_id", "kind", "value", "dwell_ms"]
    columns = [
        name for name in named if name in rows.column_names and rows[name].null_count < len(rows)
    ]
    labels = [name for name in rows.column_names if name.startswith("label_")]
    zones = ["UTC"] if timezone == "UTC" else ["UTC", timezone]
    for name in [*columns, *(["labels"] if labels else []), *zones]:
        table.add_column(plain(name.removesuffix("_id")))
    for row in rows.slice(0, ROWS).to_pylist():
        if row["fault"]:
            cells = [f"[yellow]put aside: {plain(row['fault'])}[/]", plain(row["raw"] or "")]
            table.add_row(*cells[: len(table.columns)])
            continue
        cells = ["" if row[name] is None else str(row[name]) for name in columns]
        if labels:
            positive = [name.removeprefix("label_") for name in labels if row[name]]
            cells.append(", ".join(positive) or "none")
        cells += [clock(row["time_ms"], zone) for zone in zones]
        table.add_row(*map(plain, cells))
    return table


def clock(ms: int | None, zone: str) -> str:
    """A moment as the clocks of a zone show it, with milliseconds where it has some."""
    if ms is None:
        return ""
    try:
        moment = datetime.fromtimestamp(ms / 1000, UTC).astimezone(ZoneInfo(zone))
    except (OverflowError, ValueError):  # the last hours of the year 9999, in another zone
        return f"{ms} ms"
    text = f"{moment:%Y-%m-%d %H:%M:%S.%f}"
    return text.rstrip("0").rstrip(".") if ms % 1000 else text[:19]
