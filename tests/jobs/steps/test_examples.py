"""examples: the features of a day were known before it; every number is that of a slow loop."""

from __future__ import annotations

from math import copysign, log, log1p

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ranker_lake import (
    DAYS,
    LABELS,
    commit_days,
    commit_validated,
    impressions,
    publish_version,
    ranker_settings,
)

from jobs.errors import Skip, UntrustedDay
from jobs.pipeline.plan import reads
from jobs.steps import examples
from jobs.steps.examples import spec_of

TODAY = DAYS[3]


@pytest.fixture(scope="module")
def built(spark, tmp_path_factory):
    """Examples of the fourth day, computed when later days were already published."""
    settings = ranker_settings(tmp_path_factory.mktemp("later"))
    commit_days(settings, DAYS)
    examples.run(spark, settings, TODAY)
    return settings


def table_of(settings) -> pa.Table:
    return pq.read_table(settings.lake.get("examples", TODAY).path / "examples")


def test_later_days_and_versions_change_nothing(spark, built, tmp_path):
    """Point in time: without later days, and without the day's version, the bytes are the same."""
    settings = ranker_settings(tmp_path)
    commit_days(settings, DAYS[:3])
    commit_validated(settings, TODAY, impressions(TODAY))
    examples.run(spark, settings, TODAY)
    early, late = (s.lake.get("examples", TODAY) for s in (settings, built))
    assert early.files == late.files
    assert early.facts == late.facts
    assert late.facts["version"].startswith(f"author/{DAYS[2]}@")
    assert not any(key.endswith((str(DAYS[4]), str(DAYS[5]))) for key in late.inputs)


def test_outcomes_of_the_day_are_in_the_labels_and_nowhere_else(spark, built, tmp_path):
    """With all outcomes and dwell times of the day inverted, only the label columns differ."""
    settings = ranker_settings(tmp_path)
    commit_days(settings, DAYS[:3])
    shown = impressions(TODAY)
    for name, largest in {"label_click": 1, "label_like": 1, "dwell_ms": 9000}.items():
        inverted = pa.array(largest - shown[name].to_numpy(), shown.schema.field(name).type)
        shown = shown.set_column(shown.column_names.index(name), name, inverted)
    commit_validated(settings, TODAY, shown)
    examples.run(spark, settings, TODAY)
    original, inverted = table_of(built), table_of(settings)
    different = [n for n in original.column_names if not original[n].equals(inverted[n])]
    assert different == list(LABELS)


def test_every_impression_is_one_row_in_the_order_of_time(built):
    """The day's impressions, sorted by time, with their ids and labels."""
    table, shown = table_of(built), impressions(TODAY).sort_by("time_ms")
    for name in ("consumer_id", "producer_id", "item_id", "time_ms", *LABELS):
        assert table[name].to_pylist() == shown[name].to_pylist()


def test_rows_point_into_the_version_of_the_day_before(built):
    """Row numbers by a slow search in yesterday's ids; -1 for an id that is missing there."""
    loaded = built.open_registry().load(built.open_registry().version("author", DAYS[2]))
    table = table_of(built)
    for entity in ("consumer", "producer"):
        ids = [i.decode() for i in loaded.entities[entity].ids.tolist()]
        slow = []
        for id_ in table[f"{entity}_id"].to_pylist():
            slow.append(ids.index(id_) if id_ in ids else -1)
        assert table[f"{entity}_row"].to_pylist() == slow
        assert -1 in slow
        share = built.lake.get("examples", TODAY).facts[f"known_{entity}s"]
        assert share == pytest.approx(np.mean([row >= 0 for row in slow]))


def test_the_past_is_counted_over_the_days_before(built):
    """Shown, engaged and lifts of every entity: one loop over all earlier impressions."""
    past = [row for day in DAYS[:3] for row in impressions(day).to_pylist()]
    table = table_of(built)
    for entity in ("consumer", "producer", "item"):
        for position, who in enumerate(table[f"{entity}_id"].to_pylist()):
            own = [row for row in past if row[f"{entity}_id"] == who]
            engaged = 0
            expected = {"shown": log1p(len(own))}
            for label in LABELS:
                positives = sum(row[label] for row in own)
                usual = len(own) * sum(row[label] for row in past) / len(past)
                lift = log((positives + 1) / (usual + 1))
                expected[f"lift_{label.removeprefix('label_')}"] = lift
                engaged += positives
            expected["engaged"] = log1p(engaged)
            for name, number in expected.items():
                stored = table[f"num_{entity}_past_{name}"][position].as_py()
                assert stored == pytest.approx(number, abs=1e-6)


def test_ids_are_hashed_to_more_buckets(spark, built, tmp_path):
    """Of twice as many, one modulo the usual number is the usual one; the features say how many."""
    settings = ranker_settings(tmp_path, id_buckets=32_768)
    commit_days(settings, DAYS[:3])
    commit_validated(settings, TODAY, impressions(TODAY))
    examples.run(spark, settings, TODAY)
    usual, more = table_of(built), table_of(settings)
    for entity in ("consumer", "producer", "item"):
        buckets = more[f"hash_{entity}"].to_numpy()
        assert (buckets % 16_384 == usual[f"hash_{entity}"].to_numpy()).all()
        assert (buckets >= 16_384).any()
    spec = spec_of(settings.lake.get("examples", TODAY))
    sizes = {column.name: column.buckets for column in spec.categorical}
    assert {sizes[f"hash_{entity}"] for entity in ("consumer", "producer", "item")} == {32_768}


def test_profile_numbers_are_signed_logarithms(built):
    """sign(x) log(1 + |x|); null where the number or the whole profile is missing."""
    table = table_of(built).to_pylist()
    for row in table:
        number = int(row["consumer_id"].removeprefix("c"))
        if number == 3 or number >= 28:
            assert row["num_consumer_fans"] is None
        else:
            assert row["num_consumer_fans"] == pytest.approx(log1p(number * number))
        length = -int(row["item_id"].removeprefix("i"))
        expected = copysign(log1p(abs(length)), length)
        assert row["num_item_length"] == pytest.approx(expected, abs=1e-6)


def test_categories_are_buckets_of_their_values(built):
    """Equal values share a bucket, and no bucket exceeds the number in the spec."""
    table, spec = table_of(built), spec_of(built.lake.get("examples", TODAY))
    for column in spec.categorical:
        buckets = table[column.name].to_numpy()
        assert 0 <= buckets.min() <= buckets.max() < column.buckets
    for name in ("consumer", "producer", "item"):
        ids = table[f"{name}_id"].to_pylist()
        pairs = set(zip(ids, table[f"hash_{name}"].to_pylist(), strict=True))
        assert len(pairs) == len(set(ids))
    assert {c.name for c in spec.categorical} >= {
        "hash_hour",
        "hash_ctx_tab",
        "hash_consumer_cat_kind",
        "hash_item_cat_tag",
    }


def test_there_are_no_other_columns(built):
    """The columns are the ids, the time, those of the spec, and the two rows: nothing else."""
    spec = spec_of(built.lake.get("examples", TODAY))
    named = {*(c.name for c in spec.categorical), *spec.numeric, *spec.labels}
    assert set(table_of(built).column_names) - named == {
        *("consumer_id", "producer_id", "item_id", "time_ms", "consumer_row", "producer_row")
    }


def test_the_first_day_has_no_past_and_no_version(spark, tmp_path):
    """Nothing before it: all counts zero, all rows unknown, no space."""
    settings = ranker_settings(tmp_path)
    commit_validated(settings, DAYS[0], impressions(DAYS[0], 20))
    examples.run(spark, settings, DAYS[0])
    partition = settings.lake.get("examples", DAYS[0])
    table = pq.read_table(partition.path / "examples")
    assert (partition.facts["version"], partition.facts["space"]) == ("", "")
    assert set(table["consumer_row"].to_pylist()) == {-1}
    assert set(table["num_item_past_lift_click"].to_pylist()) == {0.0}


def test_the_version_of_an_untrusted_day_is_not_used(tmp_path):
    """The newest trusted day's version is needed, even where a newer version exists."""
    settings = ranker_settings(tmp_path)
    commit_days(settings, [*DAYS[:2], TODAY])
    commit_validated(settings, DAYS[2], None)
    publish_version(settings, DAYS[2])
    for day, versions in ((TODAY, [DAYS[1]]), (DAYS[0], [])):
        read = reads(settings, "examples", day)
        assert [published for step, published in read if step == "publish"] == versions


def test_a_refused_day_and_a_source_without_impressions_are_reported(spark, tmp_path):
    settings = ranker_settings(tmp_path)
    commit_validated(settings, DAYS[0], None)
    message = f"No examples for {DAYS[0]}: half of the rows are missing"
    with pytest.raises(UntrustedDay, match=message):
        examples.run(spark, settings, DAYS[0])
    with settings.lake.writing("validate", DAYS[0], recipe="") as staging:
        staging.facts |= {"trusted": True, "reason": ""}
    with pytest.raises(Skip, match="no impressions"):
        examples.run(spark, settings, DAYS[0])


RENAMED = {
    "label_click": "label_click rate (%)",
    "label_like": "label_add-to-cart`s.v2",
    "ctx_tab": "ctx_device.os `x`",
}


def test_labels_and_contexts_may_be_called_anything(spark, tmp_path):
    """The examples, counts and published tables are those of plain names, under these names."""
    found = []
    for home, names in (("plain", {}), ("renamed", RENAMED)):
        settings = ranker_settings(tmp_path / home)
        for day in DAYS[:2]:
            shown = impressions(day, 60)
            shown = shown.rename_columns([names.get(name, name) for name in shown.column_names])
            commit_validated(settings, day, shown)
        examples.run(spark, settings, DAYS[1])
        partition = settings.lake.get("examples", DAYS[1])
        found.append(pq.read_table(partition.path / "examples"))
        published = settings.open_registry().versions("item_counts")
        assert len(published) == 1
    plain, renamed = found
    for plain_name, name in RENAMED.items():
        if plain_name.startswith("ctx_"):
            plain_name, name = f"hash_{plain_name}", f"hash_{name}"
        assert renamed[name].to_pylist() == plain[plain_name].to_pylist()
    assert renamed.num_columns == plain.num_columns
