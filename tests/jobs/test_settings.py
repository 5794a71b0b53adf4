"""Settings from a file and variables; every mistake is named."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from jobs.errors import SettingsError
from jobs.settings import days_between, load_settings
from jobs.spark.session import classic_conf

MINIMAL = '[source]\nkind = "kuairand"\npath = "data"\n'


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "my.toml"
    file.write_text(text)
    return file


def test_a_misspelt_option_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"my.toml: matrix.window_dais: .*given: 3"):
        load_settings(written(tmp_path, MINIMAL + "[matrix]\nwindow_dais = 3"))


def test_a_missing_file_is_reported_with_the_remedy(tmp_path):
    with pytest.raises(SettingsError, match="No settings file at .*EVERGREEN_SETTINGS"):
        load_settings(tmp_path / "absent.toml")


def test_relative_paths_are_relative_to_the_file(tmp_path):
    settings = load_settings(written(tmp_path, MINIMAL))
    assert settings.source.path == tmp_path / "data"
    assert settings.home == tmp_path / ".evergreen"


def test_a_variable_wins_over_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("EVERGREEN_EMBEDDING__DIM", "8")
    settings = load_settings(written(tmp_path, MINIMAL + '[embedding]\ndim = 16\nname = "kept"'))
    assert (settings.embedding.dim, settings.embedding.name) == (8, "kept")


def test_a_spark_option_of_the_user_wins_over_ours(tmp_path):
    conf = '[spark.conf]\n"spark.driver.host" = "10.0.0.7"\n"spark.executor.memory" = "8g"'
    given = classic_conf(load_settings(written(tmp_path, MINIMAL + conf)))
    assert given | {"spark.driver.host": "10.0.0.7", "spark.executor.memory": "8g"} == given
    assert given["spark.driver.bindAddress"] == "127.0.0.1"


def test_the_digest_covers_what_shapes_the_result_and_nothing_else(tmp_path):
    base = load_settings(written(tmp_path, MINIMAL))
    moved = load_settings(written(tmp_path, 'home = "elsewhere"\n' + MINIMAL))
    wider = load_settings(written(tmp_path, MINIMAL + "[embedding]\ndim = 16"))
    assert (
        base.digest("source", "embedding")
        == moved.digest("source", "embedding")
        != wider.digest("source", "embedding")
    )


def test_the_projects_own_settings_load():
    assert load_settings().source.kind == "kuairand"


def test_days_between_counts_both_ends():
    assert days_between(date(2022, 4, 29), date(2022, 5, 1)) == [
        date(2022, 4, 29),
        date(2022, 4, 30),
        date(2022, 5, 1),
    ]
