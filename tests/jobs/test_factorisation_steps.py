"""embed, align, fold_in and publish on a small log, each against the same sum done by hand."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from engagement_lake import DAYS, arrays, commit_day, engagement_settings, random_day, run_and_kill

from embeddings.csr import load_blocks
from jobs import align, embed, fold_in, matrix, publish

EMBEDDING_STEPS = (matrix, embed, align, fold_in, publish)


@pytest.fixture
def settings(tmp_path):
    return engagement_settings(tmp_path)


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


def test_kill_9_then_retry_gives_the_bytes_of_an_undisturbed_run(spark, settings, tmp_path):
    """A real process is killed in publish, before its receipt; the next try knows nothing of it."""
    calm = settings.model_copy(update={"home": tmp_path / "calm"})
    for each in (settings, calm):
        commit_day(each, DAYS[0], random_day(0))
    run_all(spark, calm, DAYS[:1])
    for before in EMBEDDING_STEPS[:-1]:
        before.run(spark, settings, DAYS[0])
    killed = run_and_kill(settings, "publish", "jobs.lake", "replace_text")
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert settings.lake.find("publish", DAYS[0]) is None
    run_all(spark, settings, DAYS[:1])
    paths = [Path(publish.open_registry(each).version("author", DAYS[0]).path) for each in (settings, calm)]
    assert arrays(paths[0]) == arrays(paths[1])
