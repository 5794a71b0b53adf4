"""How `evergreen registry …` prints: JSON for programs, tables for people."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

SHOWN_NUMBERS = 6  # of a vector, in a table with many
MISSING = "–"


def print_json(value: Any) -> None:
    # Not printed with Rich, which would wrap long lines in the middle of a value.
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def print_table(
    columns: Iterable[str],
    rows: Iterable[Iterable[Any]],
    caption: str = "",
    header: bool = True,
    whole: Iterable[str] = (),
) -> None:
    """Print a table, if it has rows, and a caption.

    whole: columns of ids and versions, which get their full width before all others: an id that is
    broken into two lines can neither be read nor copied.
    """
    table = Table(
        box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), show_header=header
    )
    for column in columns:
        table.add_column(column, no_wrap=column in whole, overflow="fold")
    for row in rows:
        # Text, not str: Rich would read an id such as [red] as markup. Folded, not cut off, should
        # an id be wider than the terminal.
        table.add_row(*[Text(str(cell), overflow="fold", no_wrap=False) for cell in row])
    console = Console()
    if table.row_count:
        console.print(table)
    if caption:
        console.print(Text(caption))


def numbers(vector: list[float], most: int | None = None) -> str:
    """The first `most` numbers of a vector; by default all of them."""
    shown = " ".join(f"{x:.4f}" for x in vector[:most])
    if most is not None and len(vector) > most:
        shown += f" … ({len(vector)} numbers; --json prints all)"
    return shown


def feature(value: Any) -> str:
    """The value of a feature: a vector, a number, a text or nothing."""
    if value is None:
        return MISSING
    if isinstance(value, list):
        return numbers(value, SHOWN_NUMBERS)
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.6g}"
