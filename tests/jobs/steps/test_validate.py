"""Bad rows of a day are quarantined with their reasons, or the day is refused with its reason."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_logs import DAYS, LABELS, ROWS, kuairand_log, write_kuairand

from embeddings.facts import declaration
from jobs.errors import BadInput, SettingsError, UntrustedDay
from jobs.intake.reading import Field, Piece, Wanted, rows_of
from jobs.pipeline.plan import current
from jobs.pipeline.running import ensure
from jobs.settings import Settings, SparkSettings, ValidationSettings
from jobs.sources.kuairand import KuaiRandSettings
from jobs.sources.table import TableSettings
from jobs.steps import land, validate

DAY = DAYS[0]
NEW_YEAR = date(2024, 1, 1)


def landed(spark, folder: Path, log: pd.DataFrame, days=(DAY,)) -> Settings:
    """The settings of a log (by default of one day), whose days are landed."""
    source = KuaiRandSettings(kind="kuairand", path=write_kuairand(folder / "log", log))
    settings = Settings(home=folder / "home", source=source, spark=SparkSettings(partitions=1))
    for day in days:
        land.run(spark, settings, day)
    return settings


@pytest.fixture
def day_of(spark, tmp_path):
    return partial(landed, spark, tmp_path)


@pytest.fixture(scope="module")
def with_repeats(spark, tmp_path_factory) -> Settings:
    """Of a validated day: two rows are there twice, and two others again with another tab."""
    log = one_day()
    log = pd.concat([log, log[:2], log[2:4].assign(tab=99)])
    settings = landed(spark, tmp_path_factory.mktemp("repeats"), log)
    validate.run(spark, settings, DAY)
    return settings


def one_day() -> pd.DataFrame:
    return kuairand_log([DAY]).astype(object)


def with_faults(rows: int, column: str, value) -> pd.DataFrame:
    """One day whose last rows have another value in one column."""
    log = one_day()
    log.loc[ROWS - rows :, column] = value(log[column]) if callable(value) else value
    return log


def table_of(partition, table: str) -> pa.Table:
    return pq.read_table(partition.path / table)


def half_written(settings) -> list:
    return list((settings.home / "lake").glob("_staging/*"))


FAULTS = {  # reason -> the column and value that cause it
    "consumer_id_missing": ("user_id", "no number"),
    "producer_id_missing item_unknown": ("video_id", 4711),
    "producer_id_missing item_id_missing item_unknown": ("video_id", ""),
    "time_outside_day": ("time_ms", 86_400_000 + 1),
    "dwell_negative": ("play_time_ms", -1),
    "label_click_not_0_or_1": ("is_click", 2),
    "label_like_not_0_or_1": ("is_like", "yes"),
}


def test_bad_rows_are_quarantined_with_their_reasons_and_counted_by_them(spark, day_of):
    """One row per reason. Great Expectations counts what the quarantine has, fault by fault."""
    log = kuairand_log([DAY], rows=20 * len(FAULTS)).astype(object).drop_duplicates("time_ms")
    log.time_ms = log.time_ms - log.index * 13 * 60_000  # all within the day
    for row, (column, value) in enumerate(FAULTS.values()):
        log.loc[row, column] = value
    settings = day_of(log)
    validate.run(spark, settings, DAY)
    verdict = settings.lake.get("validate", DAY)
    quarantine = settings.lake.get("quarantine", DAY)
    bad = table_of(quarantine, "impressions")
    assert sorted(bad["reason"].to_pylist()) == sorted(FAULTS)
    by_fault = Counter(" ".join(FAULTS).split())
    quarantined = {name: rows for name, rows in quarantine.facts.items() if "/" in name}
    assert quarantined == {f"bad_impressions/{fault}": n for fault, n in by_fault.items()}
    for fault, rows in by_fault.items():
        assert verdict.facts[f"gx_impressions/{fault}"] == rows
    assert verdict.facts["gx_impressions/bad_row"] == len(FAULTS)
    assert verdict.facts["bad_impressions"] == len(FAULTS)
    percent = verdict.facts["gx_impressions/dwell_negative_percent"]
    assert percent == pytest.approx(100 / len(log), abs=1e-6)
    assert verdict.facts["rows_impressions"] == len(log) - len(FAULTS)
    landed = table_of(settings.lake.get("land", DAY), "impressions")
    assert bad.drop_columns("reason").schema.names == landed.schema.names


def test_every_committed_fact_is_declared(with_repeats):
    """Some repeats are dropped and others quarantined, so that both kinds of facts exist."""
    for step, declared in (
        ("land", land.FACTS),
        ("validate", validate.FACTS),
        ("quarantine", validate.FACTS),
    ):
        facts = with_repeats.lake.get(step, DAY).facts
        assert facts
        undeclared = [name for name in facts if declaration(declared, name) is None]
        assert undeclared == [], step
    fault = declaration(validate.FACTS, "bad_impressions/repeat")
    assert fault is not None
    assert not fault.headline


def test_ids_that_are_text_are_all_missing(spark, day_of):
    settings = day_of(with_faults(ROWS, "user_id", "no number"))
    with pytest.raises(
        UntrustedDay, match=r"100 of 100 rows .* consumer_id_missing 100 \(consumer_id is present"
    ):
        validate.run(spark, settings, DAY)


def test_a_clock_that_is_a_day_off_is_named_with_the_day_that_was_expected(spark, day_of):
    log = one_day().assign(time_ms=lambda log: log.time_ms - 86_400_000)
    # One row of the hundred is within the slack of an hour.
    message = r"time_outside_day 99 \(time_ms is within 2024-03-01 \(Asia/Shanghai"
    with pytest.raises(UntrustedDay, match=message):
        validate.run(spark, day_of(log), DAY)


def test_a_row_up_to_an_hour_before_its_day_is_good_in_kuairand(spark, day_of):
    hour = 3_600_000
    log = one_day()
    log.loc[0, "time_ms"] -= hour
    log.loc[1, "time_ms"] -= hour + 14 * 60_000 + 1  # the second row is 14 minutes into the day
    settings = day_of(log)
    validate.run(spark, settings, DAY)
    assert settings.lake.get("quarantine", DAY).facts["bad_impressions/time_outside_day"] == 1


def test_the_largest_and_the_smallest_number_are_times_outside_the_day(spark, day_of):
    """No sum or difference with such a time may stop the day."""
    log = one_day()
    log.loc[0, "time_ms"] = 2**63 - 1
    log.loc[1, "time_ms"] = -(2**63)
    settings = day_of(log)
    validate.run(spark, settings, DAY)
    assert settings.lake.get("quarantine", DAY).facts["bad_impressions/time_outside_day"] == 2


def test_of_rows_with_the_same_ids_and_time_the_first_is_kept(with_repeats):
    """A row equal in all columns is dropped by the adapter; one equal in ids and time is bad."""
    lake = with_repeats.lake
    assert lake.get("land", DAY).facts["exact_repeats_dropped"] == 2
    assert lake.get("quarantine", DAY).facts["bad_impressions/repeat"] == 2
    kept = table_of(lake.get("validate", DAY), "impressions").to_pandas()
    assert len(kept) == ROWS
    assert "99" not in set(kept.ctx_tab)  # tab 2 and 3 come before 99


def test_an_empty_day_is_refused(spark, day_of):
    settings = day_of(kuairand_log([DAYS[0], DAYS[2]]), days=DAYS[:2])
    with pytest.raises(UntrustedDay, match=r"impressions: 0 rows, expected 1 or more"):
        validate.run(spark, settings, DAYS[1])


def test_under_half_the_usual_rows_is_refused_and_half_is_not(spark, day_of):
    n_rows = (100, 60, 80, 39)  # the median of the first three is 80
    days = [kuairand_log([day], rows) for day, rows in zip(DAYS, n_rows, strict=True)]
    settings = day_of(pd.concat(days), days=DAYS)
    message = r"39 rows, expected 40 or more \(50 % of 80, the median of the 3 days before"
    with pytest.raises(UntrustedDay, match=message):
        validate.run(spark, settings, DAYS[3])
    looser = settings.validation.model_copy(update={"min_rows_share": 0.48})
    validate.run(spark, settings.model_copy(update={"validation": looser}), DAYS[3])


def test_six_bad_rows_of_a_hundred_are_too_many_and_the_refusal_is_kept(spark, day_of):
    """The verdict is committed, without tables: the day is not read, nor judged a second time."""
    settings = day_of(with_faults(6, "is_click", 2))
    message = (
        r"6 of 100 rows \(6.0 %\) are bad, at most 5 % may be: "
        r"label_click_not_0_or_1 6 \(label_click is 0 or 1\)"
    )
    with pytest.raises(UntrustedDay, match=message):
        validate.run(spark, settings, DAY)
    verdict = settings.lake.get("validate", DAY)
    assert (verdict.facts["trusted"], verdict.files) == (False, {})
    assert "label_click_not_0_or_1 6" in verdict.facts["reason"]
    assert str(settings.home) not in verdict.facts["reason"]
    assert table_of(settings.lake.get("quarantine", DAY), "impressions").num_rows == 6
    assert current(settings, "validate", DAY) == verdict
    assert ensure(settings, "validate", DAY, lambda: spark).partition == verdict
    page = (settings.report("validate", DAY) / "data_docs.html").read_text()
    assert "Not trusted" in page
    assert "label_click is 0 or 1, in at least 95 % of the rows" in page


def test_columns_that_are_not_the_schemas_are_refused_before_any_row_is_judged(spark, day_of):
    settings = day_of(one_day())
    landed = settings.lake.get("land", DAY)
    changed = table_of(landed, "impressions").drop_columns("dwell_ms")
    labels = changed.schema.get_field_index("label_click")
    changed = changed.set_column(labels, "label_click", changed["label_click"].cast(pa.string()))
    changed = changed.replace_schema_metadata(None)  # Spark's own record of the types
    with settings.lake.writing("land", DAY, recipe=landed.recipe) as staging:
        (staging.path / "impressions").mkdir()
        pq.write_table(changed, staging.path / "impressions" / "part-00000.parquet")
    message = (
        r"missing: impressions.dwell_ms bigint, .*label_click int; "
        r"not expected: impressions.label_click string"
    )
    with pytest.raises(UntrustedDay, match=message):
        validate.run(spark, settings, DAY)
    assert settings.lake.get("quarantine", DAY).files == {}


def test_the_clean_engagements_are_the_labels_of_the_clean_impressions(spark, day_of):
    settings = day_of(with_faults(5, "is_hate", 7))  # five of a hundred are not too many
    validate.run(spark, settings, DAY)
    clean = settings.lake.get("validate", DAY)
    rows = table_of(clean, "impressions").to_pylist()
    assert len(rows) == ROWS - 5
    expected = []
    for row in rows:
        for name in LABELS:
            kind = name.removeprefix("is_")
            if row[f"label_{kind}"] == 1:
                ids = (row["consumer_id"], row["producer_id"], row["item_id"])
                expected.append((*ids, kind, 1.0, row["time_ms"]))
    engagements = [tuple(row.values()) for row in table_of(clean, "engagements").to_pylist()]
    assert expected
    assert sorted(engagements) == sorted(expected)


# Late labels


SHOWN = """user,author,item,at,clicked,click_at,liked
a,p,i1,2024-01-01 10:00:00,1,2024-01-01 10:59:59,0
b,p,i1,2024-01-01 10:00:00,1,2024-01-01 11:00:01,1
c,p,i2,2024-01-01 10:00:00,0,,1
d,q,i2,2024-01-01 23:00:00,1,2024-01-03 00:00:00,1
e,q,i3,2024-01-01 10:00:00,1,,0
"""


def landed_table(spark, folder, hours: float | None, **source) -> Settings:
    """SHOWN as a log of one day, landed. hours: the window."""
    folder.mkdir(exist_ok=True)
    (folder / "log.csv").write_text(SHOWN)
    columns = {"consumer_id": "user", "producer_id": "author", "item_id": "item", "time": "at"}
    settings = Settings(
        home=folder / "home",
        source=TableSettings(
            kind="table",
            path=folder / "log.csv",
            columns=columns,
            labels={"click": "clicked", "like": "liked"},
            time_unit="iso",
            **source,
        ),
        validation=ValidationSettings(label_window_hours=hours),
        spark=SparkSettings(partitions=1),
    )
    land.run(spark, settings, NEW_YEAR)
    return settings


def test_a_label_after_the_window_counts_as_0_and_is_told(spark, tmp_path):
    """Not for its own impression alone: nobody engaged, either. The other label has no times."""
    settings = landed_table(spark, tmp_path, 1, label_times={"click": "click_at"})
    validate.run(spark, settings, NEW_YEAR)
    clean = settings.lake.get("validate", NEW_YEAR)
    shown = table_of(clean, "impressions").sort_by("consumer_id").to_pydict()
    assert shown["label_click"] == [1, 0, 0, 0, 1]
    assert shown["label_like"] == [0, 1, 1, 1, 0]
    assert (clean.facts["late_click"], clean.facts.get("late_like")) == (2, None)
    engaged = table_of(clean, "engagements").to_pylist()
    clicks = sorted(row["consumer_id"] for row in engaged if row["kind"] == "click")
    assert clicks == ["a", "e"]
    assert clean.facts["rows_engagements"] == 5


def test_a_window_without_times_of_labels_is_refused_by_name(spark, tmp_path):
    settings = landed_table(spark, tmp_path, 1)
    with pytest.raises(SettingsError, match="label_window_hours is set, .*source.label_times"):
        validate.run(spark, settings, NEW_YEAR)
    assert settings.lake.find("validate", NEW_YEAR) is None
    assert settings.lake.find("quarantine", NEW_YEAR) is None
    assert not half_written(settings)


def test_a_time_of_a_label_that_cannot_be_read_is_a_fault(tmp_path):
    """Also of one whose label is 0; an empty one is no fault."""
    wanted = Wanted(
        (Field("label_click", "clicked", "label"), Field("at_click", "click_at", "time")),
        time="at",
        unit="iso",
        zone="UTC",
    )
    columns = {
        "clicked": pa.array([b"1", b"0", b"0"]),
        "click_at": pa.array([b"2024-01-01 00:00:01", b"", b"soon"]),
        "at": pa.array([b"2024-01-01"] * 3),
    }
    piece = Piece(columns, np.arange(1, 4), lambda row: b"its text", lines=3)
    read = rows_of(piece, wanted).table.to_pydict()
    assert read["at_click"] == [1_704_067_201_000, None, None]
    assert read["fault"] == [None, None, "at_click_unreadable"]


def test_without_a_window_and_without_times_the_settings_have_their_old_digest():
    """What older lakes hold stays current."""
    old = Settings(source=KuaiRandSettings(kind="kuairand", path="log"))
    new = old.model_copy(update={"validation": ValidationSettings(label_window_hours=1)})
    assert "label_window_hours" not in old.section("validation")
    assert old.digest("validation") != new.digest("validation")


def test_the_same_day_gives_the_same_bytes_twice(spark, day_of, monkeypatch):
    """The third time its repeats are found as those of a long day."""
    settings = day_of(with_faults(3, "is_hate", 5))

    def validated() -> dict[str, str]:
        """Digests of all files of the lake after the step."""
        validate.run(spark, settings, DAY)
        files = [path for path in (settings.home / "lake").rglob("*") if path.is_file()]
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

    first = validated()
    land.run(spark, settings, DAY)
    assert validated() == first
    monkeypatch.setattr(validate, "FEW", 0)
    assert validated() == first
    assert any(file.endswith(".parquet") for file in first)


def test_a_truncated_file_commits_nothing(spark, tmp_path):
    folder = write_kuairand(tmp_path / "log", one_day())
    source = KuaiRandSettings(kind="kuairand", path=folder)
    settings = Settings(home=tmp_path / "home", source=source)
    file = folder / "data" / "user_features_pure.csv.gz"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(BadInput, match=r"user_features_pure.csv.gz cannot be read to its end"):
        land.run(spark, settings, DAY)
    assert settings.lake.find("land", DAY) is None
    assert half_written(settings) == []
