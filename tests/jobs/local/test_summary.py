"""What a demo ends with: figures of the lake and the registry, and what failed, as it was said."""

from __future__ import annotations

from datetime import date

from jobs.local.demo import Outcome, TaskRun
from jobs.local.summary import show
from jobs.pipeline.plan import STEPS
from jobs.terminal import Board

DAY = date(2022, 4, 26)


def outcome(**changes) -> Outcome:
    land = TaskRun(DAY, "land", "done", 100.0, 103.5)
    return Outcome(
        [DAY], Board([DAY], STEPS), seconds=12.0, tasks=[land], peak_bytes=3 * 2**30, **changes
    )


def commit(settings, step: str, **facts) -> None:
    with settings.lake.writing(step, DAY, settings="s") as staging:
        staging.facts |= facts


def test_the_summary_is_printed_and_kept(settings, capsys):
    """Figures of the day's partitions, seconds of its steps, and the totals, in both places."""
    commit(
        settings,
        "evaluate",
        champion="2022-04-24",
        champion_auc_click=0.71234,
        challenger="2022-04-25",
    )
    commit(settings, "promote", champion="2022-04-25", why="Better beyond doubt [+0.01, +0.02].")
    show(settings, outcome())
    printed, kept = capsys.readouterr().out, (settings.home / "summary.txt").read_text()
    for words in (
        "0.7123",
        "3.5",
        "Champion: the model of 2022-04-25. Better beyond doubt [+0.01, +0.02].",
        "3.0 GiB",
    ):
        assert words in printed
        assert words in kept


def test_a_failure_is_told_in_its_own_words(settings, capsys):
    settings.home.mkdir()
    show(
        settings,
        outcome(
            failures=["embeddings_daily 2022-04-26: task validate failed. Loosen [validation]."]
        ),
    )
    assert "Loosen [validation]." in capsys.readouterr().out
