"""A feature that breaks on one day: the gate keeps the champion, and goes on when it is back."""

from __future__ import annotations

import logging
from datetime import date

import pytest
from ranker_lake import DAYS, commit_days, commit_examples, copied, ranker_settings

from jobs.pipeline.published import published_version
from jobs.settings import Settings
from jobs.steps import evaluate, gate, train

BROKEN, LAST = DAYS[2], DAYS[4]


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """Five decided days; on one of them the number of every row is unknown."""
    settings = ranker_settings(tmp_path_factory.mktemp("broken") / "home")
    commit_days(settings, DAYS[:5], 120)
    for day in DAYS[:5]:
        commit_examples(settings, day, missing=day == BROKEN)
        for job in (evaluate, train, gate):
            job.run(None, settings, day)
    return settings


def test_the_day_and_the_challenger_that_learned_from_it_are_not_trusted(settings):
    decided = [settings.lake.get("gate", day).facts for day in DAYS[:5]]
    broken = [facts["broken_guardrails"] for facts in decided]
    assert broken == ["", "", "missing_change", "missing_change", ""]
    on_day, after = decided[2]["why"], decided[3]["why"]
    number = "'num_odd' has no value in"
    assert f"{number} 100.0 % of the day's rows, and in 0.0 % of the newest" in on_day
    assert f"{number} 0.0 % of the day's rows, and in 100.0 % of the newest" in after
    champions = [facts["champion_after"] for facts in decided]
    assert champions[1] == champions[2] == champions[3]


def test_the_figures_of_the_guardrails_are_the_same_when_the_day_is_run_again(settings):
    """Times differ, and are no part of them."""
    before = settings.lake.get("evaluate", LAST).digest
    evaluate.run(None, settings, LAST)
    again = settings.lake.get("evaluate", LAST)
    assert again.digest == before
    assert again.facts["champion_operations"] == again.facts["challenger_operations"] > 0


def test_a_slow_challenger_is_logged(settings, caplog, monkeypatch):
    """It decides nothing: the partition is the same."""
    before = settings.lake.get("evaluate", LAST).digest
    monkeypatch.setattr(evaluate.guardrails, "seconds_ratio", lambda *_: 10.0)
    with caplog.at_level(logging.WARNING, logger=evaluate.__name__):
        evaluate.run(None, settings, LAST)
    assert "takes 10.0 times as long as the champion" in caplog.text
    assert settings.lake.get("evaluate", LAST).digest == before


def test_a_damaged_version_keeps_no_day_from_being_tested(settings, caplog, tmp_path):
    """What needs it is not judged, and the log says so."""
    settings = copied(settings, tmp_path / "home")
    challenger = settings.lake.get("evaluate", LAST).facts["challenger"]
    trained = settings.lake.get("train", date.fromisoformat(challenger))
    version = published_version(settings, trained.facts["embedding"])
    for file in version.path.rglob("*.npy"):
        file.unlink()
    with caplog.at_level(logging.WARNING, logger=evaluate.__name__):
        evaluate.run(None, settings, LAST)
    assert "Coverage and neighbours are not compared" in caplog.text
    facts = settings.lake.get("evaluate", LAST).facts
    assert "challenger_covers_consumers" not in facts
    assert facts["challenger_operations"] > 0
