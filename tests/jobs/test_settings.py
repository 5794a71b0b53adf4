"""Settings from a file and variables; every mistake is named."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import annotated_types
import pytest
from typer.testing import CliRunner

from embeddings.registry.versions import NAME
from jobs.cli import app
from jobs.errors import SettingsError
from jobs.machine import usable_cpus
from jobs.names import PUBLISHED, column_name
from jobs.plugins import models_in, options_of, plugin_names
from jobs.settings import (
    EmbeddingSettings,
    RankerSettings,
    Settings,
    cores_of,
    days_between,
    load_settings,
)
from jobs.spark.session import classic_conf

MINIMAL = '[source]\nkind = "kuairand"\npath = "data"\n'


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "my.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[matrix]\nwindow_dais = 3",
            r"matrix.window_dais: .*did you mean window_days\?.*given: 3",
        ),
        ("[embeding]\ndim = 3", r"embeding: .*did you mean embedding\?"),
        ("[embedding]\ndims = 3", r"unknown option 'dims'; did you mean dim\?"),
        ("[embedding.svd]\nsmothing = 1", r"svd.smothing: .*did you mean smoothing\?"),
        ("[ranker.masknet]\nxyz = 1", r"masknet.xyz: .*expected one of: .*blocks"),
        ("[source]\npaht = 'x'\n", r"source.*paht: .*did you mean path\?"),
    ],
)
def test_a_misspelt_option_is_named_with_the_one_that_was_meant(tmp_path, text, said):
    base = MINIMAL if "[source]" not in text else ""
    if not base:
        text += MINIMAL.removeprefix("[source]\n")
    with pytest.raises(SettingsError, match=f"my.toml: .*{said}"):
        load_settings(written(tmp_path, base + text))


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("EVERGREEN_EMBEDING__DIM", r"EVERGREEN_EMBEDING__DIM sets .*EVERGREEN_EMBEDDING__DIM\?"),
        ("evergreen_matrixx__producers", r"Did you mean EVERGREEN_MATRIX__PRODUCERS\?"),
        ("EVERGREEN_EMBEDDING_DIM", r"Did you mean EVERGREEN_EMBEDDING__DIM\?"),
        ("EVERGREEN_HOMEE", r"Did you mean EVERGREEN_HOME\?"),
        ("EVERGREEN_QQQ__DIM", r"EVERGREEN_QQQ__DIM sets no option .*unset it"),
        ("EVERGREEN_MATRIX__WINDOW_DAIS", r"matrix.window_dais: .*did you mean window_days\?"),
    ],
)
def test_a_misspelt_variable_is_named_with_the_one_that_was_meant(
    tmp_path, monkeypatch, variable, said
):
    monkeypatch.setenv(variable, "8")
    with pytest.raises(SettingsError, match=said):
        load_settings(written(tmp_path, MINIMAL))


@pytest.mark.parametrize("variable", ["EVERGREEN_REGISTRY_TOKEN", "EVERGREEN_OF_OUR_COMPANY"])
def test_variables_of_others_are_left_alone(tmp_path, monkeypatch, variable):
    file = written(tmp_path, MINIMAL)
    without = load_settings(file)
    monkeypatch.setenv(variable, "8")
    assert load_settings(file) == without


def numbers():
    """Every option that is a number, of all sections and plug-ins: its name, its field, and the
    text of a settings file that it can follow.
    """
    sections = {name: info.annotation for name, info in Settings.model_fields.items()}
    for section in (EmbeddingSettings, RankerSettings):
        for plugin in plugin_names(section.family, section.marker):
            name = "embedding" if section is EmbeddingSettings else "ranker"
            sections[f"{name}.{plugin}"] = options_of(section.family, plugin)
    for name, annotation in sections.items():
        for model in models_in(annotation):
            before = f"{MINIMAL}[{name}]\n"
            if name == "source":
                kind = model.__module__.rpartition(".")[2]
                before = f'[source]\nkind = "{kind}"\npath = "log"\n'
            for option, info in model.model_fields.items():
                if info.annotation in (int, float):
                    yield f"{name}.{option}", info, before


def test_every_number_has_a_smallest_value_which_is_taken_and_below_which_it_is_refused(tmp_path):
    """A number without bounds fails hours later, in a step that cannot name the option."""
    for option, info, before in numbers():
        bounds = [rule for rule in info.metadata if isinstance(rule, annotated_types.BaseMetadata)]
        lowest = [getattr(rule, "ge", getattr(rule, "gt", None)) for rule in bounds]
        lowest = [bound for bound in lowest if bound is not None]
        assert lowest, f"{option} has no smallest value"
        name = option.rpartition(".")[2]
        below = str(min(0, *lowest) - 1)
        for value in (below, "nan", "inf") if info.annotation is float else (below,):
            with pytest.raises(SettingsError, match=name):
                load_settings(written(tmp_path, f"{before}{name} = {value}"))


@pytest.mark.parametrize(
    "text",
    [
        "[matrix]\nwindow_days = 0",
        "[matrix]\nproducers = 0",
        "[matrix]\nweights = {like = -1.0}",
        "[spark]\npartitions = 0",
        '[spark]\ndriver_memory = "lots"',
        '[spark]\nconf = {"spark.dynamicAllocation.enabled" = "true"}',
        "[ranker]\nbootstrap = 0",
        "[ranker]\nbatch_size = 0",
        "[ranker]\nthreads = 0",
        "[ranker]\nlearning_rate = 0",
        "[ranker.masknet]\nhidden = [64, 0]",
        "[validation]\nmax_bad_share = 1.5",
        '[validation]\nrepeats = "keys"',
        "[services]\nairflow_port = 70000",
        "[services]\nairflow_port = 0",
        "[services]\nairflow_port = 5000",
        "[benchmark]\nlengths = [0]",
        "[benchmark]\nlengths = [32]",
        '[embedding]\nname = "a/b"',
        '[embedding]\nname = ""',
        '[embedding]\nname = ".."',
        '[ranker]\nname = "a/b"',
        '[ranker]\nname = "a:b"',
        '[ranker]\nname = " "',
        '[ranker]\nname = "50 %"',
    ],
)
def test_an_option_without_meaning_is_refused_by_name(tmp_path, text):
    option = text.partition("\n")[2].split(" ")[0]
    with pytest.raises(SettingsError, match=option):
        load_settings(written(tmp_path, MINIMAL + text))


def table_with(labels: str, context: str = "[]") -> str:
    columns = '{consumer_id = "user", producer_id = "author", time = "time"}'
    return (
        f'[source]\nkind = "table"\npath = "log"\ncolumns = {columns}\n'
        f"labels = {labels}\ncontext = {context}\n"
    )


@pytest.mark.parametrize(
    ("labels", "context", "said"),
    [
        ("{click = 'a', Click = 'b'}", "[]", r"labels: 'click' and 'Click' cannot be told apart"),
        ("{click = 'a'}", "['os', 'OS']", r"context: 'os' and 'OS' cannot be told apart"),
        ("{'a (%)' = 'a', 'a [%]' = 'b'}", "[]", r"'a \(%\)' and 'a \[%\]'"),
        ("{'' = 'a'}", "[]", r"labels: '' cannot be a name"),
        ("{'a\\u0000' = 'a'}".replace("'", '"'), "[]", r"labels: .* cannot be a name"),
    ],
)
def test_names_that_cannot_be_told_apart_are_refused(tmp_path, labels, context, said):
    with pytest.raises(SettingsError, match=said):
        load_settings(written(tmp_path, table_with(labels, context)))


def test_labels_and_contexts_may_be_called_anything_else(tmp_path):
    labels = "{add-to-cart = 'a', 'click rate (%)' = 'b', 'x.y' = 'c', 'お' = 'd', '`' = 'e'}"
    source = load_settings(written(tmp_path, table_with(labels, "['device.os', 'a b']"))).source
    assert list(source.labels) == ["add-to-cart", "click rate (%)", "x.y", "お", "`"]
    assert source.context == ["device.os", "a b"]


def test_a_published_name_is_one_of_the_registrys_and_columns_get_one(tmp_path):
    assert PUBLISHED.pattern == NAME.pattern
    names = ["label_click", "label_click rate (%)", "label_a.b", "label_`", "label_" + "お" * 99]
    found = {column_name(name) for name in [*names, "label_a_b", "label_a b"]}
    assert len(found) == len(names) + 2
    assert all(NAME.fullmatch(name) for name in found)
    assert column_name("label_click") == "label_click"


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
    "option",
    [
        'precision = "bfloat16"',
        'precision = "auto"',
        "compiled = true",
        "negatives_kept = 0.5",
        "id_buckets = 32768",
        "admit_after = 2",
        "warm_start = true",
    ],
)
def test_an_option_of_training_changes_the_digest_only_where_it_changes_the_result(
    tmp_path, option
):
    """Partitions from before the options stay current: their digest is that of the defaults."""
    plain = load_settings(written(tmp_path, MINIMAL))
    stated = '[ranker]\nprecision = "float32"\ncompiled = false\nnegatives_kept = 1.0\n'
    same = load_settings(written(tmp_path, MINIMAL + stated))
    other = load_settings(written(tmp_path, f"{MINIMAL}[ranker]\n{option}\n"))
    assert not {"precision", "compiled", "negatives_kept"} & plain.section("ranker").keys()
    assert plain.digest("ranker") == same.digest("ranker") != other.digest("ranker")


@pytest.mark.parametrize("option", ['tables = "sharded"', "weights = {click = 2}"])
def test_an_option_that_shapes_no_partition_is_not_in_the_digest(tmp_path, option):
    plain = load_settings(written(tmp_path, MINIMAL))
    other = load_settings(written(tmp_path, f"{MINIMAL}[ranker]\n{option}\n"))
    assert plain.digest("ranker") == other.digest("ranker")


def test_the_projects_own_settings_load():
    assert load_settings().source.kind == "kuairand"


def test_days_between_counts_both_ends():
    assert days_between(date(2022, 4, 29), date(2022, 5, 1)) == [
        date(2022, 4, 29),
        date(2022, 4, 30),
        date(2022, 5, 1),
    ]


@pytest.mark.parametrize("command", ["run", "backfill"])
def test_a_first_day_after_the_last_is_an_error(command):
    days = ["--from", "2022-05-02", "--to", "2022-05-01"]
    result = CliRunner().invoke(app, [command, *days])
    assert result.exit_code == 1
    assert "--from 2022-05-02 is after --to 2022-05-01" in result.output
