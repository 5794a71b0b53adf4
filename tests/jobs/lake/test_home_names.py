"""A home may have any printable name: it is never a pattern or an address."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date

import pytest
from prepared import publish
from sqlalchemy.engine import make_url

from jobs.errors import SettingsError
from jobs.lake.store import Lake, read_parquet
from jobs.settings import Settings, load_settings, sqlite_address
from jobs.sources.kuairand import KuaiRandSettings

DAY = date(2024, 3, 1)
NAMES = [
    "[1]{a,b}*",
    "a:b [x]",
    "50 %20",
    "why?#",
    "zwölf 日本",
    "back\\slash",
    "quo'te\"s`",
    "$HOME;&",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_lake_is_written_and_read_by_spark(spark, tmp_path, name):
    lake = Lake(tmp_path / name)
    rows = spark.createDataFrame([("a", 1), ("b", 2)], "id string, n int")
    with lake.writing("land", DAY, recipe="s") as staging:
        staging.write(rows, "table", keys=["id", "n"])
    assert [tuple(row) for row in lake.get("land", DAY).read(spark, "table").collect()] == [
        ("a", 1),
        ("b", 2),
    ]


def test_a_name_that_is_a_pattern_as_well_reads_itself(spark, tmp_path):
    for name, id_ in (("h[12]", "mine"), ("h1", "another's")):
        rows = spark.createDataFrame([(id_,)], "id string")
        with Lake(tmp_path / name).writing("land", DAY, recipe="s") as staging:
            staging.write(rows, "table", keys=["id"])
    mine = Lake(tmp_path / "h[12]").get("land", DAY)
    assert read_parquet(spark, [mine.path / "table"]).collect()[0]["id"] == "mine"


@pytest.mark.parametrize("name", NAMES)
def test_the_registry_is_written_and_read(tmp_path, name):
    source = KuaiRandSettings(kind="kuairand", path=tmp_path)
    settings = Settings(home=tmp_path / name, source=source)
    version = publish(settings, DAY)
    with settings.open_registry() as registry:
        assert registry.load(version).entities["producer"].rows(["b"]) == [1]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_addresses_of_sqlite_name_the_file_itself(tmp_path, name):
    file = tmp_path / name / "x.db"
    assert make_url(sqlite_address(file)).database == str(file)
    home = tmp_path / name
    home.mkdir()
    toml = home / "s.toml"
    toml.write_text(
        '[source]\nkind = "kuairand"\npath = "x"\n[registry]\nurl = "sqlite:///a%20b.db?timeout=5"\n'
    )
    assert make_url(load_settings(toml).registry.url).database == str(home / "a b.db")


def test_a_home_that_no_log_could_show_is_refused(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text('home = "a\\nb"\n[source]\nkind = "kuairand"\npath = "x"\n')
    with pytest.raises(SettingsError, match="home: expected a path without line breaks"):
        load_settings(file)


FOUND_BY_THE_JVM = """
import sys
from pathlib import Path
from jobs.settings import Settings
from jobs.sources.kuairand import KuaiRandSettings
from jobs.spark.session import spark_session

home = Path(sys.argv[1])
assert home.exists()
source = KuaiRandSettings(kind="kuairand", path=home)
spark = spark_session(Settings(home=home, source=source))
assert spark._jvm.java.io.File(str(home)).exists()
"""


def test_a_name_that_is_not_ascii_is_found_under_lc_all_c(tmp_path):
    """As in cron, systemd units and containers."""
    home = tmp_path / "zwölf"
    home.mkdir()
    env = {name: text for name, text in os.environ.items() if name != "LANG"} | {"LC_ALL": "C"}
    command = [sys.executable, "-c", FOUND_BY_THE_JVM, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
