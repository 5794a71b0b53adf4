"""What every source promises, whatever its files look like."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from small_logs import DAYS, kuairand_log, table_log, write_edges, write_kuairand

from jobs.lake.schema import TABLES, expected_columns
from jobs.settings import (
    EdgelistSettings,
    KuaiRandSettings,
    Settings,
    SparkSettings,
    TableSettings,
    days_between,
)
from jobs.sources import open_source
from jobs.sources.reading import HOUR_MS, day_bounds_ms
from jobs.steps import land, validate

TABLE = {"consumer_id": "who", "producer_id": "by", "item_id": "post"}


def kuairand(folder):
    return KuaiRandSettings(kind="kuairand", path=write_kuairand(folder, history=True)), len(
        kuairand_log()
    ) + 2


def csv_of_impressions(folder):
    log = table_log()
    folder.mkdir()
    log[:150].to_csv(folder / "one.csv", index=False)
    log[150:][reversed(log.columns)].to_csv(folder / "two.csv.gz", index=False)
    columns = TABLE | {"time": "shown at"}
    options = {
        "labels": {"click": "clicked"},
        "context": ["where"],
        "time_unit": "iso",
        "timezone": "Europe/Paris",
    }
    return TableSettings(kind="table", path=folder, columns=columns, **options), len(log)


def parquet_of_engagements(folder):
    folder.mkdir()
    table_log().to_parquet(folder / "all.parquet")
    columns = TABLE | {"time": "unix", "value": "seconds"}
    return TableSettings(
        kind="table", path=folder / "*.parquet", columns=columns, timezone="Europe/Paris"
    ), len(table_log())


def edges(folder):
    return EdgelistSettings(kind="edgelist", path=write_edges(folder / "edges.txt.gz")), int(
        kuairand_log().is_click.sum()
    )


@pytest.fixture(
    scope="module",
    params=[kuairand, csv_of_impressions, parquet_of_engagements, edges],
    ids=lambda p: p.__name__,
)
def landed(request, spark, tmp_path_factory):
    """A source of each kind, its whole log landed: (settings, source, rows in the log)."""
    folder = tmp_path_factory.mktemp("source")
    options, rows = request.param(folder / "log")
    settings = Settings(home=folder / "home", source=options, spark=SparkSettings(partitions=1))
    source = open_source(settings)
    for day in days_between(*source.span()):
        land.run(spark, settings, day)
    return settings, source, rows


def landed_tables(settings, source, *names):
    for day in days_between(*source.span()):
        for table in source.tables(day):
            if not names or table in names:
                yield day, table, pq.read_table(settings.lake.get("land", day).path / table)


def test_the_log_ends_where_its_span_ends(landed):
    _, source, _ = landed
    first, last = source.span()
    assert last == DAYS[-1]
    assert (DAYS[0] - first).days == (
        1 if source.name == "kuairand" else 0
    )  # the day of its history


def test_every_row_of_the_log_lands_on_one_day(landed):
    settings, source, rows = landed
    assert (
        sum(
            table.num_rows
            for *_, table in landed_tables(settings, source, "impressions", "engagements")
        )
        == rows
    )


def test_the_tables_have_the_columns_of_the_schema(landed):
    settings, source, _ = landed
    names = {"string": "string", "double": "double", "int64": "bigint", "int32": "int"}
    for _, name, table in landed_tables(settings, source):
        found = {field.name: names[str(field.type)] for field in table.schema}
        assert name in TABLES
        assert list(found.items()) == list(expected_columns(name, table.column_names).items())


def test_times_lie_in_the_day_that_they_are_landed_on(landed):
    settings, source, _ = landed
    for day, _, table in landed_tables(settings, source, "impressions", "engagements"):
        start, end = day_bounds_ms(day, source.timezone)
        times = [time for time in table["time_ms"].to_pylist() if time is not None]
        assert all(
            start - source.slack_h * HOUR_MS <= time < end + source.slack_h * HOUR_MS
            for time in times
        )


def test_a_column_is_null_throughout_just_where_the_source_says_so(landed):
    settings, source, _ = landed
    for _, name, table in landed_tables(settings, source, "impressions", "engagements"):
        empty = {
            column for column in table.column_names if table[column].null_count == table.num_rows
        }
        assert empty == source.absent(name) & set(table.column_names)


def test_notes_can_be_kept_with_the_partition(landed):
    _, source, _ = landed
    assert all(
        isinstance(value, int | str)
        for value in json.loads(json.dumps(source.notes(DAYS[0]))).values()
    )


def test_a_clean_log_is_trusted_and_keeps_its_rows(landed, spark):
    settings, source, _ = landed
    day = DAYS[0]
    validate.run(spark, settings, day)
    verdict = settings.lake.get("validate", day).facts
    assert verdict["trusted"]
    for table in source.tables(day):
        assert verdict[f"bad_{table}"] == 0
        assert verdict[f"rows_{table}"] == settings.lake.get("land", day).facts[f"rows_{table}"]
