"""What is remembered and logged of an attempt at a step."""

from __future__ import annotations

import logging
import time
from datetime import date

import pytest
import structlog

from jobs.errors import Skip
from jobs.pipeline.attempts import Attempt, attempts, folder, remember
from jobs.pipeline.observing import observed
from jobs.settings import Settings
from jobs.sources.edgelist import EdgelistSettings

DAY = date(2024, 3, 1)


@pytest.fixture
def settings(tmp_path) -> Settings:
    (tmp_path / "log.txt").write_text("c1 p1 1709251200\n")
    source = EdgelistSettings(kind="edgelist", path=tmp_path / "log.txt")
    return Settings(home=tmp_path / "home", source=source, further={"likes": {}})


def test_a_steps_end_is_remembered_with_its_seconds_and_its_embedding(settings):
    with observed(settings.of_embedding("likes"), "embed", DAY):
        time.sleep(0.05)
    (last,) = attempts(settings)
    assert (last.step, last.embedding, last.day, last.error) == ("embed", "likes", str(DAY), "")
    assert 0.05 <= last.seconds < 30  # not milliseconds
    assert abs(time.time() - last.ended_s) < 60


def test_each_embedding_is_remembered_apart_and_only_by_its_last_attempt(settings):
    for one in settings.of_each_embedding():
        for day in (DAY, date(2024, 3, 2)):
            with observed(one, "embed", day):
                pass
    found = [(last.embedding, last.day) for last in attempts(settings)]
    assert found == [("producer", "2024-03-02"), ("likes", "2024-03-02")]


@pytest.mark.parametrize(("reason", "error"), [(ValueError(), "ValueError"), (Skip(), "")])
def test_a_step_without_anything_to_do_has_not_failed(settings, reason, error):
    with pytest.raises(type(reason)), observed(settings, "land", DAY):
        raise reason
    assert [last.error for last in attempts(settings)] == [error]


def test_an_interrupted_step_is_not_remembered(settings):
    with pytest.raises(KeyboardInterrupt), observed(settings, "land", DAY):
        raise KeyboardInterrupt
    assert attempts(settings) == []


def test_lines_logged_in_a_step_carry_its_names_and_its_run(settings):
    with observed(settings, "embed", DAY) as attempt:
        attempt.name_run("abc")
        bound = structlog.contextvars.get_contextvars()
    assert bound == {"step": "embed", "day": str(DAY), "embedding": "producer", "run": "abc"}
    assert structlog.contextvars.get_contextvars() == {}


def test_a_disk_that_is_full_does_not_fail_a_step(settings, caplog):
    settings.home.mkdir()
    folder(settings).write_text("a file where the folder should be")
    remember(settings, Attempt("land", "", str(DAY), 0.0, 0.0))
    assert "land/2024-03-01 is not remembered" in caplog.text


def test_a_damaged_record_is_left_out(settings, caplog):
    remember(settings, Attempt("land", "", str(DAY), 0.0, 0.0))
    (folder(settings) / "embed.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert [last.step for last in attempts(settings)] == ["land"]
    assert "embed.json cannot be read" in caplog.text
