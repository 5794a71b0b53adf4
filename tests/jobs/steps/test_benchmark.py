"""benchmark and publish: a version's results, whatever order the days are asked for in."""

from __future__ import annotations

import json
import shutil
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engagement_lake import DAYS, commit_day, engagement_settings, random_day, table_of
from prepared import validated

from embeddings.blocks import Block, save_block
from embeddings.facts import declaration
from embeddings.fold_in.base import save_fold_in
from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry.client import Vectors
from embeddings.registry.shards import write_shard
from jobs.pipeline.plan import freshness, reads, writing
from jobs.settings import BenchmarkSettings, Settings
from jobs.steps import benchmark, publish

FIRST, SECOND, THIRD = DAYS
DIM = 4
ROWS = 3000


def commit_vectors(settings: Settings, day: date, seed: int) -> None:
    """Commit what `matrix` to `lookalike` leave, of the day's own engagements."""
    rng = np.random.default_rng(seed)
    consumers = np.array(sorted({row[0].encode() for row in random_day(seed, ROWS)}))
    producers = np.array(sorted({row[1].encode() for row in random_day(seed, ROWS)}))
    window = np.zeros((len(consumers), len(producers)))
    for consumer, producer, _ in random_day(seed, ROWS):
        row = np.searchsorted(consumers, consumer.encode())
        window[row, np.searchsorted(producers, producer.encode())] += 1
    u, s, vt = np.linalg.svd(window, full_matrices=False)
    v = (vt[:DIM].T * np.sqrt(s[:DIM])).astype(np.float32)
    u = (u[:, :DIM] * np.sqrt(s[:DIM])).astype(np.float32)
    with writing(settings, "matrix", day) as staging:
        rows, columns = np.nonzero(window)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(window)))])
        totals = window.sum(axis=1).astype(np.int32)
        block = Block(consumers, totals, indptr, columns.astype(np.int32), window[rows, columns])
        save_block(staging.path / "fitted" / "block-00000", block)
        np.save(staging.path / "producers.npy", producers)
    with writing(settings, "embed", day) as staging:
        staging.facts |= {"method": "svd"}
    with writing(settings, "align", day) as staging:
        staging.facts |= {"space": "space", "left": "", "anchor": str(FIRST)}
        np.save(staging.path / "ids.npy", producers)
        np.save(staging.path / "producers.npy", v)
        save_fold_in(staging.path / "fold_in", SVDFoldIn(v, rng.uniform(1, 2, len(v))))
    with writing(settings, "fold_in", day) as staging:
        folded = np.zeros(len(u), bool)
        write_shard(staging.path / "consumer", 0, Vectors(consumers, u, totals, folded))
    with writing(settings, "lookalike", day) as staging:
        staging.facts["groups"] = 0


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = engagement_settings(tmp_path)
    for seed, day in enumerate(DAYS):
        commit_day(settings, day, random_day(seed, ROWS))
    for seed, day in enumerate(DAYS):
        commit_vectors(settings, day, seed)
    return settings


def judge(settings: Settings, day: date) -> dict:
    benchmark.run(None, settings, day)
    return settings.lake.get("benchmark", day).facts


def publish_day(settings: Settings, day: date) -> None:
    if settings.lake.find("benchmark", day) is None:
        benchmark.run(None, settings, day)
    publish.run(None, settings, day)


def recorded(settings: Settings) -> dict[str, list]:
    return settings.open_registry().all_results("author")


def test_the_first_day_judges_its_own_version_alone(settings):
    facts = judge(settings, FIRST)
    assert facts["jaccard_cosine"] > facts["jaccard_cosine_by_random"]
    assert "retrieval_ndcg20" not in facts
    assert "retrieval: there is no earlier version" in facts["not_judged"]
    assert "categories: there are no producer topics" in facts["not_judged"]


def test_a_day_judges_the_version_of_the_day_before(settings):
    facts = judge(settings, SECOND)
    assert facts["retrieval_ndcg20_low"] < facts["retrieval_ndcg20"]
    assert facts["retrieval_ndcg20"] < facts["retrieval_ndcg20_high"]
    # A hundred of forty producers: everything is found.
    assert facts["retrieval_recall100"] <= 1
    found = benchmark.results_in(settings.lake.get("benchmark", SECOND), FIRST)
    assert {(result.task, result.on) for result in found} == {("retrieval", SECOND)}


def test_every_fact_is_declared(settings):
    for name in judge(settings, SECOND):
        fact = declaration(benchmark.FACTS, name)
        assert fact is not None, name
        assert ("end of its" in fact.meaning) == name.endswith(("_low", "_high")), name
        assert fact.meaning.startswith("the same by a baseline") == ("_by_" in name), name


def test_it_reads_what_it_names_and_running_again_gives_the_same_bytes(settings):
    judge(settings, SECOND)
    first = settings.lake.get("benchmark", SECOND)
    keys = [partition.key for partition in reads(settings, "benchmark", SECOND).values()]
    assert sorted(first.inputs) == sorted(keys)
    judge(settings, SECOND)
    assert settings.lake.get("benchmark", SECOND).digest == first.digest
    assert freshness(settings).current("benchmark", SECOND)


def test_a_version_comes_with_its_coverage_and_the_profiles_of_its_day(tmp_path):
    """One more consumer and one more producer than the vectors know have engaged on the day."""
    settings = engagement_settings(tmp_path)
    rows = [*random_day(0, ROWS), ("stranger", "unheard", "like")]
    consumers = sorted({row[0] for row in rows})
    days = {"consumer_id": consumers, "num_days": np.arange(len(consumers), dtype=np.float64)}
    with validated(settings, FIRST) as staging:
        staging.facts |= {"trusted": True, "reason": ""}
        for name, table in (("engagements", table_of(rows)), ("consumers", pa.table(days))):
            (staging.path / name).mkdir()
            pq.write_table(table, staging.path / name / "part-00000.parquet")
    commit_vectors(settings, FIRST, 0)
    publish_day(settings, FIRST)
    registry = settings.open_registry()
    metrics = registry.version("author", FIRST).lineage["metrics"]
    n_producers = len({row[1] for row in rows})
    assert metrics["coverage_consumer"] == pytest.approx(1 - 1 / len(consumers))
    assert metrics["coverage_producer"] == pytest.approx(1 - 1 / n_producers)
    joined = registry.features("consumer", consumers[:3], ["profile.days", "author@latest"])
    assert joined.matrix()[:, 0].tolist() == [0, 1, 2]
    assert joined.mask.all()


def test_a_version_is_published_with_its_results_and_gains_those_of_later_days(settings):
    publish_day(settings, FIRST)
    own = recorded(settings)["author/2024-01-01.r1"]
    assert {result.on for result in own} == {FIRST}
    publish_day(settings, SECOND)
    after = recorded(settings)["author/2024-01-01.r1"]
    assert [result for result in after if result.on == FIRST] == own
    assert {result.task for result in after if result.on == SECOND} == {"retrieval"}


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (2, 0, 1)])
def test_days_in_any_order_leave_the_same_record(tmp_path, settings, order):
    for day in DAYS:
        publish_day(settings, day)
    straight = recorded(settings)
    other = settings.model_copy(update={"home": tmp_path / "other"})
    for seed, day in enumerate(DAYS):
        commit_day(other, day, random_day(seed, ROWS))
    for seed, day in enumerate(DAYS):
        commit_vectors(other, day, seed)
    for number in order:
        publish_day(other, DAYS[number])
    assert recorded(other) == straight


def test_results_about_other_vectors_are_not_added(settings):
    """The second day has judged vectors of the first that were then replaced."""
    judge(settings, SECOND)
    commit_vectors(settings, FIRST, seed=7)
    publish_day(settings, FIRST)
    assert {result.on for result in recorded(settings)["author/2024-01-01.r1"]} == {FIRST}


def test_a_damaged_later_day_does_not_keep_a_version_from_being_published(settings):
    judge(settings, SECOND)
    (settings.lake.get("benchmark", SECOND).path / benchmark.RESULTS).write_text("{")
    publish_day(settings, FIRST)
    assert {result.on for result in recorded(settings)["author/2024-01-01.r1"]} == {FIRST}


def test_the_file_of_results_names_the_day_of_each_version(settings):
    judge(settings, SECOND)
    path = settings.lake.get("benchmark", SECOND).path / benchmark.RESULTS
    versions = {record["task"]: record["version"] for record in json.loads(path.read_text())}
    assert versions == {"jaccard": str(SECOND), "retrieval": str(FIRST)}


def test_only_the_newest_version_is_judged_beside_what_needs_no_vectors(settings):
    """EASE, fitted once a day: the version of a week ago has the baselines that cost little."""
    judge(settings, SECOND)
    case = benchmark.later_cases(settings, reads(settings, "benchmark", SECOND), SECOND)[FIRST]
    task = benchmark.base.benchmark("retrieval")
    week_ago = SECOND - timedelta(days=7)
    results = benchmark.judge("retrieval", task, {week_ago: case, FIRST: case}, [], SECOND)
    assert "ease_of_2000" in results[FIRST][0].baselines
    assert results[week_ago][0].baselines.keys() == {"random", "popularity"}


def test_shorter_lengths_are_judged_too(settings):
    with_lengths = settings.model_copy(update={"benchmark": BenchmarkSettings(lengths=[2])})
    whole = judge(settings, SECOND)
    facts = judge(with_lengths, SECOND)
    assert {name: facts[name] for name in whole} == whole
    assert 0 < facts["jaccard_cosine_2_dims"] != facts["jaccard_cosine"]
    publish_day(with_lengths, SECOND)
    lengths = [(one.task, one.dim) for one in recorded(with_lengths)["author/2024-01-02.r1"]]
    assert {("jaccard", 0), ("jaccard", 2)} == set(lengths)


def test_a_version_gains_results_after_the_lake_has_forgotten_its_publication(settings):
    """As after `evergreen gc`, where an alias has kept the version."""
    publish_day(settings, FIRST)
    shutil.rmtree(settings.lake.home("publish", FIRST))
    publish_day(settings, SECOND)
    assert SECOND in {result.on for result in recorded(settings)["author/2024-01-01.r1"]}
