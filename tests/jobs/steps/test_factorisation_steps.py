"""embed, align, fold_in and publish on a small log, by each method, against sums by hand."""

from __future__ import annotations

import logging
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from engagement_lake import DAYS, arrays, commit_day, engagement_settings, random_day, run_and_kill

from embeddings.blocks import load_blocks
from embeddings.fold_in.base import load_fold_in
from embeddings.registry.errors import LowRecall
from embeddings.registry.service import create_app
from embeddings.registry.shards import open_shards
from embeddings.spaces.similarity import neighbour_overlap
from jobs.errors import EvergreenError, Inconsistent
from jobs.pipeline.needs import available, is_computed
from jobs.pipeline.running import ensure
from jobs.settings import RegistrySettings, ServiceSettings, Settings
from jobs.steps import (
    align,
    benchmark,
    consistency,
    embed,
    fold_in,
    lookalike,
    matrix,
    publish,
)
from tests.http_server import serving
from tests.ports import reserve_port

EMBEDDING_STEPS = (matrix, embed, align, fold_in, lookalike, benchmark, publish, consistency)
STEPS = ("matrix", "embed", "align", "fold_in", "lookalike", "benchmark", "publish")


@pytest.fixture(scope="module", params=["svd", pytest.param("als", marks=pytest.mark.slow)])
def published(request, tmp_path_factory, spark):
    """Settings of three days that went through all steps; read-only."""
    settings = engagement_settings(tmp_path_factory.mktemp(request.param))
    settings = changed(settings, embedding={"method": request.param})
    commit_days(settings)
    run_all(spark, settings)
    return settings


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


def commit_days(settings: Settings, tastes: tuple[int, ...] = (0, 0, 0)) -> list:
    days = [random_day(seed, tastes=each) for seed, each in enumerate(tastes)]
    for day, rows in zip(DAYS, days, strict=False):
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


@pytest.mark.parametrize("published", ["svd"], indirect=True)
def test_the_settings_decide_which_entities_get_an_index(published, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(published.home, home)
    untracked = published.mlflow.model_copy(update={"uri": "off"})
    registry = RegistrySettings(index_above=20, min_recall=0.1)
    settings = published.model_copy(
        update={"home": home, "mlflow": untracked, "registry": registry}
    )
    publish.run(None, settings, DAYS[2])
    version = settings.open_registry().version("author", DAYS[2])
    assert {entity for entity, facts in version.entities.items() if "index" in facts} == {
        entity for entity, facts in version.entities.items() if facts["rows"] > 20
    }
    assert "index" in version.entities["consumer"]
    refusing = settings.model_copy(
        update={"registry": registry.model_copy(update={"min_recall": 1.01})}
    )
    with pytest.raises(LowRecall, match=r"1\.01 is required"):
        publish.run(None, refusing, DAYS[2])


def test_online_fold_in_equals_the_batch(published):
    """A request for a left-out consumer gives the vector that the nightly job published.

    To the last bit, because it adds the same numbers in the same order.
    """
    registry = published.open_registry()
    version = registry.load(registry.version("author", DAYS[2]))
    partition = published.lake.get("matrix", DAYS[2])
    producers = np.load(partition.path / "producers.npy")
    consumers = version.entities["consumer"]
    for block in load_blocks(partition.path / "rest"):
        for i, consumer in enumerate(block.ids):
            row = slice(block.indptr[i], block.indptr[i + 1])
            names = [producers[j].decode() for j in block.indices[row]]
            history = dict(zip(names, block.strengths[row], strict=True))
            online = registry.fold_in("author", history, day=DAYS[2])
            batch = consumers.vectors[consumers.rows([consumer.decode()])][0]
            assert np.abs(batch).max() > 0
            assert online.vector.tobytes() == batch.tobytes()
            assert (online.known, online.version.space) == (len(history), version.version.space)


def test_every_way_to_a_vector_gives_the_same_bytes(published):
    entities = published.open_registry().version("author", DAYS[1]).entities
    left_out = 0
    for block in load_blocks(published.lake.get("matrix", DAYS[1]).path / "rest"):
        left_out += len(block.ids)
    facts = published.lake.get("consistency", DAYS[1]).facts
    assert facts["ids_compared"] == sum(counts["rows"] for counts in entities.values())
    assert facts["histories_compared"] == left_out > 0
    assert facts["fold_in_difference"] == 0.0


def other_rows(version: Path) -> str:
    """Another order in the index: an id finds the vector of its neighbour."""
    file = version / "consumer" / "rows.npy"
    rewrite(file, np.roll(np.load(file), 1))
    return r"vector of consumer '\w+' is \S+ in its shard, and \S+ in process"


def other_fold_in(version: Path) -> str:
    """The same files as of a fold-in that another fit has left."""
    for file in version.glob("fold_in.*.npy"):
        rewrite(file, np.load(file) * 1.001)
    return r"vector of consumer '\w+', folded in, is \S+ by the batch, and \S+ in process"


@pytest.mark.parametrize("published", ["svd"], indirect=True)
def test_the_service_is_compared_as_well(published, tmp_path):
    with served(published) as settings:
        own = copied_whole(settings, tmp_path)
        consistency.run(None, own, DAYS[2])
    facts = own.lake.get("consistency", DAYS[2]).facts
    assert (facts["over_http"], facts["fold_in_difference"]) == (1, 0.0)
    assert "not_over_http" not in facts


@pytest.mark.parametrize("published", ["svd"], indirect=True)
@pytest.mark.parametrize("damage", [other_rows, other_fold_in])
def test_a_service_with_another_vector_fails_the_step(published, tmp_path, damage):
    """It has the version, with files that have changed."""
    wrong = copied_whole(published, tmp_path / "wrong")
    message = damage(wrong.open_registry().version("author", DAYS[2]).path)
    with served(wrong) as settings:
        own = copied_whole(published, tmp_path).model_copy(update={"services": settings.services})
        with pytest.raises(Inconsistent, match=message.replace("in process", "over HTTP")):
            consistency.run(None, own, DAYS[2])


@pytest.mark.parametrize("published", ["svd"], indirect=True)
def test_without_the_service_of_this_home_the_facts_say_why_http_was_left_out(published, tmp_path):
    own = copied_whole(published, tmp_path)
    reasons = []
    nobody = own.model_copy(update={"services": ServiceSettings(registry_port=reserve_port())})
    other = own.model_copy(update={"home": tmp_path / "other"})
    with served(other) as answering:
        for services in (nobody.services, answering.services):
            consistency.run(None, own.model_copy(update={"services": services}), DAYS[2])
            facts = own.lake.get("consistency", DAYS[2]).facts
            assert facts["over_http"] == 0
            reasons.append(facts["not_over_http"])
    assert reasons[0] == f"no registry answers at http://127.0.0.1:{nobody.services.registry_port}"
    assert reasons[1].endswith(f"has no author/{DAYS[2]}.r1")


@contextmanager
def served(settings: Settings) -> Iterator[Settings]:
    """The settings with the port at which the registry's service runs on this home."""
    app = create_app(settings.registry_root, settings.registry_url, token="")
    with serving(app) as address:
        services = ServiceSettings(registry_port=int(address.rpartition(":")[2]))
        yield settings.model_copy(update={"services": services})


def copied_whole(settings: Settings, folder: Path) -> Settings:
    """The settings of a copy of their home."""
    shutil.copytree(settings.home, folder / "home")
    return settings.model_copy(update={"home": folder / "home"})


def rewrite(file: Path, array: np.ndarray) -> None:
    """Replace the file: others are linked to what it was."""
    file.unlink()
    np.save(file, array)


@pytest.mark.parametrize("damage", [other_rows, other_fold_in])
def test_a_way_to_another_vector_fails_the_step_and_names_both(published, tmp_path, damage):
    settings = copied_whole(published, tmp_path)
    message = damage(settings.open_registry().version("author", DAYS[2]).path)
    before = settings.lake.get("consistency", DAYS[2]).digest
    with pytest.raises(Inconsistent, match=message):
        consistency.run(None, settings, DAYS[2])
    assert settings.lake.get("consistency", DAYS[2]).digest == before


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


@pytest.fixture(scope="module")
def odd_day(spark, tmp_path_factory) -> Settings:
    """Settings of two days, on the second of which everybody likes something else; read-only."""
    settings = engagement_settings(tmp_path_factory.mktemp("odd"))
    settings = changed(settings, matrix={"window_days": 1, "producers": 40})
    commit_days(settings, (0, 1))
    run_all(spark, settings, DAYS[:2])
    return settings


def third_day(spark, odd_day: Settings, folder: Path, tastes: int) -> Settings:
    """A copy of the two days, with the third one after them."""
    settings = copied_whole(odd_day, folder)
    commit_day(settings, DAYS[2], random_day(2, tastes=tastes))
    run_all(spark, settings, DAYS[2:])
    return settings


def test_a_day_unlike_those_before_opens_a_space_and_the_next_days_follow(
    spark, odd_day, tmp_path, caplog
):
    """From the second day on, everybody likes something else."""
    with caplog.at_level(logging.WARNING):
        alone = third_day(spark, odd_day, tmp_path, tastes=1)
        assert "OPENS" not in caplog.text
        align.run(spark, alone, DAYS[1])  # as it was aligned before
    facts = [alone.lake.get("align", day).facts for day in DAYS]
    assert [each["anchor"] for each in facts] == [str(DAYS[0]), str(DAYS[1]), str(DAYS[1])]
    assert [each["reference_days"] for each in facts] == [1, 1, 2]
    spaces = [version.space for version in alone.open_registry().versions("author")]
    assert spaces[0] != spaces[1] == spaces[2]
    assert f"{DAYS[1]} OPENS A NEW SPACE" in caplog.text
    # So that day three might have gone back.
    assert f"align/{DAYS[0]}" in alone.lake.get("align", DAYS[2]).inputs


def test_after_an_odd_day_the_space_before_it_goes_on(spark, odd_day, tmp_path):
    alone = third_day(spark, odd_day, tmp_path, tastes=0)
    facts = [alone.lake.get("align", day).facts for day in DAYS]
    assert facts[0]["space"] == facts[2]["space"] != facts[1]["space"]
    assert facts[2]["reference_days"] == 2
    # The day to return to decides the result, so it is computed again where it is damaged.
    needed = {need: is_computed(need) for need in available(align.needs(alone, DAYS[2]), bool)}
    assert needed["align", DAYS[0]]
    # Compared with the last day of its space, not with the odd one.
    assert facts[2]["cosine_by_chance"] < facts[2]["cosine_to_previous"]
    assert facts[2]["cosine_to_previous"] <= facts[2]["cosine_by_best_rotation"] + 0.05


def test_a_day_before_the_anchor_joins_its_space_and_leaves_it_unchanged(spark, svd_settings):
    """The anchor's reference is of one day, whatever earlier day is aligned to it."""
    later = changed(svd_settings, embedding={"anchor_day": DAYS[1]})
    commit_days(later)
    for day in DAYS[:2]:
        matrix.run(spark, later, day)
        embed.run(spark, later, day)
    align.run(spark, later, DAYS[1])
    align.run(spark, later, DAYS[0])
    earlier, anchor = (later.lake.get("align", day).facts for day in DAYS[:2])
    assert earlier["space"] == anchor["space"]
    assert (anchor["reference_days"], anchor["anchor"]) == (1, str(DAYS[1]))
    assert list(align.needs(later, DAYS[1])) == [("matrix", DAYS[1]), ("embed", DAYS[1])]


def test_a_space_is_named_by_its_reference_and_not_by_the_settings(spark, svd_settings, tmp_path):
    """The same settings on two logs open two spaces."""
    names = []
    for seed in (0, 1):
        settings = svd_settings.model_copy(update={"home": tmp_path / str(seed)})
        commit_day(settings, DAYS[0], random_day(seed))
        for step in (matrix, embed, align):
            step.run(spark, settings, DAYS[0])
        names.append(settings.lake.get("align", DAYS[0]).facts["space"])
    assert names[0] != names[1]
    assert all(name.startswith(f"author-{DAYS[0]}-") for name in names)


def test_the_figures_of_alignment_by_hand(published):
    """Against the published vectors alone; the held-out cosine is below that of all producers."""
    registry = published.open_registry()
    tables = [
        registry.load(registry.version("author", day)).entities["producer"]
        for day in (DAYS[1], DAYS[2])
    ]
    before, mine = (dict(zip(t.ids[:], t.vectors[:], strict=True)) for t in tables)
    common = sorted(before.keys() & mine.keys())
    a, b = np.array([before[i] for i in common]), np.array([mine[i] for i in common])
    metrics = registry.version("author", DAYS[2]).lineage["metrics"]
    assert metrics["shared_with_previous"] == pytest.approx(len(common) / len(mine))
    assert metrics["overlap10_with_previous"] == pytest.approx(neighbour_overlap(a, b))
    cosines = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    assert 0 < metrics["cosine_to_previous"] <= np.mean(cosines)


def test_each_day_leaves_the_mean_of_the_directions_until_then(published):
    """Of the producers that are there on all days: 0.99^2, 0.99 and 1 times √(column sum)."""
    total: dict[bytes, np.ndarray] = {}
    for age, day in zip((2, 1, 0), DAYS, strict=True):
        aligned = published.lake.get("align", day).path
        sums = np.load(published.lake.get("matrix", day).path / "column_sums.npy")
        vectors = np.load(aligned / "producers.npy")
        for name, vector, strength in zip(np.load(aligned / "ids.npy"), vectors, sums, strict=True):
            weight = 0.99**age * np.sqrt(strength)
            part = weight * np.append(vector / np.linalg.norm(vector), 1.0)
            total[name] = total.get(name, 0.0) + part
    left = published.lake.get("align", DAYS[2]).path / "reference" / "producer"
    ids, vectors, weights = (np.load(left / f"{n}.npy") for n in ("ids", "vectors", "weights"))
    assert sorted(total) == ids.tolist()
    expected = np.array([total[name] for name in ids.tolist()])
    np.testing.assert_allclose(weights, expected[:, -1], rtol=1e-5)
    np.testing.assert_allclose(vectors, expected[:, :-1] / expected[:, -1:], atol=1e-5)


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
    killed = run_and_kill(settings, "publish", "jobs.lake.store", "sealed")
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert settings.lake.find("publish", DAYS[0]) is None
    publish.run(spark, settings, DAYS[0])
    retried, undisturbed = (
        Path(each.open_registry().version("author", DAYS[0]).path) for each in (settings, published)
    )
    assert arrays(retried) == arrays(undisturbed)
