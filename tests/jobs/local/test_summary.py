"""The summary of a demo: figures from the lake and the registry, and what failed."""

from __future__ import annotations

from datetime import date

from jobs.local.outcome import Outcome, TaskRun
from jobs.local.summary import show_summary
from jobs.parts import STEPS
from jobs.terminal import Board

DAY = date(2022, 4, 26)


def outcome(**fields) -> Outcome:
    board = Board([DAY], STEPS)
    land = TaskRun(DAY, "land", "done", 100.0, 103.5)
    return Outcome([DAY], board, seconds=12.0, tasks=[land], peak_bytes=3 * 2**30, **fields)


def commit(settings, step: str, **facts) -> None:
    with settings.lake.writing(step, DAY, recipe="s") as staging:
        staging.facts |= facts


def test_the_summary_is_printed_and_kept(settings, capsys):
    """Both places have the figures of the partitions, the seconds of the steps, and the totals."""
    evaluated = {
        "champion": "2022-04-24",
        "champion_auc_click": 0.71234,
        "challenger": "2022-04-25",
    }
    commit(settings, "evaluate", **evaluated)
    commit(settings, "promote", champion="2022-04-25", why="Better beyond doubt [+0.01, +0.02].")
    show_summary(settings, outcome())
    printed = capsys.readouterr().out
    kept = (settings.home / "summary.txt").read_text()
    expected = (
        "0.7123",
        "3.5",
        "Champion: the model of 2022-04-25. Better beyond doubt [+0.01, +0.02].",
        "3.0 GiB",
    )
    for text in expected:
        assert text in printed
        assert text in kept


def test_a_failure_is_printed_and_kept_in_full(settings, capsys):
    """Brackets in a message are text, not markup."""
    settings.home.mkdir()
    failure = "embeddings_daily 2022-04-26: task validate failed. Relax [validation]."
    show_summary(settings, outcome(failures=[failure]))
    assert failure in capsys.readouterr().out
    assert failure in (settings.home / "summary.txt").read_text()
