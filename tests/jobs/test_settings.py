"""Settings from a file and variables; every mistake is named."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from jobs.errors import SettingsError
from jobs.machine import usable_cpus
from jobs.settings import cores_of, days_between, load_settings
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


@pytest.mark.parametrize("by_variable", [False, True])
@pytest.mark.parametrize("option", ["registry.url", "mlflow.uri"])
@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("sqlite:///cat.db", "sqlite:///{}/cat.db"),
        ("sqlite:///sub/../cat.db", "sqlite:///{}/sub/../cat.db"),
        ("sqlite+pysqlite:///cat.db?timeout=5", "sqlite+pysqlite:///{}/cat.db?timeout=5"),
        ("sqlite:///file:cat.db?mode=rw&uri=true", "sqlite:///file:{}/cat.db?mode=rw&uri=true"),
        ("sqlite:////data/cat.db", "sqlite:////data/cat.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite:///file:x?mode=memory&uri=true", "sqlite:///file:x?mode=memory&uri=true"),
        ("sqlite://", "sqlite://"),
        ("postgresql://user@db/cat.db", "postgresql://user@db/cat.db"),
        ("https://mlflow.example.org", "https://mlflow.example.org"),
        ("off", "off"),
        ("", ""),
    ],
)
def test_a_relative_sqlite_path_is_relative_to_the_file(
    tmp_path, monkeypatch, option, address, expected, by_variable
):
    section, name = option.split(".")
    text = MINIMAL
    if by_variable:
        monkeypatch.setenv(f"EVERGREEN_{section}__{name}".upper(), address)
    else:
        text += f'[{section}]\n{name} = "{address}"\n'
    settings = load_settings(written(tmp_path, text))
    assert getattr(getattr(settings, section), name) == expected.format(tmp_path)


def test_two_working_directories_open_one_catalog(tmp_path, monkeypatch):
    """Otherwise a shell would not see what an Airflow task has published."""
    file = written(tmp_path, MINIMAL + '[registry]\nurl = "sqlite:///cat.db"\n')
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        load_settings(file).open_registry().close()
    assert [found.parent for found in tmp_path.rglob("cat.db")] == [tmp_path]


@pytest.mark.parametrize(
    ("master", "cores"),
    [
        ("local", 1),
        ("local[1]", 1),
        ("local[3]", 3),
        ("local[2,4]", 2),
        ("local[*]", usable_cpus()),
        ("local[*,2]", usable_cpus()),
        ("local-cluster[2,3,1024]", 6),
        ("spark://host:7077", None),
        ("yarn", None),
    ],
)
def test_the_cores_of_a_master_and_the_default_that_fits_them(tmp_path, master, cores):
    settings = load_settings(written(tmp_path, MINIMAL + f'[spark]\nmaster = "{master}"'))
    assert cores_of(master) == cores
    assert settings.spark.members == min(2, cores or usable_cpus())


@pytest.mark.parametrize("hours", [-1, 24, "nan"])
def test_lateness_is_less_than_a_day(tmp_path, hours):
    with pytest.raises(SettingsError, match=r"services\.lateness"):
        load_settings(written(tmp_path, MINIMAL + f"[services]\nlateness = {hours}"))


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


@pytest.mark.parametrize(
    "option", ['precision = "bfloat16"', 'precision = "auto"', "compiled = true"]
)
def test_an_option_of_training_changes_the_digest_only_where_it_changes_the_result(
    tmp_path, option
):
    """Partitions from before the options stay current: their digest is that of the defaults."""
    plain = load_settings(written(tmp_path, MINIMAL))
    stated = '[ranker]\nprecision = "float32"\ncompiled = false\n'
    same = load_settings(written(tmp_path, MINIMAL + stated))
    other = load_settings(written(tmp_path, f"{MINIMAL}[ranker]\n{option}\n"))
    assert not {"precision", "compiled"} & plain.section("ranker").keys()
    assert plain.digest("ranker") == same.digest("ranker") != other.digest("ranker")


def test_the_projects_own_settings_load():
    assert load_settings().source.kind == "kuairand"


def test_days_between_counts_both_ends():
    assert days_between(date(2022, 4, 29), date(2022, 5, 1)) == [
        date(2022, 4, 29),
        date(2022, 4, 30),
        date(2022, 5, 1),
    ]
