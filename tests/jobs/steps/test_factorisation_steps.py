"""embed, align, fold_in and publish on a small log, by each method, against sums by hand."""

from __future__ import annotations

import logging
import shutil
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from engagement_lake import DAYS, arrays, commit_day, engagement_settings, random_day, run_and_kill

from embeddings.blocks import load_blocks
from embeddings.fold_in.base import load_fold_in
from embeddings.registry.shards import open_shards
from jobs.errors import EvergreenError
from jobs.pipeline.running import ensure
from jobs.settings import Settings
from jobs.steps import align, embed, fold_in, lookalike, matrix, publish

EMBEDDING_STEPS = (matrix, embed, align, fold_in, lookalike, publish)
STEPS = ("matrix", "embed", "align", "fold_in", "lookalike", "publish")


@pytest.fixture(scope="module", params=["svd", "als"])
def published(request, tmp_path_factory, spark):
    """Settings of three days that went through all steps; read-only."""
    settings = near(tmp_path_factory.mktemp(request.param), request.param)
    commit_days(settings)
    run_all(spark, settings)
    return settings


def near(home: Path, method: str) -> Settings:
    """All days of the log stay in one space."""
    return changed(engagement_settings(home), embedding={"method": method, "min_cosine": -1.0})


@pytest.fixture
def svd_settings(tmp_path):
    return engagement_settings(tmp_path)


def copied(settings: Settings, home: Path, *steps: str) -> Settings:
    """The settings with another home: their first day, as it is after these steps."""
    for step in ("validate", *steps):
        day = Path(step, f"day={DAYS[0]}")
        shutil.copytree(settings.lake.root / day, home / "lake" / day)
    return settings.model_copy(update={"home": home})


def changed(settings: Settings, **sections: dict) -> Settings:
    """The settings with these options changed."""
    sections = {
        name: getattr(settings, name).model_copy(update=options)
        for name, options in sections.items()
    }
    return settings.model_copy(update=sections)


def commit_days(settings: Settings, seeds: tuple[int, ...] = (0, 1, 2)) -> list:
    days = [random_day(seed) for seed in seeds]
    for day, rows in zip(DAYS, days, strict=True):
        commit_day(settings, day, rows)
    return days


def run_all(spark, settings, days=DAYS) -> None:
    for day in days:
        for step in EMBEDDING_STEPS:
            step.run(spark, settings, day)


def test_days_in_any_order_give_the_same_bytes(spark, published, tmp_path):
    """The space of a day depends on the days, not on the order in which they are requested."""
    untracked = published.mlflow.model_copy(update={"uri": "off"})
    backwards = published.model_copy(update={"home": tmp_path, "mlflow": untracked})
    commit_days(backwards)
    for day in (DAYS[2], DAYS[0], DAYS[1]):
        ensure(backwards, "publish", day, lambda: spark)
    for step in STEPS[:-1]:
        for day in DAYS:
            assert backwards.lake.get(step, day).digest == published.lake.get(step, day).digest
    digests = []
    for settings in (published, backwards):
        versions = settings.open_registry().versions("author")
        digests.append(sorted(version.digest for version in versions))
    assert digests[0] == digests[1]


def test_alignment_changes_no_dot_product(published):
    path = {step: published.lake.get(step, DAYS[2]).path for step in STEPS}
    blocks = load_blocks(path["matrix"] / "fitted")
    ids = np.concatenate([block.ids for block in blocks])
    files = sorted((path["embed"] / "consumers").glob("*.npy"))
    raw = np.concatenate([np.load(file) for file in files])
    shards = open_shards(path["fold_in"] / "consumer")
    aligned = shards.vectors[shards.rows(ids)]
    before = raw @ np.load(path["embed"] / "producers.npy").T
    after = aligned @ np.load(path["align"] / "producers.npy").T
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_every_consumer_of_the_window_is_published_once_fitted_or_folded(published):
    registry = published.open_registry()
    version = registry.load(registry.version("author", DAYS[2]))
    top = {p.decode() for p in version.entities["producer"].ids}
    expected = Counter(c for c, p, _ in random_day(1) + random_day(2) if p in top)
    consumers = version.entities["consumer"]
    every = np.arange(len(consumers.ids))
    counts = consumers.counts[every]
    assert {i.decode(): n for i, n in zip(consumers.ids[every], counts, strict=True)} == dict(
        expected
    )
    np.testing.assert_array_equal(consumers.folded[every], counts < 3)


def test_online_fold_in_equals_the_batch(published):
    """A request for a left-out consumer gives the vector that the nightly job published."""
    registry = published.open_registry()
    version = registry.load(registry.version("author", DAYS[2]))
    partition = published.lake.get("matrix", DAYS[2])
    producers = np.load(partition.path / "producers.npy")
    block = load_blocks(partition.path / "rest")[0]
    row = slice(block.indptr[0], block.indptr[1])
    history = {
        producers[j].decode(): s
        for j, s in zip(block.indices[row], block.strengths[row], strict=True)
    }
    online = registry.fold_in("author", history, day=DAYS[2])
    consumers = version.entities["consumer"]
    batch = consumers.vectors[consumers.rows([block.ids[0].decode()])][0]
    assert np.abs(batch).max() > 0
    np.testing.assert_allclose(online.vector, batch, atol=1e-6)
    assert (online.known, online.version.space) == (len(history), version.version.space)


@pytest.mark.parametrize("published", ["svd"], indirect=True)
def test_the_svd_smooths_by_the_means_of_all_fitted_consumers(published):
    """The mean is over all blocks, not over each block."""
    home = published.lake.get("matrix", DAYS[0]).path
    blocks = list(load_blocks(home / "fitted"))
    assert len(blocks) > 1
    sums = np.load(home / "column_sums.npy")
    n = sum(len(block.ids) for block in blocks)
    folding = load_fold_in(published.lake.get("embed", DAYS[0]).path / "fold_in")
    assert folding.row_extra == pytest.approx(sum(block.strengths.sum() for block in blocks) / n)
    np.testing.assert_allclose(folding.column_sums, sums + sums.sum() / np.count_nonzero(sums))


def test_one_task_finds_what_two_find(spark, published, tmp_path):
    """Splitting the rows changes only the last bits."""
    found = []
    for members in (1, 2):
        home = tmp_path / str(members)
        one = changed(copied(published, home, "matrix"), spark={"members": members})
        embed.run(spark, one, DAYS[0])
        path = one.lake.get("embed", DAYS[0]).path
        consumers = np.concatenate(
            [np.load(file) for file in sorted((path / "consumers").glob("*.npy"))]
        )
        found.append(consumers @ np.load(path / "producers.npy").T)
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


@pytest.mark.parametrize("published", ["svd"], indirect=True)
def test_more_tasks_than_cores_are_refused_with_the_remedy(spark, published, tmp_path):
    greedy = changed(copied(published, tmp_path, "matrix"), spark={"members": 99})
    with pytest.raises(EvergreenError, match=r"cannot run 99 tasks at once.*Lower spark\.members"):
        embed.run(spark, greedy, DAYS[0])


def test_a_day_too_far_from_the_anchor_opens_a_space_and_the_next_days_follow(
    spark, svd_settings, caplog
):
    """Day two is about something else; day three equals day two."""
    far = changed(svd_settings, matrix={"window_days": 1}, embedding={"min_cosine": 0.95})
    commit_days(far, (0, 1, 1))
    with caplog.at_level(logging.WARNING):
        run_all(spark, far)
    anchors = [far.lake.get("align", day).facts["anchor"] for day in DAYS]
    assert anchors == [str(DAYS[0]), str(DAYS[1]), str(DAYS[1])]
    spaces = [version.space for version in far.open_registry().versions("author")]
    assert spaces[0] != spaces[1] == spaces[2]
    assert f"{DAYS[1]} OPENS A NEW SPACE" in caplog.text
    assert f"{DAYS[2]} OPENS" not in caplog.text


def test_a_version_reports_its_distance_to_anchor_and_previous_day(published):
    first, last = (published.open_registry().version("author", day) for day in (DAYS[0], DAYS[2]))
    assert first.lineage["metrics"]["cosine_to_anchor"] == pytest.approx(1.0)
    assert first.lineage["metrics"]["overlap10_with_anchor"] == 1.0
    for figure in ("cosine_to", "residual_to", "overlap10_with", "shared_with"):
        assert {f"{figure}_anchor", f"{figure}_previous"} <= last.lineage["metrics"].keys()


def test_what_a_version_reports_is_about_its_published_vectors(published):
    """The cosine before the rotation is a fact of the step alone."""
    facts = published.lake.get("align", DAYS[2]).facts
    version = published.open_registry().version("author", DAYS[2])
    assert "cosine_to_anchor_unaligned" in facts
    assert "cosine_to_anchor_unaligned" not in version.lineage["metrics"]


def test_the_figures_of_alignment_by_hand(published):
    """Residual and cosine of the shared producers, from the published vectors alone."""
    registry = published.open_registry()
    tables = [
        registry.load(registry.version("author", day)).entities["producer"]
        for day in (DAYS[0], DAYS[2])
    ]
    anchor, mine = (dict(zip(t.ids[:], t.vectors[:], strict=True)) for t in tables)
    common = sorted(anchor.keys() & mine.keys())
    a, b = np.array([anchor[i] for i in common]), np.array([mine[i] for i in common])
    metrics = registry.version("author", DAYS[2]).lineage["metrics"]
    assert metrics["shared_with_anchor"] == pytest.approx(len(common) / len(mine))
    assert metrics["residual_to_anchor"] == pytest.approx(
        np.linalg.norm(b - a) / np.linalg.norm(a), rel=1e-5
    )
    cosines = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    assert metrics["cosine_to_anchor"] == pytest.approx(np.mean(cosines), rel=1e-4)


def test_publishing_the_same_again_is_the_same_version_and_another_result_a_revision(
    spark, published, tmp_path
):
    settings = copied(published, tmp_path, *STEPS[:-1])
    publish.run(spark, settings, DAYS[0])
    registry = settings.open_registry()
    run_all(spark, settings, DAYS[:1])
    assert [v.id for v in registry.versions("author")] == ["author/2024-01-01.r1"]
    commit_day(settings, DAYS[0], random_day(77))
    run_all(spark, settings, DAYS[:1])
    assert sorted(v.id for v in registry.versions("author")) == [
        "author/2024-01-01.r1",
        "author/2024-01-01.r2",
    ]


def test_kill_9_then_retry_gives_the_bytes_of_an_undisturbed_run(spark, published, tmp_path):
    """A real process is killed in `publish` before it commits; the next one starts from scratch."""
    settings = copied(published, tmp_path, *STEPS[:-1])
    killed = run_and_kill(settings, "publish", "jobs.lake.store", "write_file")
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert settings.lake.find("publish", DAYS[0]) is None
    publish.run(spark, settings, DAYS[0])
    retried, undisturbed = (
        Path(each.open_registry().version("author", DAYS[0]).path) for each in (settings, published)
    )
    assert arrays(retried) == arrays(undisturbed)
