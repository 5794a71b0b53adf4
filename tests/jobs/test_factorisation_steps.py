"""matrix, embed, align, fold_in and publish on a small log, each against the same sum done by hand."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from embeddings.csr import load_blocks
from jobs import align, embed, fold_in, matrix, publish
from jobs.errors import EvergreenError, UntrustedDay
from jobs.settings import EdgelistSettings, EmbeddingSettings, MatrixSettings, Settings, SparkSettings

FIRST = date(2024, 1, 1)
DAYS = [FIRST + timedelta(days=n) for n in range(3)]
EMBEDDING_STEPS = (matrix, embed, align, fold_in, publish)


def random_day(seed: int, n: int = 400) -> list[tuple[str, str, str]]:
    """(consumer, producer, kind): a heavy-tailed day of likes and follows."""
    rng = np.random.default_rng(seed)
    consumers, producers = rng.zipf(1.4, n) % 60, rng.zipf(1.3, n) % 40
    return [
        (f"c{c}", f"p{p}", k) for c, p, k in zip(consumers, producers, rng.choice(["like", "follow"], n), strict=True)
    ]


@pytest.fixture
def settings(tmp_path):
    log = tmp_path / "log.txt"
    stamps = [int(np.datetime64(day, "s").astype(int)) for day in DAYS]
    log.write_text("".join(f"c1 p1 {stamp}\n" for stamp in stamps))  # read for its span only: days are committed below
    return Settings(
        home=tmp_path / "home",
        source=EdgelistSettings(kind="edgelist", path=log),
        matrix=MatrixSettings(window_days=2, producers=15, min_engagements=3, weights={"follow": 2.5}),
        embedding=EmbeddingSettings(name="author", dim=6),
        spark=SparkSettings(partitions=3),
    )


def commit_day(settings: Settings, day: date, rows: list[tuple[str, str, str]] | None) -> None:
    """A validated day of these engagements; None: a day that validation refused."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with settings.lake.writing("validate", day, settings=settings.digest("source", "validation")) as staging:
        staging.facts |= {"trusted": rows is not None, "reason": "" if rows is not None else "too few rows"}
        if rows is not None:
            (staging.path / "engagements").mkdir()
            columns = dict(zip(("consumer_id", "producer_id", "kind"), map(list, zip(*rows, strict=True)), strict=True))
            ones, nothing = pa.array([1.0] * len(rows)), pa.nulls(len(rows), pa.string())
            table = pa.table({**columns, "item_id": nothing, "value": ones, "time_ms": pa.nulls(len(rows), pa.int64())})
            pq.write_table(table, staging.path / "engagements" / "part-00000.parquet")


@pytest.fixture
def three_days(settings):
    days = [random_day(seed) for seed in range(3)]
    for day, rows in zip(DAYS, days, strict=True):
        commit_day(settings, day, rows)
    return days


def run_all(spark, settings, days=DAYS) -> None:
    for day in days:
        for step in EMBEDDING_STEPS:
            step.run(spark, settings, day)


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
            found |= {(block.ids[i].decode(), top[j]): v for i, j, v in zip(x.row, x.col, x.data, strict=True)}
            assert all(counts[c.decode()] == n for c, n in zip(block.ids, block.engagements, strict=True))
        assert found == {pair: v for pair, v in expected.items() if belongs(counts[pair[0]])}


def test_producers_are_ranked_by_follows_where_a_setting_says_so(spark, settings):
    """p2 has more consumers, p1 more followers: the one place goes to p1."""
    liked = [(f"c{n}", "p2", "like") for n in range(5)] + [("c0", "p2", "follow")]
    commit_day(settings, DAYS[0], liked + [(f"c{n}", "p1", "follow") for n in range(3)])
    for rank_by, first in (("", b"p2"), ("follow", b"p1")):
        chosen = MatrixSettings(producers=1, min_engagements=1, rank_by=rank_by)
        matrix.run(spark, settings.model_copy(update={"matrix": chosen}), DAYS[0])
        assert np.load(settings.lake.get("matrix", DAYS[0]).path / "producers.npy").tolist() == [first]


def test_a_refused_day_of_the_window_is_left_out_and_a_refused_day_itself_stops(spark, settings):
    commit_day(settings, DAYS[0], None)
    commit_day(settings, DAYS[1], random_day(1))
    matrix.run(spark, settings, DAYS[1])
    assert list(settings.lake.get("matrix", DAYS[1]).inputs) == [f"validate/{DAYS[1]}"]
    with pytest.raises(UntrustedDay, match="2024-01-01: too few rows"):
        matrix.run(spark, settings, DAYS[0])


def test_nothing_to_fit_says_which_setting_helps(spark, settings):
    commit_day(settings, DAYS[0], [("c1", "p1", "like")])
    with pytest.raises(EvergreenError, match="No consumer has 3 engagements.*Lower matrix.min_engagements"):
        matrix.run(spark, settings, DAYS[0])
    assert settings.lake.find("matrix", DAYS[0]) is None


def test_days_in_any_order_give_the_same_bytes(spark, settings, three_days, tmp_path):
    """Alignment goes to the anchor, not to whatever ran before."""
    run_all(spark, settings)
    other = settings.model_copy(update={"home": tmp_path / "other"})
    for day, rows in zip(DAYS, three_days, strict=True):
        commit_day(other, day, rows)
    for step in (matrix, embed):  # the anchor, as `ensure` would have it computed
        step.run(spark, other, DAYS[0])
    run_all(spark, other, [DAYS[2], DAYS[0], DAYS[1]])
    for step in ("matrix", "embed", "align", "fold_in"):
        assert [settings.lake.get(step, d).digest for d in DAYS] == [other.lake.get(step, d).digest for d in DAYS]
    digests = [[v.digest for v in publish.open_registry(s).versions("author")] for s in (settings, other)]
    assert sorted(digests[0]) == sorted(digests[1])


def test_alignment_changes_no_dot_product(spark, settings, three_days):
    run_all(spark, settings)
    raw, aligned = (settings.lake.get(step, DAYS[2]).path for step in ("embed", "align"))
    before = np.load(raw / "consumers.npy") @ np.load(raw / "producers.npy").T
    after = np.load(aligned / "consumers.npy") @ np.load(aligned / "producers.npy").T
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_every_consumer_of_the_window_is_published_once_fitted_or_folded(spark, settings, three_days):
    run_all(spark, settings)
    registry = publish.open_registry(settings)
    version = registry.load(registry.version("author", DAYS[2]))
    top = {p.decode() for p in version.entities["producer"].ids}
    expected = Counter(c for c, p, _ in three_days[1] + three_days[2] if p in top)
    consumers = version.entities["consumer"]
    assert {i.decode(): n for i, n in zip(consumers.ids, consumers.counts, strict=True)} == dict(expected)
    np.testing.assert_array_equal(consumers.folded, consumers.counts < 3)


def test_online_fold_in_equals_the_batch(spark, settings, three_days):
    """A left-out consumer asked for through the registry gets the vector that the nightly job published."""
    run_all(spark, settings)
    registry = publish.open_registry(settings)
    version = registry.load(registry.version("author", DAYS[2]))
    partition = settings.lake.get("matrix", DAYS[2])
    producers = np.load(partition.path / "producers.npy")
    block = load_blocks(partition.path / "rest")[0]
    row = slice(block.indptr[0], block.indptr[1])
    history = {producers[j].decode(): s for j, s in zip(block.indices[row], block.strengths[row], strict=True)}
    online = registry.fold_in("author", history, day=DAYS[2])
    consumers = version.entities["consumer"]
    batch = consumers.vectors[consumers.rows([block.ids[0].decode()])[0]]
    np.testing.assert_allclose(online.vector, batch, atol=1e-6)


def test_publishing_the_same_again_is_the_same_version_and_another_result_a_revision(spark, settings, three_days):
    run_all(spark, settings, DAYS[:1])
    registry = publish.open_registry(settings)
    run_all(spark, settings, DAYS[:1])
    assert [v.id for v in registry.versions("author")] == ["author/2024-01-01.r1"]
    commit_day(settings, DAYS[0], random_day(77))
    run_all(spark, settings, DAYS[:1])
    assert sorted(v.id for v in registry.versions("author")) == ["author/2024-01-01.r1", "author/2024-01-01.r2"]


KILLED = textwrap.dedent("""
    import os, signal, sys
    from datetime import date
    from importlib import import_module
    from jobs.session import spark_session
    from jobs.settings import Settings
    settings = Settings.model_validate_json(sys.argv[1])
    step, module, name = sys.argv[2:5]
    die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
    setattr(import_module(module), name, die)
    spark = spark_session(settings) if step == "matrix" else None
    import_module(f"jobs.{step}").run(spark, settings, date(2024, 1, 1))
""")


@pytest.mark.parametrize(
    ("step", "module", "name"),
    [("matrix", "numpy", "bincount"), ("publish", "jobs.lake", "replace_text")],
    ids=["matrix, its blocks written", "publish, before its receipt"],
)
def test_kill_9_then_retry_gives_the_bytes_of_an_undisturbed_run(spark, settings, tmp_path, step, module, name):
    """A real process is killed in the middle of the step; the next try knows nothing of it."""
    calm = settings.model_copy(update={"home": tmp_path / "calm"})
    for each in (settings, calm):
        commit_day(each, DAYS[0], random_day(0))
    run_all(spark, calm, DAYS[:1])
    steps = [s.__name__.removeprefix("jobs.") for s in EMBEDDING_STEPS]
    for before in EMBEDDING_STEPS[: steps.index(step)]:
        before.run(spark, settings, DAYS[0])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, settings.model_dump_json(), step, module, name], capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert settings.lake.find(step, DAYS[0]) is None
    run_all(spark, settings, DAYS[:1])
    assert files_of(settings, step) == files_of(calm, step)


def files_of(settings: Settings, step: str) -> dict[str, bytes]:
    """Every file of the partition; of publish: of the registry's version."""
    home = settings.lake.get(step, DAYS[0]).path
    if step == "publish":
        home = Path(publish.open_registry(settings).version("author", DAYS[0]).path)
    files = {str(p.relative_to(home)): p.read_bytes() for p in home.rglob("*.npy")}
    assert files
    return files
