"""matrix on a small log, against the same count in plain Python."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import Counter
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engagement_lake import (
    DAYS,
    Engagement,
    arrays,
    commit_day,
    engagement_settings,
    random_day,
    run_and_kill,
    table_of,
)
from hypothesis import given
from hypothesis import strategies as st

from embeddings.blocks import load_blocks, stack
from jobs.errors import BadInput, EvergreenError, UntrustedDay
from jobs.lake.buckets import Part, bucket_of
from jobs.lake.schema import ENGAGEMENTS
from jobs.settings import MatrixSettings, Settings, SparkSettings
from jobs.steps import matrix


@pytest.fixture
def settings(tmp_path):
    return engagement_settings(tmp_path)


@pytest.fixture
def three_days(settings):
    days = [random_day(seed) for seed in range(3)]
    for day, rows in zip(DAYS, days, strict=True):
        commit_day(settings, day, rows)
    return days


def test_the_matrix_is_the_weighted_count_of_the_window(spark, settings, three_days):
    """Every strength of the blocks, against a loop over the last two days' rows."""
    matrix.run(spark, settings, DAYS[2])
    window = three_days[1] + three_days[2]
    partition = settings.lake.get("matrix", DAYS[2])
    engaged = Counter(p for _, p in {(c, p) for c, p, _ in window})
    top = sorted(engaged, key=lambda p: (-engaged[p], p))[:15]
    assert [p.decode() for p in np.load(partition.path / "producers.npy")] == top
    expected, counts = Counter(), Counter()
    for c, p, kind in window:
        if p in top:
            expected[c, p] += 2.5 if kind == "follow" else 1.0
            counts[c] += 1
    for name, belongs in (("fitted", lambda n: n >= 3), ("rest", lambda n: n < 3)):
        found = {}
        for block in load_blocks(partition.path / name):
            x = block.matrix(15).tocoo()
            found |= {
                (block.ids[i].decode(), top[j]): v
                for i, j, v in zip(x.row, x.col, x.data, strict=True)
            }
            assert all(
                counts[c.decode()] == n for c, n in zip(block.ids, block.engagements, strict=True)
            )
        assert found == {pair: v for pair, v in expected.items() if belongs(counts[pair[0]])}


def test_producers_are_ranked_by_follows_where_a_setting_says_so(spark, settings):
    """p2 has more consumers, p1 more followers: the one place goes to p1."""
    liked = [(f"c{n}", "p2", "like") for n in range(5)] + [("c0", "p2", "follow")]
    commit_day(settings, DAYS[0], liked + [(f"c{n}", "p1", "follow") for n in range(3)])
    for rank_by, first in (("", b"p2"), ("follow", b"p1")):
        chosen = MatrixSettings(producers=1, min_engagements=1, rank_by=rank_by)
        matrix.run(spark, settings.model_copy(update={"matrix": chosen}), DAYS[0])
        assert np.load(settings.lake.get("matrix", DAYS[0]).path / "producers.npy").tolist() == [
            first
        ]


def test_a_refused_day_of_the_window_is_left_out_and_a_refused_day_itself_stops(spark, settings):
    commit_day(settings, DAYS[0], None)
    commit_day(settings, DAYS[1], random_day(1))
    matrix.run(spark, settings, DAYS[1])
    assert list(settings.lake.get("matrix", DAYS[1]).inputs) == [f"validate/{DAYS[1]}"]
    with pytest.raises(UntrustedDay, match="2024-01-01: too few rows"):
        matrix.run(spark, settings, DAYS[0])


def test_nothing_to_fit_says_which_setting_helps(spark, settings):
    commit_day(settings, DAYS[0], [("c1", "p1", "like")])
    with pytest.raises(
        EvergreenError, match="No consumer has 3 engagements.*Lower matrix.min_engagements"
    ):
        matrix.run(spark, settings, DAYS[0])
    assert settings.lake.find("matrix", DAYS[0]) is None


def test_kill_9_then_retry_gives_the_bytes_of_an_undisturbed_run(spark, settings, tmp_path):
    """A real process is killed with the blocks written and counted; the next try knows nothing of it."""
    calm = settings.model_copy(update={"home": tmp_path / "calm"})
    for each in (settings, calm):
        commit_day(each, DAYS[0], random_day(0))
    matrix.run(spark, calm, DAYS[0])
    killed = run_and_kill(settings, "matrix", "pyarrow.compute", "sum")
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert list((settings.lake.root / "_staging").glob("matrix-*/fitted/block-*/strengths.npy"))
    assert settings.lake.find("matrix", DAYS[0]) is None
    matrix.run(spark, settings, DAYS[0])
    assert arrays(settings.lake.get("matrix", DAYS[0]).path) == arrays(
        calm.lake.get("matrix", DAYS[0]).path
    )


# Days as `land` and `validate` write them, however they are spread


def content(
    settings: Settings, day: date
) -> tuple[dict[str, dict[str, float]], dict[str, int], bytes, bytes]:
    """The committed matrix: consumer -> producer -> strength, consumer -> engagements; producers, column sums."""
    home = settings.lake.get("matrix", day).path
    producers, strengths, engagements = np.load(home / "producers.npy").tolist(), {}, {}
    for block in [*load_blocks(home / "fitted"), *load_blocks(home / "rest")]:
        assert block.ids.tolist() == sorted(block.ids.tolist())
        assert block.matrix(len(producers)).has_canonical_format, "columns ascend"
        engagements |= dict(zip(block.ids.tolist(), block.engagements.tolist(), strict=True))
        for consumer, start, end in zip(
            block.ids.tolist(), block.indptr, block.indptr[1:], strict=False
        ):
            names = [producers[column] for column in block.indices[start:end]]
            strengths[consumer] = dict(zip(names, block.strengths[start:end].tolist(), strict=True))
    return (
        strengths,
        engagements,
        (home / "producers.npy").read_bytes(),
        (home / "column_sums.npy").read_bytes(),
    )


def spread_day(
    settings: Settings, spark, day: date, rows: list[Engagement], partitions: int
) -> None:
    """A validated day, written by Spark as the steps before write it."""
    with settings.lake.writing(
        "validate", day, settings=settings.digest("source", "validation")
    ) as staging:
        staging.facts |= {"trusted": True, "reason": ""}
        table = spark.createDataFrame(table_of(rows).select(ENGAGEMENTS))
        staging.write(table, "engagements", keys=list(ENGAGEMENTS), partitions=partitions)


@pytest.mark.parametrize("buckets", [(3, 3), (2, 6), (4, 1), (16, 3)], ids=str)
def test_days_spread_over_another_number_of_buckets_give_the_same_matrix(
    spark, settings, three_days, tmp_path, buckets
):
    """Against days of one file each; with 16 buckets some have no consumer, with 3 tasks they cross."""
    matrix.run(spark, settings, DAYS[2])
    other = settings.model_copy(update={"home": tmp_path / "other"})
    for day, rows, n in zip(DAYS[1:], three_days[1:], buckets, strict=True):
        spread_day(other, spark, day, rows, n)
    matrix.run(spark, other, DAYS[2])
    assert content(other, DAYS[2]) == content(settings, DAYS[2])
    assert other.lake.get("matrix", DAYS[2]).facts == settings.lake.get("matrix", DAYS[2]).facts


@pytest.mark.parametrize("tasks", [1, 7])
def test_the_number_of_tasks_shows_in_the_blocks_only(spark, settings, three_days, tasks):
    matrix.run(spark, settings, DAYS[2])
    expected, facts = content(settings, DAYS[2]), settings.lake.get("matrix", DAYS[2]).facts
    matrix.run(
        spark, settings.model_copy(update={"spark": SparkSettings(partitions=tasks)}), DAYS[2]
    )
    assert content(settings, DAYS[2]) == expected
    assert settings.lake.get("matrix", DAYS[2]).facts == facts


def test_a_bucket_without_consumers_has_no_block(spark, settings):
    commit_day(settings, DAYS[0], [("c1", f"p{n}", "like") for n in range(3)])
    matrix.run(spark, settings, DAYS[0])
    partition = settings.lake.get("matrix", DAYS[0])
    assert [home.name for home in partition.path.glob("*/block-*")] == [
        f"block-{bucket_of(b'c1', 3):05d}"
    ]
    assert partition.facts["consumers_fitted"] == 1


def test_facts_and_column_sums_say_what_the_blocks_hold(spark, settings, three_days):
    matrix.run(spark, settings, DAYS[2])
    partition = settings.lake.get("matrix", DAYS[2])
    fitted, rest = load_blocks(partition.path / "fitted"), load_blocks(partition.path / "rest")
    assert partition.facts == {
        "days": 2,
        "producers": 15,
        "consumers_fitted": sum(len(block.ids) for block in fitted),
        "consumers_left_out": sum(len(block.ids) for block in rest),
        "pairs": sum(block.indptr[-1] for block in fitted),
        "engagements": sum(block.engagements.sum() for block in [*fitted, *rest]),
    }
    sums = stack(fitted, 15).sum(axis=0).A1
    np.testing.assert_allclose(np.load(partition.path / "column_sums.npy"), sums, rtol=1e-12)
    assert {path.name for path in partition.path.iterdir()} == {
        "fitted",
        "rest",
        "producers.npy",
        "column_sums.npy",
    }


def test_the_most_popular_producers_are_dropped_and_the_next_ones_follow(
    spark, settings, three_days
):
    matrix.run(spark, settings, DAYS[2])
    top = np.load(settings.lake.get("matrix", DAYS[2]).path / "producers.npy").tolist()
    chosen = settings.matrix.model_copy(update={"drop_top": 4, "producers": 9})
    matrix.run(spark, settings.model_copy(update={"matrix": chosen}), DAYS[2])
    kept = np.load(settings.lake.get("matrix", DAYS[2]).path / "producers.npy").tolist()
    assert kept == top[4:13]
    strengths, engagements, *_ = content(settings, DAYS[2])
    expected = Counter(
        c.encode() for c, p, _ in three_days[1] + three_days[2] if p.encode() in kept
    )
    assert engagements == expected
    assert all(set(row) <= set(kept) for row in strengths.values())


def test_dropping_everybody_says_which_setting_did_it(spark, settings, three_days):
    chosen = settings.matrix.model_copy(update={"drop_top": 40})
    with pytest.raises(
        EvergreenError,
        match="beyond the 40 most popular producers .matrix.drop_top.: nothing to embed",
    ):
        matrix.run(spark, settings.model_copy(update={"matrix": chosen}), DAYS[2])


# One file's engagements


def rows_of(values: list[float], kinds: list[str]) -> pa.Table:
    ids = pa.array(["x"] * len(values)).dictionary_encode()
    return pa.table(
        {
            "consumer_id": ids,
            "producer_id": ids,
            "kind": pa.array(kinds).dictionary_encode(),
            "value": values,
        }
    )


@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e9), st.sampled_from(["like", "follow", "share"])), min_size=1
    )
)
def test_strengths_are_rounded_as_decimals_are(engagements):
    """Half up at the sixth decimal, as Spark's round does it: by way of the decimal that the float is printed as."""
    values, kinds = map(list, zip(*engagements, strict=True))
    cfg = MatrixSettings(weights={"like": 0.3, "follow": 1e-6}, rank_by="share")
    weighed = matrix.weigh(rows_of(values, kinds), cfg)
    for value, kind, millionths in zip(
        values, kinds, weighed["millionths"].to_pylist(), strict=True
    ):
        exact = Decimal(repr(value * cfg.weights.get(kind, 1.0) * 1e6))
        assert max(millionths, 0) == max(exact.quantize(Decimal(1), ROUND_HALF_UP), 0)
    assert weighed["ranks"].to_pylist() == [kind == "share" for kind in kinds]


@pytest.mark.parametrize(
    ("value", "counts"), [(0.0, 0), (-3.0, 0), (4e-7, 0), (5e-7, 1), (6e-7, 1)]
)
def test_an_engagement_without_strength_does_not_count(tmp_path, value, counts):
    pq.write_table(rows_of([value], ["like"]), tmp_path / "part-00000.parquet")
    assert (
        len(matrix.read_events(Part.at(tmp_path / "part-00000.parquet"), 0, 1, MatrixSettings()))
        == counts
    )


@pytest.mark.parametrize("value", [1e13, float("inf")])
def test_strengths_that_cannot_be_added_exactly_are_refused(value):
    with pytest.raises(BadInput, match="lower matrix.weights"):
        matrix.count_events(matrix.weigh(rows_of([value], ["like"]), MatrixSettings()))


IN_CONNECT = """
import sys
from datetime import date
from jobs import settings
from jobs.spark import session
from jobs.steps import matrix

chosen = settings.Settings.model_validate_json(sys.argv[1])
spark = session.spark_session(chosen)
assert "connect" in type(spark).__module__, type(spark)
matrix.run(spark, chosen, date(2024, 1, 3))
"""


def test_a_connect_session_lays_out_the_same_bytes(spark, settings, three_days, connect):
    matrix.run(spark, settings, DAYS[2])
    expected = settings.lake.get("matrix", DAYS[2])
    shutil.rmtree(expected.path.parent)
    remote = settings.model_copy(update={"spark": SparkSettings(partitions=3, remote=connect)})
    done = subprocess.run(
        [sys.executable, "-c", IN_CONNECT, remote.model_dump_json()], capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert settings.lake.get("matrix", DAYS[2]) == expected
