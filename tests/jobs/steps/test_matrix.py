"""The step `matrix` on a small log, against the same count in plain Python."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from pathlib import Path

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
from prepared import validated

from embeddings.blocks import SessionBlock, load_arrays, load_blocks, stack
from embeddings.facts import headlines
from jobs.errors import BadInput, EvergreenError, UntrustedDay
from jobs.lake.buckets import Part, bucket_of
from jobs.lake.schema import ENGAGEMENTS
from jobs.settings import MatrixSettings, Settings, SparkSettings
from jobs.steps import matrix


@pytest.fixture
def settings(tmp_path):
    return engagement_settings(tmp_path)


THREE_DAYS = [random_day(seed) for seed in range(3)]


def commit_three_days(settings: Settings) -> None:
    for day, rows in zip(DAYS, THREE_DAYS, strict=True):
        commit_day(settings, day, rows)


@pytest.fixture(scope="module")
def counted(spark, tmp_path_factory) -> Settings:
    """Settings of three validated days and the matrix of the last one; read-only."""
    settings = engagement_settings(tmp_path_factory.mktemp("counted"))
    commit_three_days(settings)
    matrix.run(spark, settings, DAYS[2])
    return settings


@pytest.fixture
def three_days(counted, tmp_path) -> Settings:
    """The same settings in another home, without the matrix."""
    settings = counted.model_copy(update={"home": tmp_path / "home"})
    commit_three_days(settings)
    return settings


def test_the_matrix_is_the_weighted_count_of_the_window(counted):
    """Every strength of the blocks, against a loop over the last two days' rows."""
    window = THREE_DAYS[1] + THREE_DAYS[2]
    top = most_popular(window, 15)
    expected, counts = Counter(), Counter()
    for consumer, producer, kind in window:
        if producer in top:
            expected[consumer, producer] += 2.5 if kind == "follow" else 1.0
            counts[consumer] += 1
    fitted = {pair: value for pair, value in expected.items() if counts[pair[0]] >= 3}
    rest = {pair: value for pair, value in expected.items() if counts[pair[0]] < 3}
    home = counted.lake.get("matrix", DAYS[2]).path
    assert [producer.decode() for producer in np.load(home / "producers.npy")] == top
    assert strengths_in(home / "fitted", top) == fitted
    assert strengths_in(home / "rest", top) == rest
    for block in [*load_blocks(home / "fitted"), *load_blocks(home / "rest")]:
        for consumer, engagements in zip(block.ids, block.engagements, strict=True):
            assert engagements == counts[consumer.decode()]


def most_popular(rows: list[Engagement], n: int) -> list[str]:
    """The producers with most distinct consumers, then by id."""
    pairs = {(consumer, producer) for consumer, producer, _ in rows}
    consumers = Counter(producer for _, producer in pairs)
    return sorted(consumers, key=lambda producer: (-consumers[producer], producer))[:n]


def strengths_in(home: Path, producers: list[str]) -> dict[tuple[str, str], float]:
    """(consumer, producer) -> strength, over all blocks of a folder."""
    strengths = {}
    for block in load_blocks(home):
        x = block.matrix(len(producers)).tocoo()
        for row, column, strength in zip(x.row, x.col, x.data, strict=True):
            strengths[block.ids[row].decode(), producers[column]] = strength
    return strengths


def test_older_engagements_count_less_by_their_half_life(spark, three_days):
    """Against a loop: with a half-life of two days, those of the day before count √½ as much.

    Who is fitted, and which producers have a column, is decided by the number of engagements.
    """
    chosen = three_days.matrix.model_copy(update={"half_life_days": 2.0})
    decayed = three_days.model_copy(update={"matrix": chosen})
    matrix.run(spark, decayed, DAYS[2])
    top = most_popular(THREE_DAYS[1] + THREE_DAYS[2], 15)
    expected, counts = Counter(), Counter()
    for rows, share in ((THREE_DAYS[1], 0.5**0.5), (THREE_DAYS[2], 1.0)):
        for consumer, producer, kind in rows:
            if producer in top:
                expected[consumer, producer] += share * (2.5 if kind == "follow" else 1.0)
                counts[consumer] += 1
    home = decayed.lake.get("matrix", DAYS[2]).path
    assert [producer.decode() for producer in np.load(home / "producers.npy")] == top
    found = strengths_in(home / "fitted", top) | strengths_in(home / "rest", top)
    assert found == pytest.approx(dict(expected), abs=1e-4)
    assert {row for row, _ in strengths_in(home / "rest", top)} == {
        consumer for consumer, n in counts.items() if n < 3
    }


@pytest.mark.parametrize(("rank_by", "first"), [("", b"p2"), ("follow", b"p1")])
def test_producers_are_ranked_by_the_kind_that_a_setting_names(spark, settings, rank_by, first):
    """p2 has more consumers, p1 more followers, and there is one column."""
    likes = [(f"c{n}", "p2", "like") for n in range(5)]
    follows = [("c0", "p2", "follow"), *((f"c{n}", "p1", "follow") for n in range(3))]
    commit_day(settings, DAYS[0], likes + follows)
    chosen = MatrixSettings(producers=1, min_engagements=1, rank_by=rank_by)
    matrix.run(spark, settings.model_copy(update={"matrix": chosen}), DAYS[0])
    assert producers_of(settings, DAYS[0]) == [first]


def test_sessions_of_the_window_are_those_of_a_slow_loop(spark, settings):
    """A pause of more than ten minutes ends one, also from one day to the next."""
    chosen = settings.matrix.model_copy(update={"session_minutes": 10})
    settings = settings.model_copy(update={"matrix": chosen})
    rng = np.random.default_rng(0)
    events = []
    for number, day in enumerate(DAYS[:2]):
        rows = random_day(number)
        midnight = int(np.datetime64(day, "ms").astype(int))
        times = (midnight + rng.integers(0, 86_400_000, len(rows))).tolist()
        times[:2] = [None, None]
        commit_day(settings, day, rows, times)
        events += [(*row, time) for row, time in zip(rows, times, strict=True)]
    matrix.run(spark, settings, DAYS[1])
    found = settings.lake.get("matrix", DAYS[1])
    columns = [name.decode() for name in np.load(found.path / "producers.npy")]
    stored = Counter()
    for home in sorted((found.path / "sessions").glob("block-*")):
        block = load_arrays(home, SessionBlock)
        for start, stop in pairwise(block.indptr):
            names = [columns[j] for j in block.indices[start:stop]]
            stored[frozenset(zip(names, block.strengths[start:stop].tolist(), strict=True))] += 1
    expected = Counter()
    for session in slow_sessions(events, 600_000):
        strengths = Counter()
        for producer, kind in session:
            if producer in columns:
                strengths[producer] += 2.5 if kind == "follow" else 1.0
        if len(strengths) > 1:
            expected[frozenset(strengths.items())] += 1
    assert stored == expected
    assert found.facts["sessions"] == expected.total() > 100


def slow_sessions(events: list[tuple], pause_ms: int) -> list[list[tuple[str, str]]]:
    """Sessions of (consumer, producer, kind, time), each a list of (producer, kind)."""
    sessions = []
    last = {}  # consumer -> the time of the newest event, and its session
    for consumer, producer, kind, time in sorted(events, key=lambda event: event[3] or 0):
        time = time or 0
        if consumer not in last or time - last[consumer][0] > pause_ms:
            last[consumer] = (time, [])
            sessions.append(last[consumer][1])
        last[consumer] = (time, last[consumer][1])
        last[consumer][1].append((producer, kind))
    return sessions


def test_sessions_change_nothing_else(counted, three_days, spark):
    chosen = three_days.matrix.model_copy(update={"session_minutes": 10})
    matrix.run(spark, three_days.model_copy(update={"matrix": chosen}), DAYS[2])
    found = arrays(three_days.lake.get("matrix", DAYS[2]).path)
    others = {name: data for name, data in found.items() if not name.startswith("sessions/")}
    assert others == arrays(counted.lake.get("matrix", DAYS[2]).path)
    assert len(others) < len(found)
    assert "sessions" not in counted.lake.get("matrix", DAYS[2]).facts


def producers_of(settings: Settings, day: date) -> list[bytes]:
    return np.load(settings.lake.get("matrix", day).path / "producers.npy").tolist()


def test_a_refused_day_is_left_out_of_later_windows_and_has_no_matrix_itself(spark, settings):
    commit_day(settings, DAYS[0], None)
    commit_day(settings, DAYS[1], random_day(1))
    matrix.run(spark, settings, DAYS[1])
    found = settings.lake.get("matrix", DAYS[1])
    assert list(found.inputs) == [f"validate/{day}" for day in DAYS[:2]]
    assert found.facts["days"] == 1
    with pytest.raises(UntrustedDay, match="2024-01-01: too few rows"):
        matrix.run(spark, settings, DAYS[0])


def test_the_error_for_nothing_to_fit_names_the_settings_that_help(spark, settings):
    commit_day(settings, DAYS[0], [("c1", "p1", "like")])
    message = "No consumer has 3 engagements.*Lower matrix.min_engagements"
    with pytest.raises(EvergreenError, match=message):
        matrix.run(spark, settings, DAYS[0])
    assert settings.lake.find("matrix", DAYS[0]) is None


@pytest.mark.slow
def test_kill_9_then_retry_gives_the_bytes_of_an_undisturbed_run(
    spark, settings, connect, tmp_path
):
    """A real process is killed after the blocks are written and counted, as a task of Airflow."""
    calm = settings.model_copy(update={"home": tmp_path / "calm"})
    for each in (settings, calm):
        commit_day(each, DAYS[0], random_day(0))
    matrix.run(spark, calm, DAYS[0])
    remote = settings.model_copy(update={"spark": SparkSettings(partitions=3, remote=connect)})
    killed = run_and_kill(remote, "matrix", "pyarrow.compute", "sum")
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert list((settings.lake.root / "_staging").glob("matrix-*/fitted/block-*/strengths.npy"))
    assert settings.lake.find("matrix", DAYS[0]) is None
    matrix.run(spark, settings, DAYS[0])
    retried = settings.lake.get("matrix", DAYS[0])
    assert arrays(retried.path) == arrays(calm.lake.get("matrix", DAYS[0]).path)


# --- days as `land` and `validate` write them, spread over any number of buckets


@dataclass(frozen=True)
class Content:
    """A committed matrix, independent of how its rows are divided into blocks."""

    strengths: dict[bytes, dict[bytes, float]]  # consumer -> producer -> strength
    engagements: dict[bytes, int]  # by consumer
    producers: bytes  # the file
    column_sums: bytes  # the file


def content(settings: Settings, day: date) -> Content:
    home = settings.lake.get("matrix", day).path
    producers = producers_of(settings, day)
    strengths, engagements = {}, {}
    for block in [*load_blocks(home / "fitted"), *load_blocks(home / "rest")]:
        consumers = block.ids.tolist()
        assert consumers == sorted(consumers)
        assert block.matrix(len(producers)).has_canonical_format, "columns ascend"
        engagements |= dict(zip(consumers, block.engagements.tolist(), strict=True))
        for row, consumer in enumerate(consumers):
            pairs = slice(block.indptr[row], block.indptr[row + 1])
            names = [producers[column] for column in block.indices[pairs]]
            strengths[consumer] = dict(zip(names, block.strengths[pairs].tolist(), strict=True))
    return Content(
        strengths,
        engagements,
        (home / "producers.npy").read_bytes(),
        (home / "column_sums.npy").read_bytes(),
    )


def spread_day(
    settings: Settings, spark, day: date, rows: list[Engagement], partitions: int
) -> None:
    """Commit a validated day, written by Spark as the earlier steps write it."""
    with validated(settings, day) as staging:
        staging.facts |= {"trusted": True, "reason": ""}
        table = spark.createDataFrame(table_of(rows).select(ENGAGEMENTS))
        staging.write(table, "engagements", keys=list(ENGAGEMENTS), partitions=partitions)


@pytest.mark.parametrize("buckets", [(3, 3), (2, 6), (4, 1), (16, 3)], ids=str)
def test_days_spread_over_another_number_of_buckets_give_the_same_matrix(
    spark, counted, tmp_path, buckets
):
    """Against one file per day. Of 16 buckets some have no consumer; 3 tasks split them all."""
    other = counted.model_copy(update={"home": tmp_path})
    for day, rows, n in zip(DAYS[1:], THREE_DAYS[1:], buckets, strict=True):
        spread_day(other, spark, day, rows, n)
    matrix.run(spark, other, DAYS[2])
    assert content(other, DAYS[2]) == content(counted, DAYS[2])
    assert other.lake.get("matrix", DAYS[2]).facts == counted.lake.get("matrix", DAYS[2]).facts


@pytest.mark.parametrize("tasks", [1, 7])
def test_the_number_of_tasks_affects_only_the_division_into_blocks(
    spark, counted, three_days, tasks
):
    other = three_days.model_copy(update={"spark": SparkSettings(partitions=tasks)})
    matrix.run(spark, other, DAYS[2])
    assert content(other, DAYS[2]) == content(counted, DAYS[2])
    assert other.lake.get("matrix", DAYS[2]).facts == counted.lake.get("matrix", DAYS[2]).facts


def test_a_bucket_without_consumers_has_no_block(spark, settings):
    commit_day(settings, DAYS[0], [("c1", f"p{n}", "like") for n in range(3)])
    matrix.run(spark, settings, DAYS[0])
    partition = settings.lake.get("matrix", DAYS[0])
    blocks = [home.name for home in partition.path.glob("*/block-*")]
    assert blocks == [f"block-{bucket_of(b'c1', 3):05d}"]
    assert partition.facts["consumers_fitted"] == 1


def test_facts_and_column_sums_are_those_of_the_blocks(counted):
    partition = counted.lake.get("matrix", DAYS[2])
    fitted = load_blocks(partition.path / "fitted")
    rest = load_blocks(partition.path / "rest")
    assert partition.facts == {
        "days": 2,
        "producers": 15,
        "consumers_fitted": sum(len(block.ids) for block in fitted),
        "consumers_left_out": sum(len(block.ids) for block in rest),
        "pairs": sum(block.indptr[-1] for block in fitted),
        "pairs_bounded": 0,
        "engagements": sum(block.engagements.sum() for block in [*fitted, *rest]),
    }
    sums = stack(fitted, 15).sum(axis=0).A1
    np.testing.assert_allclose(np.load(partition.path / "column_sums.npy"), sums, rtol=1e-12)
    names = {path.name for path in partition.path.iterdir()}
    assert names == {"fitted", "rest", "producers.npy", "column_sums.npy"}


def test_every_committed_fact_is_declared(counted):
    facts = counted.lake.get("matrix", DAYS[2]).facts
    # Every day of the window was validated.
    assert sorted([*facts, "days_missing"]) == sorted(fact.name for fact in matrix.FACTS)
    chosen = {"producers", "pairs", "consumers_fitted", "consumers_left_out"}
    assert headlines(matrix.FACTS, facts).keys() == chosen


def test_the_most_popular_producers_are_dropped_and_the_next_ones_follow(
    spark, counted, three_days
):
    top = producers_of(counted, DAYS[2])
    chosen = three_days.matrix.model_copy(update={"drop_top": 4, "producers": 9})
    matrix.run(spark, three_days.model_copy(update={"matrix": chosen}), DAYS[2])
    kept = producers_of(three_days, DAYS[2])
    assert kept == top[4:13]
    engagements = Counter()
    for consumer, producer, _ in THREE_DAYS[1] + THREE_DAYS[2]:
        if producer.encode() in kept:
            engagements[consumer.encode()] += 1
    found = content(three_days, DAYS[2])
    assert found.engagements == engagements
    for row in found.strengths.values():
        assert set(row) <= set(kept)


def test_the_error_for_dropping_all_producers_names_the_setting(spark, three_days):
    chosen = three_days.matrix.model_copy(update={"drop_top": 40})
    message = "beyond the 40 most popular producers .matrix.drop_top.: nothing to embed"
    with pytest.raises(EvergreenError, match=message):
        matrix.run(spark, three_days.model_copy(update={"matrix": chosen}), DAYS[2])


def test_one_pair_of_huge_strength_is_bounded_and_nothing_else_changes(spark, settings):
    """Whatever its kind, and in whichever bucket: fifty times what one pair of a hundred exceeds.

    Validation compares values with the median of their kind: of the only row of a kind it says
    nothing.
    """
    rows = [(f"c{n % 40}", f"p{n // 40}", "like") for n in range(400)]
    weights = settings.matrix.weights | {"refund": 1e6}
    chosen = settings.matrix.model_copy(update={"weights": weights})
    settings = settings.model_copy(update={"matrix": chosen})
    commit_day(settings, DAYS[0], rows)
    commit_day(settings, DAYS[1], [("c7", "p3", "refund")])
    matrix.run(spark, settings, DAYS[0])
    matrix.run(spark, settings, DAYS[1])
    before, after = content(settings, DAYS[0]), content(settings, DAYS[1])
    assert before.strengths[b"c7"].pop(b"p3") == 1
    assert after.strengths[b"c7"].pop(b"p3") == 50
    assert after.strengths == before.strengths
    assert settings.lake.get("matrix", DAYS[1]).facts["pairs_bounded"] == 1


# --- the engagements of one file


def rows_of(values: list[float], kinds: list[str]) -> pa.Table:
    ids = pa.array(["x"] * len(values)).dictionary_encode()
    codes = pa.array(kinds).dictionary_encode()
    return pa.table({"consumer_id": ids, "producer_id": ids, "kind": codes, "value": values})


KINDS = st.sampled_from(["like", "follow", "share"])


@given(st.lists(st.tuples(st.floats(-1e6, 1e9), KINDS), min_size=1))
def test_strengths_are_rounded_as_decimals_are(engagements):
    """Half up at the sixth decimal of the float's printed digits, which is how Spark rounds."""
    values, kinds = map(list, zip(*engagements, strict=True))
    cfg = MatrixSettings(weights={"like": 0.3, "follow": 1e-6}, rank_by="share")
    weighed = matrix.weigh(rows_of(values, kinds), 1.0, cfg)
    all_millionths = weighed["millionths"].to_pylist()
    for value, kind, millionths in zip(values, kinds, all_millionths, strict=True):
        exact = Decimal(repr(value * cfg.weights.get(kind, 1.0) * 1e6))
        rounded = exact.quantize(Decimal(1), ROUND_HALF_UP)
        assert max(millionths, 0) == max(rounded, 0)
    assert weighed["ranks"].to_pylist() == [kind == "share" for kind in kinds]


@pytest.mark.parametrize(
    ("value", "counts"), [(0.0, 0), (-3.0, 0), (4e-7, 0), (5e-7, 1), (6e-7, 1)]
)
def test_an_engagement_without_strength_does_not_count(tmp_path, value, counts):
    file = tmp_path / "part-00000.parquet"
    pq.write_table(rows_of([value], ["like"]), file)
    events = matrix.read_events(Part.at(file), 1.0, 0, 1, MatrixSettings())
    assert len(events) == counts


@pytest.mark.parametrize("value", [1e13, float("inf"), float("nan")])
def test_strengths_that_cannot_be_added_exactly_are_refused(value):
    with pytest.raises(BadInput, match="lower matrix.weights"):
        matrix.count_events(matrix.weigh(rows_of([value], ["like"]), 1.0, MatrixSettings()))


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


def test_a_connect_session_writes_the_same_bytes(counted, three_days, connect):
    remote = three_days.model_copy(update={"spark": SparkSettings(partitions=3, remote=connect)})
    done = subprocess.run(
        [sys.executable, "-c", IN_CONNECT, remote.model_dump_json()], capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    expected = counted.lake.get("matrix", DAYS[2])
    assert remote.lake.get("matrix", DAYS[2]).digest == expected.digest
