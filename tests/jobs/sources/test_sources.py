"""What each source makes of its files, and what it says when they are not what they claim to be."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from pyspark.sql import functions as F
from small_logs import (
    DAYS,
    author_of,
    kuairand_log,
    midnight_ms,
    table_log,
    write_edges,
    write_kuairand,
)

from jobs.errors import BadInput, SettingsError
from jobs.lake.schema import in_order
from jobs.settings import Settings, load_settings
from jobs.sources import open_source
from jobs.sources.days import day_of_ms
from jobs.sources.edgelist import Edgelist, EdgelistSettings
from jobs.sources.kuairand import KuaiRand, KuaiRandSettings
from jobs.sources.table import Table, TableSettings
from jobs.sources.times import time_in_ms, times_to_ms
from jobs.steps import land

COLUMNS = {"consumer_id": "who", "producer_id": "by", "time": "unix"}


def kuairand(folder) -> KuaiRand:
    return KuaiRand(KuaiRandSettings(kind="kuairand", path=folder))


def table(path, columns=COLUMNS, **options) -> Table:
    return Table(TableSettings(kind="table", path=path, columns=columns, **options))


def rows_of(source, spark, table: str, day=DAYS[0]) -> list[dict]:
    return [row.asDict() for row in in_order(source.table(spark, table, day), table).collect()]


# --- KuaiRand ----------------------------------------------------------------------------------------------------


def test_an_impression_of_kuairand_names_the_author_and_the_hour_in_china(spark, tmp_path):
    rows = rows_of(kuairand(write_kuairand(tmp_path)), spark, "impressions")
    for row in rows:
        moment = datetime.fromtimestamp(row["time_ms"] / 1000, ZoneInfo("Asia/Shanghai"))
        assert row["producer_id"] == str(author_of(int(row["item_id"])))
        assert row["ctx_hour"] == str(moment.hour)
    assert sum(row["label_like"] for row in rows) == kuairand_log(DAYS[:1]).is_like.sum()


def test_items_and_consumers_of_kuairand_tell_categories_and_numbers(spark, tmp_path):
    source = kuairand(write_kuairand(tmp_path))
    item = next(row for row in rows_of(source, spark, "items", DAYS[1]) if row["item_id"] == "7")
    assert item == {
        "item_id": "7", "producer_id": "903", "cat_video_type": "NORMAL", "cat_upload_type": "Web",
        "cat_music_type": "9", "cat_tag": "39", "cat_tags": "39,11",
        "num_duration_ms": 8000.0, "num_width": 720.0, "num_height": 1280.0, "num_age_days": 3.0,
    }  # fmt: skip
    users = {row["consumer_id"]: row for row in rows_of(source, spark, "consumers")}
    assert (
        users["3"]["cat_onehot_feat4"],
        users["0"]["cat_onehot_feat4"],
        users["3"]["num_fans_user_num"],
    ) == (
        "1",
        None,
        3.0,
    )


def test_the_history_is_a_day_of_engagements_before_the_log(spark, tmp_path):
    source = kuairand(write_kuairand(tmp_path, history=True))
    eve = source.span()[0]
    assert (str(eve), source.tables(eve)) == ("2024-02-29", ("engagements",))
    told = {
        (row["consumer_id"], row["producer_id"], row["item_id"], row["kind"])
        for row in rows_of(source, spark, "engagements", eve)
    }
    assert told == {
        ("0", str(author_of(3)), "3", "long_view"),
        ("0", str(author_of(4)), "4", "like"),
    }


def test_a_history_that_does_not_end_before_the_log_is_left_alone(tmp_path):
    source = kuairand(write_kuairand(tmp_path, kuairand_log(DAYS[1:]), history=True))
    assert source.span() == (DAYS[1], DAYS[3])


def test_the_full_download_has_several_plain_files(spark, tmp_path):
    """A day that is in both files comes once: its rows repeat in all columns."""
    write_kuairand(tmp_path, kuairand_log(DAYS[:2]))
    kuairand_log(DAYS[1:]).to_csv(
        tmp_path / "data" / "log_standard_3_02_to_3_04_pure.csv", index=False
    )
    source = kuairand(tmp_path)
    assert source.span() == (DAYS[0], DAYS[3])
    assert len(rows_of(source, spark, "impressions", DAYS[1])) == 100
    assert source.notes(DAYS[1]) == {"exact_repeats_dropped": 100}


@pytest.mark.parametrize(
    "file", ["log_standard_3_01_to_3_04_pure.csv.gz", "user_features_pure.csv.gz"]
)
def test_a_column_that_kuairand_publishes_and_is_missing_is_named(spark, tmp_path, file):
    path = write_kuairand(tmp_path) / "data" / file
    frame = pd.read_csv(path)
    frame.drop(columns=[frame.columns[5]]).to_csv(path, index=False)
    settings = Settings(
        home=tmp_path / "home", source=KuaiRandSettings(kind="kuairand", path=tmp_path)
    )
    with pytest.raises(
        BadInput,
        match=rf"{file} has no column '{frame.columns[5]}'. It has: user_id, .*fetch it again",
    ):
        land.run(spark, settings, DAYS[0])
    assert settings.lake.days("land") == []


def test_a_folder_that_is_not_kuairand_says_what_was_sought(tmp_path):
    with pytest.raises(BadInput, match=r"no log_standard\*_pure.csv\* in .*Set source.path"):
        kuairand(tmp_path).span()


# --- files that cannot be read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 5, 1000, -9, -1])
def test_a_truncated_gzip_is_named(tmp_path, keep):
    file = write_kuairand(tmp_path) / "data" / "log_standard_3_01_to_3_04_pure.csv.gz"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(
        BadInput, match=r"log_standard_3_01_to_3_04_pure.csv.gz (cannot be read|is empty)"
    ):
        kuairand(tmp_path).span()


def test_a_list_of_edges_that_is_cut_off_is_named(tmp_path):
    file = write_edges(tmp_path / "edges.txt.gz")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(BadInput, match=r"edges.txt.gz cannot be read.*fetch it again"):
        Edgelist(EdgelistSettings(kind="edgelist", path=file)).span()


def test_a_day_outside_the_log_is_told_the_days_of_the_log(spark, tmp_path):
    source = EdgelistSettings(kind="edgelist", path=write_edges(tmp_path / "edges.txt.gz"))
    settings = Settings(home=tmp_path / "home", source=source)
    with pytest.raises(
        BadInput, match=r"2023-03-01 is not in the log: it runs from 2024-03-01 to 2024-03-04"
    ):
        land.run(spark, settings, DAYS[0].replace(year=2023))


# --- table and edgelist ------------------------------------------------------------------------------------------


def test_a_column_that_the_settings_ask_for_and_the_file_lacks_is_named_with_its_setting(tmp_path):
    table_log().to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(
        BadInput,
        match=r"log.csv has no column 'author'. It has: who, by, .*source.columns.producer_id",
    ):
        table(tmp_path, COLUMNS | {"producer_id": "author"}).span()
    with pytest.raises(BadInput, match=r"no column 'liked'.*source.labels.like"):
        table(tmp_path, labels={"like": "liked"}).span()


def test_no_file_no_rows_and_no_times_are_told_apart(tmp_path):
    with pytest.raises(BadInput, match=r"no file at .*nowhere"):
        table(tmp_path / "nowhere").span()
    table_log()[:0].to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(BadInput, match=r"log.csv has no rows"):
        table(tmp_path).span()
    table_log().to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(
        BadInput, match=r"400 of 400 rows have no readable time in column 'shown at', read as .*'s'"
    ):
        table(tmp_path, COLUMNS | {"time": "shown at"}).span()
    table_log().assign(unix=lambda log: log.unix * 1000).to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(
        BadInput, match=r"'unix', read as source.time_unit = 's' reach beyond the year 9999"
    ):
        table(tmp_path).span()


ISO = {  # as New York writes it -> in UTC
    "2024-03-10 01:30:00": "2024-03-10T06:30",  # winter time
    "2024-03-10T12:00:00.250": "2024-03-10T16:00:00.250",  # summer time since 2 o'clock
    "2024-03-10T12:00:00+08:00": "2024-03-10T04:00",
    "2024-03-10T12:00:00Z": "2024-03-10T12:00",
    "2024-03-10": "2024-03-10T05:00",
    "tomorrow": None,
}


def test_iso_times_mean_the_same_to_spark_and_to_the_span(spark):
    utc = [text and datetime.fromisoformat(text).replace(tzinfo=UTC) for text in ISO.values()]
    expected = [moment and round(moment.timestamp() * 1000) for moment in utc]
    here = times_to_ms(pd.Series(list(ISO)), "iso", "America/New_York")
    rows = spark.createDataFrame([(text,) for text in ISO], "t string")
    there = [
        row[0] for row in rows.select(time_in_ms(F.col("t"), "iso", "America/New_York")).collect()
    ]
    assert [None if pd.isna(ms) else ms for ms in here] == expected
    assert there == expected


def test_a_label_may_be_true_or_a_number_and_anything_else_is_null(spark, tmp_path):
    marks = ["True", "false", "1", "0.0", "maybe", ""]
    pd.DataFrame(
        {"who": "a", "by": "b", "unix": midnight_ms(DAYS[0], "UTC") // 1000, "hit": marks}
    ).to_csv(tmp_path / "l.csv")
    rows = rows_of(table(tmp_path, labels={"click": "hit"}), spark, "impressions")
    assert sorted(str(row["label_click"]) for row in rows) == ["0", "0", "1", "1", "None", "None"]


def test_a_line_of_an_edge_list_is_an_engagement(spark, tmp_path):
    second = midnight_ms(DAYS[0], "UTC") // 1000
    (tmp_path / "edges.txt").write_text(f"# SNAP\n\n7 8 {second}\n  7\t9  {second + 1}.5 reply\n")
    source = Edgelist(EdgelistSettings(kind="edgelist", path=tmp_path / "edges.txt"))
    assert rows_of(source, spark, "engagements") == [
        {
            "consumer_id": "7",
            "producer_id": "8",
            "item_id": None,
            "kind": "edge",
            "value": 1.0,
            "time_ms": second * 1000,
        },
        {
            "consumer_id": "7",
            "producer_id": "9",
            "item_id": None,
            "kind": "reply",
            "value": 1.0,
            "time_ms": second * 1000 + 1500,
        },
    ]


def test_a_day_is_read_from_every_file_that_can_hold_it_and_from_no_other(spark, tmp_path):
    """One file ends in the day, one lies in it, one comes after it and is gone by then. Between files are no rows."""
    first, second = (midnight_ms(day, "UTC") // 1000 for day in (DAYS[0], DAYS[2]))
    for name, times in {
        "a": (first - 5, first),
        "b": (first + 5,),
        "c": (second, second + 1),
    }.items():
        (tmp_path / f"{name}.txt").write_text("".join(f"1 {name} {time}\n" for time in times))
    source = Edgelist(EdgelistSettings(kind="edgelist", path=tmp_path))
    assert source.span()[1] == DAYS[2]
    (tmp_path / "c.txt").unlink()
    rows = source.table(spark, "engagements", DAYS[0]).collect()
    assert sorted((row["producer_id"], row["time_ms"]) for row in rows) == [
        ("a", first * 1000),
        ("b", first * 1000 + 5000),
    ]
    assert source.table(spark, "engagements", DAYS[1]).count() == 0


def test_lines_without_a_time_are_counted_and_too_many_of_them_are_refused(spark, tmp_path):
    second, file = midnight_ms(DAYS[0], "UTC") // 1000, tmp_path / "edges.txt.gz"
    settings = EdgelistSettings(kind="edgelist", path=file)
    file.write_bytes(gzip.compress("\n".join([f"1 2 {second}"] * 99 + ["1 2"]).encode()))
    source = Edgelist(settings)
    assert (len(rows_of(source, spark, "engagements")), source.notes(DAYS[0])) == (
        99,
        {"undated_rows_in_log": 1},
    )
    file.write_bytes(gzip.compress("\n".join([f"1 2 {second}"] * 9 + ["1 2"]).encode()))
    with pytest.raises(BadInput, match=r"1 of 10 rows have no readable time in the third field"):
        Edgelist(settings).span()


def test_the_day_of_a_moment_is_that_of_the_time_zone():
    assert str(day_of_ms(midnight_ms(DAYS[0]), "Asia/Shanghai")) == "2024-03-01"
    assert str(day_of_ms(midnight_ms(DAYS[0]), "UTC")) == "2024-02-29"


# --- settings ----------------------------------------------------------------------------------------------------


TABLE = 'kind = "table"\npath = "log.csv"\n'


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('kind = "csv"\npath = "x"', r"source.*'csv'.*'kuairand', 'table', 'edgelist'"),
        ('kind = "edgelist"', r"source.edgelist.path: Field required"),
        (
            'kind = "edgelist"\npath = "x"\ntimezone = "Mars"',
            r"no such time zone; expected a name such as .*given: 'Mars'",
        ),
        (TABLE + 'columns = {consumer_id = "a", time = "t"}', r"columns lacks \['producer_id'\]"),
        (
            TABLE + 'columns = {consumer_id = "a", producer_id = "b", time = "t", user = "c"}',
            r"columns has \['user'\].*they may",
        ),
        (
            TABLE + 'columns = {consumer_id = "a", producer_id = "b", time = "t", dwell_ms = "d"}',
            r"\['dwell_ms'\], which engag",
        ),
        (
            TABLE + 'columns = {consumer_id = "a", producer_id = "b", time = "t"}\ncontext = ["c"]',
            r"give labels too",
        ),
        (
            TABLE
            + 'columns = {consumer_id = "a", producer_id = "b", time = "t"}\ntime_unit = "us"',
            r"'s', 'ms' or 'iso'",
        ),
    ],
)
def test_a_source_that_cannot_be_meant_is_told(tmp_path, source, message):
    (tmp_path / "my.toml").write_text(f"[source]\n{source}\n")
    with pytest.raises(SettingsError, match=message):
        load_settings(tmp_path / "my.toml")


@pytest.mark.parametrize("example", ["collegemsg", "table"])
def test_the_examples_are_valid_settings(example):
    from jobs.settings import DEFAULT_FILE

    settings = load_settings(DEFAULT_FILE.parent / "examples" / f"{example}.toml")
    assert open_source(settings).name == settings.source.kind
