"""The source `simulated`: what the contract suite does not ask of every source."""

from __future__ import annotations

from datetime import date

import pytest
from pydantic import ValidationError

from jobs.settings import Settings
from jobs.sources.simulated import Simulated, SimulatedSettings
from simulation.drift import STANDING, STILL


def settings(**options) -> SimulatedSettings:
    return SimulatedSettings(kind="simulated", consumers=100, producers=10, **options)


def test_dials_stand_over_the_pace_and_shocks_are_days_of_the_log():
    drift = settings(drift=2.0, dials={"tastes": 0.5}, shocks=["2024-01-04"]).world().drift
    assert (drift.tastes, drift.subjects, drift.shocks) == (0.5, 0.04, (3,))
    assert settings(drift=0).world().drift == STILL
    assert settings(drift=0, new_items=False).world().drift == STANDING


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dials": {"taste": 0.1}}, r"no dial \['taste'\]; expected some of .*'tastes'"),
        ({"dials": {"consumers": 0.6}}, "consumers is 0.6; expected a rate from 0 to 0.5"),
        ({"topics": 3}, "topics"),
        ({"drift": -1}, "drift"),
    ],
)
def test_an_impossible_world_is_named(options, message):
    with pytest.raises(ValidationError, match=message):
        settings(**options)


def test_days_are_computed_again_for_another_world_and_not_for_a_longer_one(tmp_path):
    """A day is landed again when the content of its files has changed, or the settings have."""
    recipes = []
    digests = []
    for options in ({}, {"days": 3}, {"seed": 1}, {"shocks": ["2024-01-02"]}):
        source = settings(**options)
        (file,) = Simulated(source, tmp_path).files(date(2024, 1, 1))
        recipes.append(file.read_text())
        digests.append(Settings(source=source).digest("source"))
    for texts in (recipes, digests):
        assert texts[0] == texts[1]
        assert len(set(texts)) == 3


def test_a_day_outside_the_world_has_no_files_and_no_tables(tmp_path):
    source = Simulated(settings(days=2), tmp_path)
    for day in (date(2023, 12, 31), date(2024, 1, 3)):
        assert source.files(day) == []
        assert source.tables(day) == ()
