"""What every source promises, whatever its files look like; and a new source is one new file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_logs import DAYS, kuairand_log, table_log, write_edges, write_kuairand

from jobs.lake.schema import (
    ENGAGEMENT_TABLE,
    IMPRESSION_TABLE,
    TABLES,
    expected_columns,
    without_provenance,
)
from jobs.lake.store import Lake
from jobs.settings import Settings, SparkSettings, days_between
from jobs.sources import open_source, source_kinds
from jobs.sources.base import SourceSettings
from jobs.sources.days import HOUR_MS, day_bounds_ms
from jobs.sources.edgelist import EdgelistSettings
from jobs.sources.kuairand import KuaiRandSettings
from jobs.sources.simulated import SimulatedSettings
from jobs.sources.table import TableSettings
from jobs.steps import land, validate
from simulation.engagements import impressions

ROOT = Path(__file__).parent.parent.parent
TABLE = {"consumer_id": "who", "producer_id": "by", "item_id": "post"}
EVENTS = (IMPRESSION_TABLE, ENGAGEMENT_TABLE)


@dataclass(frozen=True)
class Log:
    """A small log on disk: the settings that read it, its first day and its number of events."""

    settings: SourceSettings
    rows: int
    first: date = DAYS[0]


def kuairand(folder: Path) -> Log:
    write_kuairand(folder, history=True)
    settings = KuaiRandSettings(kind="kuairand", path=folder)
    # Two engagements of the history, on the day before the log.
    return Log(settings, len(kuairand_log()) + 2, DAYS[0] - timedelta(days=1))


def csv_of_impressions(folder: Path) -> Log:
    """Two files with their columns in opposite order, local times, one of them gzipped."""
    log = table_log()
    folder.mkdir()
    log[:150].to_csv(folder / "one.csv", index=False)
    log[150:][reversed(log.columns)].to_csv(folder / "two.csv.gz", index=False)
    settings = TableSettings(
        kind="table",
        path=folder,
        columns=TABLE | {"time": "shown at"},
        labels={"click": "clicked"},
        context=["where"],
        time_unit="iso",
        timezone="Europe/Paris",
    )
    return Log(settings, len(log))


def parquet_of_engagements(folder: Path) -> Log:
    log = table_log()
    folder.mkdir()
    log.to_parquet(folder / "all.parquet")
    settings = TableSettings(
        kind="table",
        path=folder / "*.parquet",
        columns=TABLE | {"time": "unix", "value": "seconds"},
        timezone="Europe/Paris",
    )
    return Log(settings, len(log))


def edges(folder: Path) -> Log:
    settings = EdgelistSettings(kind="edgelist", path=write_edges(folder / "edges.txt.gz"))
    return Log(settings, int(kuairand_log().is_click.sum()))


def simulated(folder: Path) -> Log:
    """Four days of a small world whose consumers take more than one block."""
    settings = SimulatedSettings(
        kind="simulated", first_day=DAYS[0], days=4, consumers=20_000, producers=50, impressions=0.1
    )
    world = settings.world()
    return Log(settings, sum(len(impressions(world, day)) for day in range(4)))


LOGS = {
    "simulated": [simulated],
    "kuairand": [kuairand],
    "table": [csv_of_impressions, parquet_of_engagements],
    "edgelist": [edges],
}


@dataclass(frozen=True)
class Landed:
    """A log with all of its days landed."""

    log: Log
    settings: Settings

    @property
    def source(self):
        return open_source(self.settings)

    def tables(self, *names: str):
        """Every landed table of these names (all by default), with its day."""
        for day in days_between(*self.source.span()):
            for name in self.source.tables(day):
                if not names or name in names:
                    folder = self.settings.lake.get("land", day).path / name
                    yield day, name, pq.read_table(folder)


def test_every_source_has_a_log_that_this_suite_lands():
    assert sorted(LOGS) == sorted(source_kinds())


@pytest.fixture(
    scope="module",
    params=[write for kind in source_kinds() for write in LOGS.get(kind, ())],
    ids=lambda write: write.__name__,
)
def landed(request, spark, tmp_path_factory) -> Landed:
    folder = tmp_path_factory.mktemp("source")
    log = request.param(folder / "log")
    settings = Settings(
        home=folder / "home", source=log.settings, spark=SparkSettings(partitions=1)
    )
    for day in days_between(*open_source(settings).span()):
        land.run(spark, settings, day)
    return Landed(log, settings)


def test_the_span_is_from_the_logs_first_day_to_its_last(landed):
    assert landed.source.span() == (landed.log.first, DAYS[-1])


def test_every_row_of_the_log_lands_on_one_day(landed):
    rows = sum(table.num_rows for _, _, table in landed.tables(*EVENTS))
    assert rows == landed.log.rows


def test_the_tables_have_the_columns_of_the_schema(landed):
    spark_names = {
        "string": "string",
        "double": "double",
        "int64": "bigint",
        "int32": "int",
        "list<element: string>": "array<string>",
    }
    for _, name, table in landed.tables():
        assert name in TABLES
        columns = [(field.name, spark_names[str(field.type)]) for field in table.schema]
        assert columns == list(expected_columns(name, table.column_names).items())


def test_times_are_within_the_day_that_they_are_landed_on(landed):
    source = landed.source
    slack_ms = source.slack_h * HOUR_MS
    for day, _, table in landed.tables(*EVENTS):
        start, end = day_bounds_ms(day, source.timezone)
        for time_ms in table["time_ms"].drop_null().to_pylist():
            assert start - slack_ms <= time_ms < end + slack_ms


def test_only_columns_that_the_source_declares_absent_are_null_throughout(landed):
    for _, name, table in landed.tables(*EVENTS):
        columns = without_provenance(table.column_names)
        empty = {column for column in columns if table[column].null_count == table.num_rows}
        assert empty == landed.source.absent(name) & set(columns)


def test_notes_are_whole_numbers_or_texts_that_a_manifest_can_hold(landed):
    notes = json.loads(json.dumps(landed.source.notes(DAYS[0])))
    for value in notes.values():
        assert isinstance(value, int | str)


def test_a_clean_log_is_trusted_and_keeps_its_rows(landed, spark):
    lake, day = landed.settings.lake, DAYS[0]
    validate.run(spark, landed.settings, day)
    verdict = lake.get("validate", day).facts
    assert verdict["trusted"]
    for table in landed.source.tables(day):
        assert verdict[f"bad_{table}"] == 0
        assert verdict[f"rows_{table}"] == lake.get("land", day).facts[f"rows_{table}"]


# --- a new source


VISITS = '''
"""Visits, one file per day named 2024-03-01.visits, `user author` per line."""

from datetime import date

from jobs.lake.schema import ENGAGEMENT_TABLE
from jobs.sources.base import SourceSettings


class VisitsSettings(SourceSettings):
    strength: float = 1.0


class Visits:
    Settings = VisitsSettings
    timezone = "UTC"
    slack_h = 0.0

    def __init__(self, settings, memory):
        self.settings = settings

    def span(self):
        days = [date.fromisoformat(file.stem) for file in self.settings.path.glob("*.visits")]
        return min(days), max(days)

    def tables(self, day):
        return (ENGAGEMENT_TABLE,)

    def files(self, day):
        return [file for file in self.settings.path.glob("*.visits") if file.stem == str(day)]

    def absent(self, table):
        return frozenset({"item_id", "time_ms"})

    def table(self, spark, table, day):
        lines = spark.read.csv(
            str(self.settings.path / f"{day}.visits"),
            sep=" ",
            schema="consumer_id string, producer_id string",
        )
        return lines.selectExpr(
            "consumer_id",
            "producer_id",
            "null item_id",
            "'visit' kind",
            f"{self.settings.strength} value",
            "null time_ms",
        )

    def notes(self, day):
        return {"visits": "counted"}


SOURCE = Visits
'''

LAND = """
from datetime import date
from jobs.settings import load_settings
from jobs.spark.session import spark_session
from jobs.steps import land

settings = load_settings("my.toml")
land.run(spark_session(settings), settings, date(2024, 3, 1))
"""

SETTINGS = """
home = "home"
[source]
kind = "visits"
path = "log"
{option} = 2.5
[spark]
driver_memory = "1g"
master = "local[1]"
partitions = 1
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the code with one file more: jobs/sources/visits.py."""
    tree = tmp_path_factory.mktemp("tree")
    for package in ("embeddings", "jobs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tree / package, ignore=ignored)
    (tree / "jobs" / "sources" / "visits.py").write_text(VISITS)
    (tree / "log").mkdir()
    (tree / "log" / "2024-03-01.visits").write_text("ann bea\ncid dan\n")
    return tree


def land_in(tree: Path, option: str) -> subprocess.CompletedProcess:
    (tree / "my.toml").write_text(SETTINGS.format(option=option))
    environment = os.environ | {"PYTHONPATH": str(tree)}
    command = [sys.executable, "-c", LAND]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_new_source_is_one_new_file(tree):
    done = land_in(tree, option="strength")
    assert done.returncode == 0, done.stderr[-3000:]
    partition = Lake(tree / "home" / "lake").get("land", DAYS[0])
    assert partition.facts == {"rows_engagements": 2, "visits": "counted"}
    rows = pq.read_table(partition.path / "engagements").to_pylist()
    nothing = {"item_id": None, "time_ms": None}
    assert rows == [
        {"consumer_id": "ann", "producer_id": "bea", "kind": "visit", "value": 2.5} | nothing,
        {"consumer_id": "cid", "producer_id": "dan", "kind": "visit", "value": 2.5} | nothing,
    ]


def test_a_misspelt_option_of_a_new_source_is_named(tree):
    done = land_in(tree, option="strenght")
    assert done.returncode != 0
    assert (
        "source.visits.strenght: unknown option; did you mean strength? (given: 2.5)" in done.stderr
    )
