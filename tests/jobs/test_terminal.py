"""The board of days and steps, on a terminal and in a log file."""

from __future__ import annotations

import io
from datetime import date

import pytest
from rich.console import Console

from jobs.parts import STEPS
from jobs.terminal import Board, live, visible

FIRST = date(2022, 4, 25)
SECOND = date(2022, 4, 26)


def board() -> Board:
    return Board([FIRST, SECOND], ("land", "validate"))


def test_a_finished_day_is_printed_once_and_an_unfinished_one_not(capsys):
    """Without a terminal, as in a log file: one line per day, when its last step has ended."""
    progress = board()
    with live(progress) as show:
        progress.set(FIRST, "land", "done", 1.25)
        show()
        assert capsys.readouterr().out == ""
        progress.set(FIRST, "validate", "failed")
        progress.set(SECOND, "land", "running")
        show()
        show()
    assert capsys.readouterr().out == f"{FIRST}  land 1.2  validate ✗\n"


def test_the_last_day_is_printed_when_the_block_ends(capsys):
    progress = board()
    with live(progress):
        progress.set(FIRST, "land", "skipped")
        progress.set(FIRST, "validate", "done")
    assert capsys.readouterr().out == f"{FIRST}  land –  validate ✓\n"


def test_the_table_has_one_row_per_day_with_seconds_or_symbols():
    progress = board()
    progress.set(FIRST, "land", "done", 3.0)
    progress.set(FIRST, "validate", "running")
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(progress.table("a run"))
    lines = capture.get().splitlines()
    assert "a run" in lines[0]
    (row,) = [line for line in lines if str(FIRST) in line]
    assert "3.0" in row
    assert "…" in row
    assert any(str(SECOND) in line for line in lines)


def test_failed_steps_are_known():
    progress = board()
    progress.set(SECOND, "land", "failed")
    progress.set(FIRST, "land", "done", 1.0)
    assert progress.failed() == [(SECOND, "land")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("naïve 漢字 \\ [red]", "naïve 漢字 \\ [red]"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("a\tb\r\n", "a\\tb\\r\\n"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\u2028", "\\u2028"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_an_escape(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize("width", [120, 150, 200])
def test_every_step_of_a_whole_day_is_seen_on_a_terminal_of_usual_width(width):
    whole = Board([FIRST], STEPS)
    for step in STEPS:
        whole.set(FIRST, step, "done", 10.44)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(whole.table("demo", width))
    text = console.export_text()
    assert str(FIRST) in text
    assert text.count("10.4") == len(STEPS)
