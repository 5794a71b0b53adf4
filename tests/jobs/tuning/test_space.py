"""What a trial may choose: ranges of options that exist, and the settings that come of it."""

from __future__ import annotations

import tomllib

import pytest
from pydantic import ValidationError

from jobs.errors import SettingsError
from jobs.settings import EmbeddingSettings, RankerSettings, Settings
from jobs.settings.tuning import Range, TuningSettings
from jobs.sources.edgelist import EdgelistSettings
from jobs.tuning.space import as_toml, changed, current, space_of


def settings_of(tmp_path, **tuning) -> Settings:
    return Settings(
        home=tmp_path,
        source=EdgelistSettings(kind="edgelist", path=tmp_path / "log"),
        embedding=EmbeddingSettings(name="it", method="als", als={"regularization": 0.02}),
        ranker=RankerSettings(kind="dnn"),
        tuning=TuningSettings(**tuning),
    )


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({}, r"\[tuning.embedding\] has no option to tune.*dim, seed, .*regularization"),
        ({"dims": [2, 3]}, r"tuning.embedding.dims: there is no such option.*did you mean dim\?"),
        ({"name": ["a", "b"]}, "tuning.embedding.name: there is no such option to tune"),
        ({"method": ["svd"]}, "tuning.embedding.method: there is no such option to tune"),
        ({"smoothing": [1.0]}, "tuning.embedding.smoothing: there is no such option"),  # of an SVD
        ({"dim": {"low": 8, "high": 2000}}, "tuning.embedding: dim: .*1000"),
        ({"regularization": [0.1, -1.0]}, "tuning.embedding: .*regularization"),
    ],
)
def test_a_range_that_no_trial_could_use_is_named(tmp_path, ranges, message):
    with pytest.raises(SettingsError, match=message):
        space_of(settings_of(tmp_path, embedding=ranges), "embedding")


@pytest.mark.parametrize(
    "given", [{"low": 2, "high": 2}, {"low": 3, "high": 1}, {"low": 0, "high": 1, "log": True}, []]
)
def test_a_range_has_a_width(given):
    with pytest.raises(ValidationError):
        TuningSettings(ranker={"batch_size": given})


def test_options_of_both_tables_are_changed_and_nothing_else(tmp_path):
    settings = settings_of(tmp_path)
    made = changed(settings, "embedding", {"dim": 9, "unobserved_weight": 0.7})
    assert (made.embedding.dim, made.embedding.options.unobserved_weight) == (9, 0.7)
    assert made.embedding.options.regularization == 0.02
    assert made.model_copy(update={"embedding": settings.embedding}) == settings


def test_the_fragment_is_read_as_what_was_chosen(tmp_path):
    """By a TOML parser, and then by the settings."""
    options = {"learning_rate": 0.0123, "batch_size": 64, "dropout": 0.25}
    settings = settings_of(tmp_path)
    read = tomllib.loads(as_toml(settings, "ranker", options))
    assert read == {"ranker": {"learning_rate": 0.0123, "batch_size": 64, "dnn": {"dropout": 0.25}}}
    adopted = RankerSettings(kind="dnn", **read["ranker"])
    assert adopted == changed(settings, "ranker", options).ranker


def test_the_settings_as_they_are_are_a_trial_if_they_are_in_the_space(tmp_path):
    settings = settings_of(tmp_path)
    space = {"regularization": Range(low=0.01, high=0.1), "dim": [16, 32]}
    assert current(settings, "embedding", space) == {"regularization": 0.02, "dim": 32}
    assert current(settings, "embedding", {"dim": [16]}) is None
