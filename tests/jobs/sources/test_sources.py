"""What each source reads from its files, and its errors when they are not what they claim to be."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
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
from jobs.settings import DEFAULT_FILE, Settings, load_settings
from jobs.sources import open_source, source_kinds
from jobs.sources.edgelist import Edgelist, EdgelistSettings
from jobs.sources.kuairand import KuaiRand, KuaiRandSettings
from jobs.sources.table import Table, TableSettings
from jobs.steps import land

MEMORY = "remembered"
COLUMNS = {"consumer_id": "who", "producer_id": "by", "time": "unix"}


def kuairand(folder) -> KuaiRand:
    return KuaiRand(KuaiRandSettings(kind="kuairand", path=folder), folder / MEMORY)


def table(path, columns=COLUMNS, **options) -> Table:
    memory = path.parent / MEMORY
    return Table(TableSettings(kind="table", path=path, columns=columns, **options), memory)


def edgelist(path) -> Edgelist:
    return Edgelist(EdgelistSettings(kind="edgelist", path=path), path.parent / MEMORY)


def rows_of(source, spark, table: str, day=DAYS[0]) -> list[dict]:
    return [row.asDict() for row in in_order(source.table(spark, table, day), table).collect()]


# --- KuaiRand


def test_an_impression_of_kuairand_names_the_author_and_the_hour_in_china(spark, tmp_path):
    rows = rows_of(kuairand(write_kuairand(tmp_path)), spark, "impressions")
    for row in rows:
        moment = datetime.fromtimestamp(row["time_ms"] / 1000, ZoneInfo("Asia/Shanghai"))
        assert row["producer_id"] == str(author_of(int(row["item_id"])))
        assert row["ctx_hour"] == str(moment.hour)
    assert sum(row["label_like"] for row in rows) == kuairand_log(DAYS[:1]).is_like.sum()


def test_items_of_kuairand_have_categories_and_numbers(spark, tmp_path):
    source = kuairand(write_kuairand(tmp_path))
    item = next(row for row in rows_of(source, spark, "items", DAYS[1]) if row["item_id"] == "7")
    assert item == {
        "item_id": "7", "producer_id": "903", "cat_video_type": "NORMAL", "cat_upload_type": "Web",
        "cat_music_type": "9", "cat_tag": "39", "cat_tags": "39,11",
        "num_duration_ms": 8000.0, "num_width": 720.0, "num_height": 1280.0, "num_age_days": 3.0,
    }  # fmt: skip


def test_consumers_of_kuairand_have_categories_and_numbers(spark, tmp_path):
    rows = rows_of(kuairand(write_kuairand(tmp_path)), spark, "consumers")
    users = {row["consumer_id"]: row for row in rows}
    assert users["3"]["cat_onehot_feat4"] == "1"
    assert users["0"]["cat_onehot_feat4"] is None
    assert users["3"]["num_fans_user_num"] == 3.0


def test_the_history_is_a_day_of_engagements_before_the_log(spark, tmp_path):
    source = kuairand(write_kuairand(tmp_path, history=True))
    eve = source.span()[0]
    assert str(eve) == "2024-02-29"
    assert source.tables(eve) == ("engagements",)
    rows = rows_of(source, spark, "engagements", eve)
    columns = ("consumer_id", "producer_id", "item_id", "kind")
    assert sorted(tuple(row[column] for column in columns) for row in rows) == [
        ("0", str(author_of(4)), "4", "like"),
        ("0", str(author_of(3)), "3", "long_view"),
    ]


def test_a_history_that_does_not_end_on_the_eve_of_the_log_is_ignored(tmp_path):
    source = kuairand(write_kuairand(tmp_path, kuairand_log(DAYS[1:]), history=True))
    assert source.span() == (DAYS[1], DAYS[3])


def test_a_day_that_is_in_two_files_is_read_once(spark, tmp_path):
    """The full download has several files, not compressed; rows repeat in all columns."""
    write_kuairand(tmp_path, kuairand_log(DAYS[:2]))
    kuairand_log(DAYS[1:]).to_csv(
        tmp_path / "data" / "log_standard_3_02_to_3_04_pure.csv", index=False
    )
    source = kuairand(tmp_path)
    assert source.span() == (DAYS[0], DAYS[3])
    assert len(rows_of(source, spark, "impressions", DAYS[1])) == 100
    assert source.notes(DAYS[1]) == {"exact_repeats_dropped": 100, "log_rows": 200}


@pytest.mark.parametrize(
    "file", ["log_standard_3_01_to_3_04_pure.csv.gz", "user_features_pure.csv.gz"]
)
def test_a_missing_column_of_kuairand_is_named(spark, tmp_path, file):
    path = write_kuairand(tmp_path) / "data" / file
    frame = pd.read_csv(path)
    missing = frame.columns[5]
    frame.drop(columns=[missing]).to_csv(path, index=False)
    source = KuaiRandSettings(kind="kuairand", path=tmp_path)
    settings = Settings(home=tmp_path / "home", source=source)
    message = rf"{file} has no column '{missing}'. It has: user_id, .*fetch it again"
    with pytest.raises(BadInput, match=message):
        land.run(spark, settings, DAYS[0])
    assert settings.lake.days("land") == []


def test_a_folder_without_kuairand_is_named_with_the_missing_file(tmp_path):
    with pytest.raises(BadInput, match=r"no log_standard\*_pure.csv\* in .*Set source.path"):
        kuairand(tmp_path).span()


# --- files that cannot be read


@pytest.mark.parametrize("keep", [0, 5, 1000, -9, -1])
def test_a_truncated_gzip_is_named(spark, tmp_path, keep):
    name = "log_standard_3_01_to_3_04_pure.csv.gz"
    file = write_kuairand(tmp_path) / "data" / name
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(BadInput, match=rf"{name} cannot be read|has no rows"):
        day, _ = (source := kuairand(tmp_path)).span()  # of the rows before the damage
        source.table(spark, "impressions", day)


def test_a_truncated_list_of_edges_is_named(spark, tmp_path):
    file = write_edges(tmp_path / "edges.txt.gz")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(BadInput, match=r"edges.txt.gz cannot be read.*fetch it again"):
        edgelist(file).table(spark, "engagements", DAYS[0])


def test_the_error_for_a_day_outside_the_log_names_the_days_of_the_log(spark, tmp_path):
    source = EdgelistSettings(kind="edgelist", path=write_edges(tmp_path / "edges.txt.gz"))
    settings = Settings(home=tmp_path / "home", source=source)
    message = r"2023-03-01 is not in the log, which runs from 2024-03-01 to 2024-03-04"
    with pytest.raises(BadInput, match=message):
        land.run(spark, settings, DAYS[0].replace(year=2023))


# --- table and edgelist


def test_a_missing_column_is_named_with_the_setting_that_names_it(spark, tmp_path):
    table_log().to_csv(tmp_path / "log.csv", index=False)
    message = r"log.csv has no column 'author'. It has: who, by, .*source.columns.producer_id"
    with pytest.raises(BadInput, match=message):
        source = table(tmp_path, COLUMNS | {"producer_id": "author"})
        source.table(spark, "engagements", DAYS[0])
    with pytest.raises(BadInput, match=r"no column 'liked'.*source.labels.like"):
        table(tmp_path, labels={"like": "liked"}).table(spark, "impressions", DAYS[0])


def test_a_path_without_files_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"no file at .*nowhere"):
        table(tmp_path / "nowhere").span()


def test_a_file_without_rows_is_named(tmp_path):
    table_log()[:0].to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(BadInput, match=r"has no rows"):
        table(tmp_path).span()


def test_a_column_without_readable_times_is_named_with_its_unit(tmp_path):
    table_log().to_csv(tmp_path / "log.csv", index=False)
    message = r"log.csv were read as source.time_unit = 's'. .* set source.time_unit = 'iso'"
    with pytest.raises(BadInput, match=message):
        table(tmp_path, COLUMNS | {"time": "shown at"}).span()


def test_milliseconds_that_are_read_as_seconds_are_refused(tmp_path):
    log = table_log()
    log["unix"] *= 1000
    log.to_csv(tmp_path / "log.csv", index=False)
    message = r"As 'ms' they are from 2024-02-29 to 2024-03-04: set source.time_unit = 'ms'"
    with pytest.raises(BadInput, match=message):
        table(tmp_path).span()


def test_a_label_may_be_true_or_a_number_and_anything_else_is_null(spark, tmp_path):
    marks = ["True", "false", "1", "0.0", "maybe", ""]
    second = midnight_ms(DAYS[0], "UTC") // 1000
    log = pd.DataFrame({"who": "a", "by": "b", "unix": second, "hit": marks})
    log.to_csv(tmp_path / "log.csv")
    rows = rows_of(table(tmp_path, labels={"click": "hit"}), spark, "impressions")
    assert sorted(str(row["label_click"]) for row in rows) == ["0", "0", "1", "1", "None", "None"]


def test_a_line_of_an_edge_list_is_an_engagement(spark, tmp_path):
    second = midnight_ms(DAYS[0], "UTC") // 1000
    (tmp_path / "edges.txt").write_text(f"# SNAP\n\n7 8 {second}\n  7\t9  {second + 1}.5 reply\n")
    source = edgelist(tmp_path / "edges.txt")
    common = {"consumer_id": "7", "item_id": None, "value": 1.0, "raw": None, "fault": None}
    common |= {"source_file": "edges.txt"}
    assert rows_of(source, spark, "engagements") == [
        common | {"producer_id": "8", "kind": "edge", "time_ms": second * 1000, "source_line": 3},
        common
        | {"producer_id": "9", "kind": "reply", "time_ms": second * 1000 + 1500, "source_line": 4},
    ]


def test_a_day_is_read_from_every_file_that_can_hold_it_and_from_no_other(spark, tmp_path):
    """One file ends in the day, one is within it; a later one is gone, so reading it would fail."""
    first, second = (midnight_ms(day, "UTC") // 1000 for day in (DAYS[0], DAYS[2]))
    write_times(tmp_path / "a.txt", first - 5, first)
    write_times(tmp_path / "b.txt", first + 5)
    write_times(tmp_path / "c.txt", second, second + 1)
    source = edgelist(tmp_path)
    assert source.span()[1] == DAYS[2]
    (tmp_path / "c.txt").unlink()
    rows = source.table(spark, "engagements", DAYS[0]).collect()
    assert sorted((row["producer_id"], row["time_ms"]) for row in rows) == [
        ("a", first * 1000),
        ("b", first * 1000 + 5000),
    ]


def test_a_day_in_the_gap_between_two_files_has_no_rows(spark, tmp_path):
    write_times(tmp_path / "a.txt", midnight_ms(DAYS[0], "UTC") // 1000)
    write_times(tmp_path / "b.txt", midnight_ms(DAYS[2], "UTC") // 1000)
    source = edgelist(tmp_path)
    assert source.tables(DAYS[1]) == ("engagements",)
    assert source.table(spark, "engagements", DAYS[1]).count() == 0


def write_times(file: Path, *times: int) -> None:
    """Edges to a producer that is named like the file."""
    file.write_text("".join(f"1 {file.stem} {time}\n" for time in times))


# --- settings


TABLE = 'kind = "table"\npath = "log.csv"\n'
MAPPED = TABLE + 'columns = {consumer_id = "a", producer_id = "b", time = "t"}\n'


def mapped(name: str, column: str) -> str:
    """A table's settings with one more column."""
    return MAPPED.replace("}", f', {name} = "{column}"}}')


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('path = "x"', r"source.*kind must be one of 'edgelist', 'kuairand', 'simulated', 'table'"),
        ('kind = "csv"\npath = "x"', r"source.*must be one of 'edgelist', 'kuairand'.*'csv'"),
        ('kind = "edgelist"', r"source.edgelist.path: Field required"),
        ('kind = "edgelist"\npath = "x"\ntimezon = "UTC"', r"source.edgelist.timezon.*'UTC'"),
        (
            'kind = "edgelist"\npath = "x"\ntimezone = "Mars"',
            r"no such time zone; expected a name such as .*given: 'Mars'",
        ),
        (TABLE + 'columns = {consumer_id = "a", time = "t"}', r"columns lacks \['producer_id'\]"),
        (
            TABLE + 'columns = {consumer_id = "a", producer_id = "", time = " "}',
            r"\['producer_id', 'time'\] have an empty name; expected that of the log's column",
        ),
        (mapped("user", "c"), r"columns has \['user'\].*they may"),
        (mapped("dwell_ms", "d"), r"\['dwell_ms'\], which engagements"),
        (mapped("value", "v") + 'labels = {click = "c"}', r"\['value'\], which impressions"),
        (MAPPED + 'context = ["c"]', r"give labels too"),
        (MAPPED + 'time_unit = "h"', r"'s', 'ms', 'us', 'ns' or 'iso'"),
        (MAPPED + 'separator = ""', r"expected one or more ASCII.*such as ',' or '::'"),
        (MAPPED + 'quote = "ab"', r"expected one ASCII character, or nothing"),
        (MAPPED + 'encoding = "utf-9"', r"no such encoding; expected a name such as 'utf-8'"),
        (
            'kind = "edgelist"\npath = "x"\nfields = ["src", "time"]',
            r"each of src, dst and time once",
        ),
    ],
)
def test_an_invalid_source_is_refused_with_the_option_at_fault(tmp_path, source, message):
    (tmp_path / "my.toml").write_text(f"[source]\n{source}\n")
    with pytest.raises(SettingsError, match=message):
        load_settings(tmp_path / "my.toml")


EDGES = 'kind = "edgelist"\npath = "log"\n'


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (EDGES + 'comments = "é"', r"comments: expected ASCII characters"),
        (EDGES + 'comments = "#a"', r"comments: expected ASCII .* without letters"),
        (EDGES + 'separator = "#"', r"comments has '#', which separator has too"),
        (EDGES + 'separator = "\\u0000"', r"separator: expected .* without letters, digits, NUL"),
        (MAPPED + 'separator = "1"', r"separator: expected .* without letters, digits, NUL"),
        (MAPPED + 'separator = "é"', r"separator: expected one or more ASCII"),
        (MAPPED + 'separator = "|\\n"', r"separator: expected .* line breaks"),
        (MAPPED + 'separator = "\\""', r"quote has '\"', which separator has too"),
        (MAPPED + 'quote = ","', r"quote has ',', which separator has too"),
        (MAPPED + 'quote = "|"\nseparator = "||"', r"quote has '\|', which separator has too"),
        (MAPPED + 'quote = " "', r"quote: expected ASCII .* blanks"),
        (MAPPED + 'escape = ","', r"escape has ',', which separator has too"),
        (MAPPED + 'escape = "n"', r"escape: expected ASCII .* without letters"),
        (MAPPED + 'comments = "\\""', r"comments has '\"', which quote has too"),
        (MAPPED + 'comments = "\\\\"\nescape = "\\\\"', r"comments has .*, which escape has too"),
        (MAPPED + 'comments = "\\u001f"\nseparator = "::"', r"which separator has too"),
        (MAPPED + 'separator = "whitespace"', r"set quote = \"\" and no escape, or name the one"),
    ],
)
def test_a_character_with_two_meanings_in_a_line_is_refused(tmp_path, source, message):
    (tmp_path / "my.toml").write_text(f"[source]\n{source}\n")
    with pytest.raises(SettingsError, match=message):
        load_settings(tmp_path / "my.toml")


@pytest.mark.parametrize(
    "source",
    [
        EDGES + 'separator = " "',
        EDGES + 'separator = "\\t"',
        MAPPED + 'separator = "\\u0001"',
        MAPPED + 'separator = "\\u001f"',
        MAPPED + 'separator = "|~|"\nquote = "\'"\ncomments = "#;!"',
        MAPPED + 'separator = "whitespace"\nquote = ""\ncomments = "#"',
    ],
)
def test_characters_that_logs_are_written_with_are_accepted(tmp_path, source):
    (tmp_path / "my.toml").write_text(f"[source]\n{source}\n")
    assert load_settings(tmp_path / "my.toml")


def test_an_escape_that_is_the_quote_means_doubled_quotes(tmp_path):
    """As Spark writes it."""
    (tmp_path / "my.toml").write_text(f"[source]\n{MAPPED}escape = '\"'\n")
    assert load_settings(tmp_path / "my.toml").source.escape == ""


def test_a_variable_overrides_any_option_of_a_source(tmp_path, monkeypatch):
    (tmp_path / "my.toml").write_text(f"[source]\n{MAPPED}\n")
    monkeypatch.setenv("EVERGREEN_SOURCE__PATH", "/elsewhere/log.csv")
    monkeypatch.setenv("EVERGREEN_SOURCE__LABELS", '{"click": "clicked"}')
    monkeypatch.setenv("EVERGREEN_SOURCE__COLUMNS__ITEM_ID", "post")
    source = load_settings(tmp_path / "my.toml").source
    assert source.path == Path("/elsewhere/log.csv")
    assert source.labels == {"click": "clicked"}
    assert source.columns["item_id"] == "post"


def test_settings_survive_a_round_trip_through_json(tmp_path):
    (tmp_path / "my.toml").write_text(f"[source]\n{MAPPED}\n")
    settings = load_settings(tmp_path / "my.toml")
    copy = Settings.model_validate_json(settings.model_dump_json())
    assert copy == settings
    assert type(copy.source) is TableSettings


def test_loading_settings_imports_no_engine():
    """Every command loads the settings, and with them all files of jobs/sources."""
    code = "import sys, jobs.settings; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pyspark", "pandas", "pyarrow", "numpy"} & set(done.stdout.split())


@pytest.mark.parametrize("example", ["collegemsg", "table"])
def test_the_examples_are_valid_settings(example):
    settings = load_settings(DEFAULT_FILE.parent / "configs" / f"{example}.toml")
    assert isinstance(open_source(settings), source_kinds()[settings.source.kind])
