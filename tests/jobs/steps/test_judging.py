"""What is wrong with a row is judged before anything is computed from it, and counted by name."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from landed_rows import (
    DAY,
    MIDNIGHT,
    engagement,
    impression,
    land_rows,
    place,
    reasons,
    rows_of,
    settings_of,
)

from jobs.checks.row_rules import LARGEST_VALUE, SMALLEST_VALUE
from jobs.errors import UntrustedDay
from jobs.lake.schema import PROVENANCE
from jobs.settings import MatrixSettings
from jobs.steps import validate
from jobs.steps.matrix import weigh


def judged(spark, settings, rows):
    land_rows(settings, rows)
    validate.run(spark, settings, DAY)
    return settings.lake.get("validate", DAY).facts


def test_a_line_that_was_not_read_has_the_readers_fault_only_and_keeps_its_place(spark, tmp_path):
    settings = settings_of(tmp_path)
    rows = [engagement(n) for n in range(20)]
    rows.append(dict.fromkeys(rows[0]) | {"raw": "x;y", "fault": "a_new_fault", "source_line": 40})
    rows.append(dict.fromkeys(rows[0]) | {"raw": '"', "fault": "a_new_fault", "source_line": 41})
    facts = judged(spark, settings, rows)
    bad = rows_of(settings, "quarantine")
    assert [(row["reason"], row["source_line"]) for row in bad] == [
        ("a_new_fault", 40),
        ("a_new_fault", 41),
    ]
    assert {row["raw"] for row in bad} == {"x;y", '"'}
    assert settings.lake.get("quarantine", DAY).facts["bad_engagements/a_new_fault"] == 2
    assert (facts["rows_engagements"], facts["bad_engagements"]) == (20, 2)
    assert facts["gx_engagements/a_new_fault"] == 2


@pytest.mark.parametrize("bad", [[], [engagement(30, kind="")]])
def test_clean_rows_do_not_say_where_they_were_read(spark, tmp_path, bad):
    settings = settings_of(tmp_path)
    rows = [engagement(n) for n in range(20)]
    judged(spark, settings, rows + bad)
    clean = rows_of(settings, "validate")
    expected = [{name: row[name] for name in row if name not in PROVENANCE} for row in rows]
    assert sorted(clean, key=str) == sorted(expected, key=str)


VALUES = {
    "value_not_a_number": [None, float("nan")],
    "value_infinite": [float("inf"), float("-inf")],
    "value_negative": [-1.0, -1e-300, -1e300],
    "value_too_small": [4.99e-7, 5e-324],
    "value_beyond_exact_sums": [LARGEST_VALUE * 1.01, 1e300],
    "value_too_large": [2001.0, 1e7, LARGEST_VALUE],
}


def test_every_value_that_would_break_or_own_a_model_has_a_fault_of_its_own(spark, tmp_path):
    settings = settings_of(tmp_path)
    good = [0.0, SMALLEST_VALUE, 1.0, 2000.0, *[1.0] * 20]
    rows = [engagement(n, value=value) for n, value in enumerate(good)]
    expected = {}
    for fault, values in VALUES.items():
        for value in values:
            rows.append(engagement(len(rows), value=value))
            expected[rows[-1]["item_id"]] = fault
    judged(spark, settings, rows)
    found = {item: reason.split()[0] for item, reason in reasons(settings).items()}
    assert found == expected
    assert reasons(settings)[rows[-1]["item_id"]] == "value_too_large"


def test_the_size_of_a_value_is_judged_within_its_kind(spark, tmp_path):
    """Seconds of watching are not too large because likes count 1; and 0 switches the rule off."""
    rows = [engagement(n) for n in range(20)]
    rows += [engagement(n, kind="watch", value=60_000.0) for n in range(20, 23)]
    rows += [engagement(23, value=1e7), engagement(24, kind="`o'dd\\", value=1e7)]
    for home, ratio, bad in [("on", 2000, {"i23": "value_too_large"}), ("off", 0, {})]:
        (tmp_path / home).mkdir()
        settings = settings_of(tmp_path / home, max_value_ratio=ratio)
        judged(spark, settings, rows)
        assert reasons(settings) == bad


IDS = {
    "missing": ["", " ", "\t", "\u00a0\u2003\n", None],
    "not_text": ["a\0", "\0", "a\0b"],
    "too_long": ["x" * 257, "é" * 129],
}


@pytest.mark.parametrize("column", ["consumer_id", "producer_id"])
def test_an_id_that_cannot_be_published_is_bad_by_name(spark, tmp_path, column):
    settings = settings_of(tmp_path)
    good = ["x" * 256, "é" * 128, "0", "f", "007", " a", "a b", "日本"]
    rows = [engagement(n, **{column: id_}) for n, id_ in enumerate(good)]
    expected = {}
    for fault, ids in IDS.items():
        for id_ in ids:
            rows.append(engagement(len(rows), **{column: id_}))
            expected[rows[-1]["item_id"]] = f"{column}_{fault}"
    judged(spark, settings, rows)
    assert reasons(settings) == expected


def test_an_id_that_is_not_utf_8_is_bad(spark, tmp_path):
    """The texts of a Parquet file are bytes that nobody has checked."""
    settings = settings_of(tmp_path)
    land_rows(settings, [engagement(n, consumer_id=["x", "Jos\u00e9"][n == 3]) for n in range(9)])
    landed = settings.lake.get("land", DAY)
    part = next((landed.path / "engagements").iterdir())
    part.write_bytes(part.read_bytes().replace("Jos\u00e9".encode(), b"Jos\xe9\xe9"))
    with settings.lake.writing("land", DAY, recipe=landed.recipe) as staging:
        shutil.copytree(landed.path / "engagements", staging.path / "engagements")
    validate.run(spark, settings, DAY)
    assert settings.lake.get("quarantine", DAY).facts["bad_engagements/consumer_id_not_text"] == 1


def test_what_passes_is_what_the_matrix_can_add():
    """Between the bounds a value is at least one millionth, and adds up exactly."""
    values = [np.nextafter(SMALLEST_VALUE, 0), SMALLEST_VALUE, LARGEST_VALUE, 2 * LARGEST_VALUE]
    kinds = pa.array(["view"] * len(values)).dictionary_encode()
    rows = pa.table({"consumer_id": kinds, "producer_id": kinds, "kind": kinds, "value": values})
    millionths = weigh(rows, 1.0, MatrixSettings())["millionths"].to_pylist()
    assert millionths[:3] == [0, 1, 2**53]
    assert millionths[3] + 1 == millionths[3]


def test_a_long_kind_or_context_is_bad(spark, tmp_path):
    settings = settings_of(tmp_path, ("click",))
    rows = [impression(n, label_click=0, ctx_page="p") for n in range(9)]
    rows.append(impression(9, label_click=0, ctx_page="p" * 1001))
    rows.append(impression(10, label_click=0, ctx_page=None))
    judged(spark, settings, rows)
    assert reasons(settings) == {"i9": "ctx_page_too_long"}


def in_one_second(n: int, **changed) -> dict:
    """Line n of a log whose rows differ in nothing but what is given."""
    return engagement(0, item_id="i", source_line=n + 2) | changed


def kept_and_bad(settings) -> tuple[list, list]:
    kept = [row["value"] for row in rows_of(settings, "validate")]
    return sorted(kept), sorted(row["value"] for row in rows_of(settings, "quarantine"))


@pytest.mark.parametrize(
    ("repeats", "kept", "bad"),
    [
        ("key", [3.0], [1.0, 2.0, 3.0]),
        ("all", [1.0, 2.0, 3.0], [3.0]),
        ("none", [1.0, 2.0, 3.0, 3.0], []),
    ],
)
def test_a_setting_says_what_a_repeat_is(spark, tmp_path, repeats, kept, bad):
    """What is not kept is quarantined: of two values in one second none is lost untold."""
    settings = settings_of(tmp_path, repeats=repeats)
    values = [3.0, 1.0, 3.0, 2.0]
    judged(spark, settings, [in_one_second(n, value=value) for n, value in enumerate(values)])
    assert kept_and_bad(settings) == (kept, bad)
    assert settings.lake.get("quarantine", DAY).facts.get("bad_engagements/repeat", 0) == len(bad)


def test_of_repeats_the_first_in_the_log_is_kept_whatever_it_says(spark, tmp_path):
    """By number, so that line 10 is behind line 9, and not the smallest or largest value."""
    settings = settings_of(tmp_path)
    rows = []
    for second, values in enumerate([(5.0, 1.0), (1.0, 5.0)]):
        for line, value in zip((9, 10), values, strict=True):
            time_ms = engagement(second)["time_ms"]
            rows.append(in_one_second(line, value=value, time_ms=time_ms))
    rows.append(in_one_second(8, value=7.0, time_ms=rows[0]["time_ms"], source_file="z.csv"))
    judged(spark, settings, rows[::-1])
    assert kept_and_bad(settings) == ([1.0, 5.0], [1.0, 5.0, 7.0])


def test_a_bad_row_never_takes_the_place_of_a_good_one(spark, tmp_path):
    settings = settings_of(tmp_path)
    judged(spark, settings, [in_one_second(0, value=-1.0), in_one_second(1), in_one_second(2)])
    assert [row["value"] for row in rows_of(settings, "validate")] == [1.0]
    bad = rows_of(settings, "quarantine")
    assert [row["reason"] for row in bad] == ["value_negative", "repeat"]


@pytest.mark.parametrize(
    ("step_ms", "words"),
    [
        (0, r"All times are whole days.*validation\.repeats"),
        (3_600_000, r"All times are whole hours.*validation\.repeats"),
        (60_000, r"All times are whole minutes.*validation\.repeats"),
        (1_000, r"time_ms\)\. Where rows repeat honestly.*validation\.repeats"),
    ],
)
def test_a_day_of_repeats_names_the_setting_and_coarse_times(spark, tmp_path, step_ms, words):
    settings = settings_of(tmp_path, max_bad_share=0.05)
    rows = []
    for n in range(8):
        time_ms = MIDNIGHT + step_ms * (n // 2 + 1) * bool(step_ms)
        rows.append(in_one_second(n, time_ms=time_ms))
    with pytest.raises(UntrustedDay, match=words):
        judged(spark, settings, rows)


def logged_clicks() -> list[dict]:
    """Ten impressions; the clicks on three are second rows of theirs, before or after the first."""
    rows = [impression(n, label_click=0, label_like=int(n == 4)) for n in range(10)]
    for n in (2, 4, 6):
        click = impression(n, label_click=1, label_like=0, dwell_ms=70, source_line=50 - 10 * n)
        rows.append(click)
    return rows


def test_merged_impressions_keep_every_label(spark, tmp_path):
    settings = settings_of(tmp_path, ("click", "like"), merge_labels=True)
    broken = impression(2, label_click=7, label_like=0, source_line=1)
    facts = judged(spark, settings, [*logged_clicks(), broken])
    clean = {row["item_id"]: row for row in rows_of(settings, "validate")}
    assert len(clean) == facts["rows_impressions"] == 10
    assert {item for item, row in clean.items() if row["label_click"]} == {"i2", "i4", "i6"}
    assert (clean["i4"]["label_like"], clean["i4"]["dwell_ms"]) == (1, 70)
    assert clean["i2"]["dwell_ms"] == 70
    assert (facts["merged_impressions"], facts["bad_impressions"]) == (3, 1)
    assert [row["label_click"] for row in rows_of(settings, "quarantine")] == [7]


def test_a_day_of_repeated_impressions_names_the_setting_that_merges_them(spark, tmp_path):
    settings = settings_of(tmp_path, ("click", "like"), max_bad_share=0.05)
    with pytest.raises(UntrustedDay, match=r"validation\.merge_labels"):
        judged(spark, settings, logged_clicks())


def test_without_merging_a_click_in_a_second_row_is_quarantined_and_counted(spark, tmp_path):
    settings = settings_of(tmp_path, ("click", "like"))
    facts = judged(spark, settings, logged_clicks())
    assert (facts["rows_impressions"], facts["bad_impressions"]) == (10, 3)
    assert "merged_impressions" not in facts
    assert {row["reason"] for row in rows_of(settings, "quarantine")} == {"repeat"}


def test_labels_and_contexts_may_be_called_anything(spark, tmp_path):
    labels = ("click rate (%)", "add-to-cart`s", "a.b")
    settings = settings_of(tmp_path, labels)
    rows = []
    for n in range(10):
        outcomes = {f"label_{label}": int(n == i) for i, label in enumerate(labels)}
        rows.append(impression(n, **outcomes, **{"ctx_device.os": "x"}))
    rows.append(rows[0] | place(20) | {"item_id": "bad", "label_click rate (%)": 2})
    facts = judged(spark, settings, rows)
    clean = settings.lake.get("validate", DAY)
    engagements = pq.read_table(clean.path / "engagements").to_pylist()
    assert {row["item_id"]: row["kind"] for row in engagements} == {
        f"i{i}": label for i, label in enumerate(labels)
    }
    fault = "label_click_rate_(%)_not_0_or_1"
    assert reasons(settings) == {"bad": fault}
    assert facts[f"gx_impressions/{fault}"] == 1
