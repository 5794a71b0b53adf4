"""What a second run of a day does: nothing, or exactly what is needed to make it right again."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest
from test_loop import DAYS, SETTINGS, states, write_day

from jobs import parts
from jobs.pipeline import verify
from jobs.pipeline.loop import run_days
from jobs.settings import Settings, StorageSettings, load_settings
from jobs.steps import drift, lookalike
from tests.one_row_home import home_settings

DAY = DAYS[0]


@pytest.fixture(scope="module")
def complete(spark, tmp_path_factory) -> Path:
    """A folder with settings, a log of two days, and a home in which the first is complete."""
    folder = tmp_path_factory.mktemp("complete")
    (folder / "edges").mkdir()
    for day in DAYS[:2]:
        write_day(folder / "edges", day)
    (folder / "settings.toml").write_text(SETTINGS)
    board, _ = run_days(load_settings(folder / "settings.toml"), DAY, DAY)
    assert not board.failed()
    return folder


@pytest.fixture
def settings(complete, tmp_path) -> Settings:
    """A copy of it."""
    shutil.copytree(complete, tmp_path / "copy")
    return load_settings(tmp_path / "copy" / "settings.toml")


def digests(settings: Settings) -> dict[str, str]:
    found = {}
    for step in parts.EMBEDDING_STEPS:
        partition = settings.lake.find(step, DAY)
        assert partition is not None
        found[step] = partition.digest
    return found


def with_state(board, state: str, day: date = DAY) -> list[str]:
    return [step for step, found in states(board, day).items() if found == state]


def test_a_complete_day_is_reused(spark, settings):
    before = digests(settings)
    board, _ = run_days(settings, DAY, DAY)
    assert with_state(board, "reused") == list(parts.EMBEDDING_STEPS)
    assert digests(settings) == before


def test_damage_is_named_and_healed_and_nothing_else_is_computed(spark, settings, caplog):
    """Of an input, of a result that others have read, and of a manifest."""
    before = digests(settings)
    damaged = {"matrix": "producers.npy", "fold_in": "*.npy"}
    for step, name in damaged.items():
        file = next(settings.lake.get(step, DAY).path.rglob(name))
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    (settings.lake.home("embed", DAY) / "_manifest.json").write_text("{}")
    board, reasons = run_days(settings, DAY, DAY)
    assert f"matrix/{DAY} is computed again: damaged: producers.npy has changed." in caplog.text
    assert with_state(board, "done") == ["matrix", "embed", "fold_in"], reasons
    assert digests(settings) == before
    for step in before:
        settings.lake.get(step, DAY)  # raises for a damaged one
    assert len(settings.open_registry().versions("producer")) == 1


def test_late_rows_reopen_their_day_and_what_turns_out_the_same_is_reused(spark, settings):
    """Rows of the first day that are repeats: they are put aside, so the matrix is the same."""
    before = digests(settings)
    first, second = (settings.source.path / f"{day}.txt" for day in DAYS[:2])
    repeats = first.read_text().splitlines(keepends=True)[:3]
    second.write_text(second.read_text() + "".join(repeats))
    board, reasons = run_days(settings, DAY, DAY)
    assert with_state(board, "done") == [
        "land",
        "validate",
        "drift",
        "matrix",
        "lookalike",
        "benchmark",
        "publish",
    ], reasons
    after = digests(settings)
    assert [step for step in before if before[step] != after[step]] == ["land", "validate"]


def test_an_unexpected_exception_ends_one_day_and_the_next_run_repairs_it(
    spark, settings, monkeypatch
):
    shutil.rmtree(settings.lake.home("lookalike", DAY))

    def fail(*args):
        raise ZeroDivisionError("an unforeseen case")

    with monkeypatch.context() as patched:
        patched.setattr(lookalike, "run", fail)
        board, reasons = run_days(settings, DAY, DAY)
        assert board.failed() == [(DAY, "lookalike")]
        traceback = settings.report("lookalike", DAY) / "traceback.txt"
        assert reasons[DAY, "lookalike"] == (
            f"ZeroDivisionError: an unforeseen case (unexpected; the traceback is in {traceback})"
        )
        assert "in fail" in traceback.read_text()
        # The ranker's half of the day, and later days, have been run nevertheless.
        assert states(board, DAY)["examples"] == "skipped"
    board, _ = run_days(settings, DAY, DAY)
    assert not board.failed()


def test_a_leaf_that_fails_stops_no_other_step(spark, settings, monkeypatch):
    shutil.rmtree(settings.lake.home("drift", DAY))

    def fail(*args):
        raise ZeroDivisionError("an unforeseen case")

    monkeypatch.setattr(drift, "run", fail)
    board, _ = run_days(settings, DAY, DAY)
    assert board.failed() == [(DAY, "drift")]
    assert with_state(board, "reused") == [s for s in parts.EMBEDDING_STEPS if s != "drift"]


@pytest.mark.parametrize(("url", "runs"), [("", "ensure"), ("s3://bucket/home", "execute")])
def test_what_is_damaged_in_a_bucket_is_computed_in_any_case(tmp_path, monkeypatch, url, runs):
    """Its tags are still those of the manifest, so that it would be taken for current."""
    ran = []
    for name in ("ensure", "execute"):
        monkeypatch.setattr(verify, name, lambda *given, name=name: ran.append((name, given[1])))
    settings = home_settings(tmp_path, storage=StorageSettings(url=url))
    damaged = verify.Damaged(f"matrix/{DAY}", ["rows has changed"], "matrix", DAY)
    assert verify.repair(settings, [damaged]) == []
    assert ran == [(runs, "matrix")]
