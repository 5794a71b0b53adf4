"""What is wrong with a day is either put aside row by row or refused as a whole, and said in so many words."""

from __future__ import annotations

import hashlib
import re

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_logs import DAYS, LABELS, ROWS, kuairand_log, write_kuairand

from jobs.errors import BadInput, UntrustedDay
from jobs.pipeline.plan import current, ensure
from jobs.settings import Settings, SparkSettings
from jobs.sources.kuairand import KuaiRandSettings
from jobs.steps import land, validate

DAY = DAYS[0]


@pytest.fixture
def day_of(spark, tmp_path):
    """Put a log (of one day, unless told otherwise) where a source reads it, and land its days."""

    def make(log: pd.DataFrame, days=(DAY,)) -> Settings:
        source = KuaiRandSettings(kind="kuairand", path=write_kuairand(tmp_path / "log", log))
        settings = Settings(
            home=tmp_path / "home", source=source, spark=SparkSettings(partitions=1)
        )
        for day in days:
            land.run(spark, settings, day)
        return settings

    return make


def one_day() -> pd.DataFrame:
    return kuairand_log([DAY]).astype(object)


def spoilt(rows: int, column: str, value) -> pd.DataFrame:
    """One day whose last rows have another value in one column."""
    log = one_day()
    log.loc[ROWS - rows :, column] = value(log[column]) if callable(value) else value
    return log


def table_of(partition, table: str) -> pa.Table:
    return pq.read_table(partition.path / table)


def half_written(settings) -> list:
    return list((settings.home / "lake").glob("_staging/*"))


FAULTS = {  # reason -> the column and value that give it
    "consumer_id_missing": ("user_id", "somebody"),
    "producer_id_missing item_unknown": ("video_id", 4711),
    "producer_id_missing item_id_missing item_unknown": ("video_id", ""),
    "time_outside_day": ("time_ms", 86_400_000 + 1),
    "dwell_negative": ("play_time_ms", -1),
    "label_click_not_0_or_1": ("is_click", 2),
    "label_like_not_0_or_1": ("is_like", "yes"),
}


def test_bad_rows_go_to_the_quarantine_with_their_reasons_and_are_counted_by_them(spark, day_of):
    """One row for every reason. What Great Expectations counts is what the quarantine holds, fault by fault."""
    log = kuairand_log([DAY], rows=20 * len(FAULTS)).astype(object).drop_duplicates("time_ms")
    log.time_ms = log.time_ms - log.index * 13 * 60_000  # all within the day
    for row, (column, value) in enumerate(FAULTS.values()):
        log.loc[row, column] = value
    settings = day_of(log)
    validate.run(spark, settings, DAY)
    verdict, aside = settings.lake.get("validate", DAY), settings.lake.get("quarantine", DAY)
    bad = table_of(aside, "impressions")
    assert sorted(bad["reason"].to_pylist()) == sorted(FAULTS)
    told = [fault for reason in FAULTS for fault in reason.split()]
    by_fault = {fault: told.count(fault) for fault in told}
    assert {key.partition("/")[2]: n for key, n in aside.facts.items() if "/" in key} == by_fault
    counted = {
        key.removeprefix("gx_impressions/"): n
        for key, n in verdict.facts.items()
        if key.startswith("gx_imp")
    }
    assert {fault: counted[fault] for fault in by_fault} == by_fault
    assert counted["bad_row"] == verdict.facts["bad_impressions"] == len(FAULTS)
    assert counted["dwell_negative_percent"] == pytest.approx(100 / len(log), abs=1e-6)
    assert verdict.facts["rows_impressions"] == len(log) - len(FAULTS)
    assert (
        bad.drop_columns("reason").schema.names
        == table_of(settings.lake.get("land", DAY), "impressions").schema.names
    )


def test_ids_that_are_text_are_all_missing(spark, day_of):
    settings = day_of(spoilt(ROWS, "user_id", "somebody"))
    with pytest.raises(
        UntrustedDay, match=r"100 of 100 rows .* consumer_id_missing 100 \(consumer_id is there"
    ):
        validate.run(spark, settings, DAY)


def test_a_clock_a_day_off_is_told_with_the_day_that_was_expected(spark, day_of):
    log = one_day().assign(time_ms=lambda log: log.time_ms - 86_400_000)
    message = r"time_outside_day 99 \(time_ms lies in 2024-03-01 \(Asia/Shanghai"  # one row is within the slack of an hour
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


def test_of_rows_with_the_same_ids_and_time_the_first_is_kept(spark, day_of):
    """Equal in all columns, the adapter drops it and counts it; equal in ids and time alone, it is put aside here."""
    log = one_day()
    settings = day_of(pd.concat([log, log[:2], log[2:4].assign(tab=99)]))
    assert settings.lake.get("land", DAY).facts["exact_repeats_dropped"] == 2
    validate.run(spark, settings, DAY)
    assert settings.lake.get("quarantine", DAY).facts["bad_impressions/repeat"] == 2
    kept = table_of(settings.lake.get("validate", DAY), "impressions").to_pandas()
    assert len(kept) == ROWS
    assert "99" not in set(kept.ctx_tab)  # tab 2 and 3 come before 99


def test_an_empty_day_is_refused(spark, day_of):
    settings = day_of(kuairand_log([DAYS[0], DAYS[2]]), days=DAYS[:2])
    with pytest.raises(UntrustedDay, match=r"impressions: 0 rows, expected 1 or more"):
        validate.run(spark, settings, DAYS[1])


def test_under_half_the_usual_rows_is_refused_and_half_is_not(spark, day_of):
    days = [
        kuairand_log([day], rows) for day, rows in zip(DAYS, (100, 60, 80, 39), strict=True)
    ]  # median 80
    settings = day_of(pd.concat(days), days=DAYS)
    with pytest.raises(
        UntrustedDay,
        match=r"39 rows, expected 40 or more \(50 % of 80, the median of the 3 days before",
    ):
        validate.run(spark, settings, DAYS[3])
    looser = settings.validation.model_copy(update={"min_rows_share": 0.48})
    validate.run(spark, settings.model_copy(update={"validation": looser}), DAYS[3])


def test_six_bad_rows_of_a_hundred_are_too_many_and_the_refusal_is_kept(spark, day_of):
    """The verdict is committed, without tables: nobody reads the day or judges it again. Its bad rows can be seen."""
    settings = day_of(spoilt(6, "is_click", 2))
    message = r"6 of 100 rows \(6.0 %\) are bad, at most 5 % may be: label_click_not_0_or_1 6 \(label_click is 0 or 1\)"
    with pytest.raises(UntrustedDay, match=message):
        validate.run(spark, settings, DAY)
    verdict = settings.lake.get("validate", DAY)
    assert (verdict.facts["trusted"], verdict.files) == (False, {})
    assert "label_click_not_0_or_1 6" in verdict.facts["reason"]
    assert str(settings.home) not in verdict.facts["reason"]
    assert table_of(settings.lake.get("quarantine", DAY), "impressions").num_rows == 6
    assert (
        ensure(settings, "validate", DAY, lambda: spark)
        == current(settings, "validate", DAY)
        == verdict
    )
    page = (settings.report("validate", DAY) / "data_docs.html").read_text()
    assert "Not trusted" in page
    assert "label_click is 0 or 1, in at least 95 % of the rows" in page
    assert not {"http", "<script"} & set(re.findall("http|<script", page)), (
        "the page needs nothing from the network"
    )


def test_columns_that_are_not_the_schemas_are_refused_before_any_row_is_judged(spark, day_of):
    settings = day_of(one_day())
    landed = settings.lake.get("land", DAY)
    changed = table_of(landed, "impressions").drop_columns("dwell_ms")
    labels = changed.schema.get_field_index("label_click")
    changed = changed.set_column(labels, "label_click", changed["label_click"].cast(pa.string()))
    changed = changed.replace_schema_metadata(None)  # where Spark tells itself the types it wrote
    with settings.lake.writing("land", DAY, settings=landed.settings) as staging:
        (staging.path / "impressions").mkdir()
        pq.write_table(changed, staging.path / "impressions" / "part-00000.parquet")
    message = r"missing: impressions.dwell_ms bigint, .*label_click int; not expected: impressions.label_click string"
    with pytest.raises(UntrustedDay, match=message):
        validate.run(spark, settings, DAY)
    assert settings.lake.get("quarantine", DAY).files == {}


def test_the_clean_engagements_are_the_labels_of_the_clean_impressions(spark, day_of):
    settings = day_of(spoilt(5, "is_hate", 7))  # five of a hundred are not too many
    validate.run(spark, settings, DAY)
    clean = settings.lake.get("validate", DAY)
    rows = table_of(clean, "impressions").to_pylist()
    assert len(rows) == ROWS - 5
    names = [name.removeprefix("is_") for name in LABELS]
    expected = sorted(
        (row["consumer_id"], row["producer_id"], row["item_id"], name, 1.0, row["time_ms"])
        for row in rows
        for name in names
        if row[f"label_{name}"] == 1
    )
    assert (
        sorted(tuple(row.values()) for row in table_of(clean, "engagements").to_pylist())
        == expected
    )


def test_the_same_day_gives_the_same_bytes_twice(spark, day_of):
    settings = day_of(spoilt(3, "is_hate", 5))

    def digests():
        validate.run(spark, settings, DAY)
        files = sorted((settings.home / "lake").rglob("*.*"))
        return {
            str(file): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
            if file.is_file()
        }

    once = digests()
    land.run(spark, settings, DAY)
    assert digests() == once


def test_a_file_that_is_cut_off_leaves_nothing_in_the_lake(spark, tmp_path):
    folder = write_kuairand(tmp_path / "log", one_day())
    settings = Settings(
        home=tmp_path / "home", source=KuaiRandSettings(kind="kuairand", path=folder)
    )
    file = folder / "data" / "user_features_pure.csv.gz"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(BadInput, match=r"user_features_pure.csv.gz cannot be read to its end"):
        land.run(spark, settings, DAY)
    assert settings.lake.find("land", DAY) is None
    assert half_written(settings) == []
