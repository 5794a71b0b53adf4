"""Days that are landed by hand, as a reader of files lands them: with where each row was read."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.lake.schema import ENGAGEMENT_TABLE, IMPRESSION_TABLE, PROVENANCE, expected_columns
from jobs.pipeline.origin import origin
from jobs.pipeline.plan import recipe
from jobs.settings import Settings, SparkSettings, ValidationSettings
from jobs.sources.table import TableSettings

DAY = date(2024, 3, 1)
MIDNIGHT = int(datetime(2024, 3, 1, tzinfo=UTC).timestamp() * 1000)
ARROW = {"string": pa.string(), "bigint": pa.int64(), "double": pa.float64(), "int": pa.int32()}

Row = dict[str, Any]


def settings_of(home: Path, labels: tuple[str, ...] = (), **validation: Any) -> Settings:
    """Settings of a log of that day; its rows are impressions if it has labels."""
    log = home / "log.csv"
    names = ["user", "author", "time", "item", "kind", "value", "dwell", *labels]
    log.write_text(",".join(names) + f"\nu,a,{MIDNIGHT // 1000},i,k,1,1" + ",1" * len(labels))
    columns = {"consumer_id": "user", "producer_id": "author", "time": "time", "item_id": "item"}
    columns |= {"dwell_ms": "dwell"} if labels else {"kind": "kind", "value": "value"}
    source = TableSettings(
        kind="table", path=log, columns=columns, labels={label: label for label in labels}
    )
    return Settings(
        home=home / "home",
        source=source,
        spark=SparkSettings(partitions=1),
        validation=ValidationSettings(**{"max_bad_share": 0.9} | validation),
    )


def engagement(n: int, **changed: Any) -> Row:
    """The n-th line of a log: a good row, with these columns changed."""
    row = {
        "consumer_id": f"c{n % 7}",
        "producer_id": f"p{n % 5}",
        "item_id": f"i{n}",
        "kind": "view",
        "value": 1.0,
        "time_ms": MIDNIGHT + 1000 * n,
    }
    return row | place(n) | changed


def impression(n: int, **changed: Any) -> Row:
    row = engagement(n)
    del row["kind"], row["value"]
    return row | {"dwell_ms": 5} | place(n) | changed


def place(n: int) -> Row:
    return {"source_file": "log.csv", "source_line": n + 2, "raw": None, "fault": None}


def land_rows(settings: Settings, rows: list[Row]) -> None:
    """Commit these rows as what the day's log holds."""
    table = IMPRESSION_TABLE if settings.source.labels else ENGAGEMENT_TABLE
    names = [name for row in rows for name in row]
    kinds = expected_columns(table, list(dict.fromkeys(names)))
    schema = pa.schema([(name, ARROW[kind]) for name, kind in kinds.items()])
    read = origin(settings, DAY)
    where = {"log": read.log, "sources": read.files}
    with settings.lake.writing("land", DAY, recipe=recipe(settings, "land"), **where) as staging:
        (staging.path / table).mkdir()
        lacking = dict.fromkeys(schema.names)
        written = pa.Table.from_pylist([lacking | row for row in rows], schema)
        pq.write_table(written, staging.path / table / "part-00000-of-00001.parquet")
        staging.facts[f"rows_{table}"] = len(rows)


def rows_of(settings: Settings, step: str) -> list[Row]:
    """The main table of a partition of the day."""
    table = IMPRESSION_TABLE if settings.source.labels else ENGAGEMENT_TABLE
    partition = settings.lake.get(step, DAY)
    return pq.read_table(partition.path / table).to_pylist() if partition.has(table) else []


def reasons(settings: Settings) -> dict[str, str]:
    """The reasons of the day's bad rows, by item."""
    return {str(row["item_id"]): row["reason"] for row in rows_of(settings, "quarantine")}


assert set(PROVENANCE) == set(place(0))
