"""A day that cannot be landed stops no later day, and the next run after its repair mends all."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest
from test_loop import DAYS, SETTINGS, write_day

from jobs import parts
from jobs.errors import BadInput
from jobs.pipeline import running
from jobs.pipeline.loop import run_days
from jobs.settings import Settings, load_settings
from jobs.spark.session import spark_session
from jobs.steps import land

LAND = land.run


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """A folder with settings and a log of three days, which differ."""
    folder = tmp_path_factory.mktemp("log")
    (folder / "edges").mkdir()
    for n, day in enumerate(DAYS):
        write_day(folder / "edges", day, lines=200 + 10 * n)
    (folder / "settings.toml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="module")
def untroubled(spark, log, tmp_path_factory) -> dict[str, str]:
    """The digests of a home that never had any trouble."""
    return digests(finished(home_of(log, tmp_path_factory.mktemp("untroubled") / "log")))


def home_of(log: Path, folder: Path) -> Settings:
    shutil.copytree(log, folder)
    return load_settings(folder / "settings.toml")


def finished(settings: Settings) -> Settings:
    run_days(settings, DAYS[0], DAYS[2])
    return settings


def digests(settings: Settings) -> dict[str, str]:
    found = {}
    for step in parts.EMBEDDING_STEPS:
        for day in settings.lake.days(step):
            partition = settings.lake.get(step, day)
            found[partition.key] = f"{partition.digest} of {sorted(partition.inputs.items())}"
    return found


def trouble(monkeypatch, troubled: date) -> list[date]:
    """The day cannot be landed. Returns the list of attempts, which grows."""
    attempts: list[date] = []

    def run(spark, settings, day):
        if day == troubled:
            attempts.append(day)
            raise BadInput(f"The file of {day} is damaged.")
        LAND(spark, settings, day)

    monkeypatch.setattr(land, "run", run)
    return attempts


@pytest.mark.slow
def test_a_day_that_cannot_be_landed_stops_no_other(spark, log, untroubled, tmp_path, monkeypatch):
    settings = home_of(log, tmp_path / "log")
    attempts = trouble(monkeypatch, DAYS[1])
    board, reasons = run_days(settings, DAYS[0], DAYS[2])
    assert "is damaged" in reasons[DAYS[1], "land"]
    assert {board.cell(DAYS[2], step).state for step in parts.EMBEDDING_STEPS} == {"done"}
    assert settings.lake.get("matrix", DAYS[2]).facts["days_missing"] == str(DAYS[1])
    assert f"align/{DAYS[0]}" in settings.lake.get("align", DAYS[2]).inputs
    assert len(attempts) <= len(parts.STEPS)  # a few per day, and not a few per step and day

    board, _ = run_days(settings, DAYS[2], DAYS[2])
    assert {board.cell(DAYS[2], step).state for step in parts.EMBEDDING_STEPS} == {"reused"}

    monkeypatch.undo()
    assert digests(finished(settings)) == untroubled
    registry = settings.open_registry()
    assert [registry.version("producer", day).revision for day in DAYS] == [1, 1, 2]


def test_without_the_anchor_a_space_is_opened_until_it_is_there(
    spark, log, untroubled, tmp_path, monkeypatch
):
    settings = home_of(log, tmp_path / "log")

    def align(day: date):
        return running.request(settings, "align", day, lambda: spark_session(settings)).partition

    trouble(monkeypatch, DAYS[0])
    assert align(DAYS[1]).facts["anchor"] == str(DAYS[1])
    monkeypatch.undo()
    for day in DAYS[:2]:
        align(day)
    repaired = digests(settings)
    assert repaired == {key: untroubled[key] for key in repaired}
