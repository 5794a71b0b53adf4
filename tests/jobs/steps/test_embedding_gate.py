"""Which versions the alias `champion` of an embedding moves to, beside EASE."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date, timedelta

import httpx
import numpy as np
import pytest
import scipy.sparse as sp
from ranker_lake import DAYS, copied, ranker_settings

from embeddings.benchmarks.judging import measure
from embeddings.benchmarks.results import Result
from embeddings.benchmarks.tasks.base import Case, benchmark
from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry.client import Vectors, Version
from embeddings.registry.service import create_app
from jobs.pipeline import running
from jobs.pipeline.embedding_gate import CHAMPION, held_back, promote_version
from jobs.pipeline.rulings import rule
from jobs.pipeline.status import held_back as held_back_now
from jobs.settings import Settings

DAY, NEXT = DAYS[0], DAYS[1]
GROUPS, CONSUMERS, PRODUCERS = 6, 300, 60
BASELINES = {"ease_of_2000": 0.05, "popularity": 0.03, "random": 0.001}


def result(low: float, high: float, **changes) -> Result:
    made = Result("retrieval", "ndcg20", NEXT, (low + high) / 2, low, high, 500, BASELINES)
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("results", "gate", "held"),
    [
        ([result(0.044, 0.048)], 0.8, False),  # the bar is at 0.046
        ([result(0.040, 0.0459)], 0.8, True),
        ([result(0.040, 0.0459)], 0.5, False),
        ([result(0.001, 0.002)], 0.0, False),  # switched off
        ([], 0.8, False),
        ([result(0.001, 0.002, on=DAYS[2])], 0.8, False),  # another day's, of what is older by then
        ([result(0.001, 0.002, dim=16)], 0.8, False),
        ([result(0.001, 0.002, metric="recall100")], 0.8, False),
        ([result(0.001, 0.002, baselines={"popularity": 0.03})], 0.8, False),
        # EASE is worse than popularity, and then the bar itself.
        ([result(0.021, 0.023, baselines={**BASELINES, "ease_of_2000": 0.02})], 0.8, False),
        ([result(0.010, 0.019, baselines={**BASELINES, "ease_of_2000": 0.02})], 0.8, True),
    ],
)
def test_only_what_is_significantly_below_the_bar_is_held_back(results, gate, held):
    assert bool(held_back(results, DAY, gate)) == held


@pytest.fixture
def settings(tmp_path) -> Settings:
    return ranker_settings(tmp_path / "home")


def judged(settings: Settings, day: date, shuffled: bool) -> Version:
    """A published version with what the next day says of its vectors, good or shuffled ones.

    Consumers of a group engage with its producers, on every day.
    """
    rng = np.random.default_rng(0)
    likes = np.arange(CONSUMERS)[:, None] % GROUPS == np.arange(PRODUCERS) % GROUPS
    window, later = [
        sp.csr_matrix((rng.random(likes.shape) < np.where(likes, 0.3, 0.01)) * 1.0)
        for _ in range(2)
    ]
    u, s, vt = np.linalg.svd(window.toarray(), full_matrices=False)
    producers = (vt[:GROUPS].T * s[:GROUPS]).astype(np.float32)
    case = Case(
        consumer_ids=np.char.add("c", np.arange(CONSUMERS).astype(str)).astype(bytes),
        consumers=u[:, :GROUPS].astype(np.float32),
        consumer_counts=np.diff(window.indptr),
        producer_ids=np.char.add("p", np.arange(PRODUCERS).astype(str)).astype(bytes),
        producers=rng.permutation(producers) if shuffled else producers,
        producer_counts=np.bincount(window.indices, minlength=PRODUCERS),
        window=window,
        engaged=later,
        elsewhere=np.zeros(CONSUMERS, np.int64),
    )
    results = measure("retrieval", benchmark("retrieval"), case, day + timedelta(days=1))
    entities = {
        "consumer": as_published(case.consumer_ids, case.consumers),
        "producer": as_published(case.producer_ids, case.producers),
    }
    fold_in = SVDFoldIn(entities["producer"].vectors, np.ones(PRODUCERS))
    version = settings.open_registry().publish("author", day, "author-s", entities, fold_in, {})
    settings.open_registry().add_results(version, results)
    return version


def as_published(ids: np.ndarray, vectors: np.ndarray) -> Vectors:
    order = np.argsort(ids)
    ones = np.ones(len(ids), np.int32)
    return Vectors(ids[order], vectors[order], ones, ones == 0)


def shown(settings: Settings, path: str) -> str:
    """A page of the registry."""
    app = create_app(settings.registry_root, settings.registry_url, "a token")

    async def get() -> str:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return (await client.get(path)).text

    return asyncio.run(get())


def test_shuffled_vectors_are_held_back_and_good_ones_pass(settings):
    """The alias stays; history, status and the page say why; a retry adds nothing."""
    good = judged(settings, DAYS[0], shuffled=False)
    bad = judged(settings, DAYS[1], shuffled=True)
    assert promote_version(settings, good, "it is new", "promote") == ""
    for _ in range(2):
        assert "NDCG@20" in promote_version(settings, bad, "it is newer", "promote")
    registry = settings.open_registry()
    assert registry.alias("author", CHAMPION).id == good.id
    stays, moved = registry.history("author", CHAMPION)
    assert (stays.from_version, stays.to_version) == (good.id, good.id)
    assert stays.reason.startswith(f"{bad.id} is held back: its NDCG@20 on {DAYS[2]} is ")
    assert moved.to_version == good.id
    assert held_back_now(settings) == [stays.reason]
    page = shown(settings, "/embeddings/author")
    assert "stays" in page
    assert "is held back: its NDCG@20" in page
    better = judged(settings, DAYS[2], shuffled=False)
    assert promote_version(settings, better, "it is good", "promote") == ""
    assert registry.alias("author", CHAMPION).id == better.id
    assert held_back_now(settings) == []


def test_the_first_version_can_be_held_back_too(settings):
    """There is no alias then, and rolling back finds nothing to go back to."""
    bad = judged(settings, DAY, shuffled=True)
    assert promote_version(settings, bad, "", "promote")
    registry = settings.open_registry()
    assert registry.aliases("author").keys() == {"latest"}
    assert len(held_back_now(settings)) == 1


def test_an_older_bad_version_says_nothing(settings):
    """A backfill would not have moved the alias to it."""
    bad = judged(settings, DAYS[0], shuffled=True)
    promote_version(settings, judged(settings, DAYS[1], shuffled=False), "", "promote")
    promote_version(settings, bad, "", "promote")
    assert held_back_now(settings) == []


def no_spark():
    raise AssertionError("a session was requested")


def test_the_loop_holds_back_until_a_person_decides(decided, tmp_path):
    """The receipt of `promote` has the reason, and the ranker is promoted all the same."""
    settings = copied(decided, tmp_path / "home")
    registry = settings.open_registry()
    before = registry.alias("author", CHAMPION)
    for version in registry.versions("author"):
        on = version.day + timedelta(days=1)
        registry.add_results(version, [result(0.001, 0.002, on=on)])
    receipt = running.request(settings, "promote", DAYS[3], no_spark).partition
    assert registry.alias("author", CHAMPION).id == before.id
    assert "is 0.0015 [0.0010, 0.0020], below 0.0460" in receipt.facts["held_back"]
    rule(settings, date.fromisoformat(receipt.facts["champion"]), "we know why", by="ada")
    receipt = running.request(settings, "promote", DAYS[3], no_spark).partition
    assert receipt.facts["held_back"] == ""
    moved = registry.history("author", CHAMPION)[0]
    assert (moved.moved_by, moved.to_version) == ("ada", registry.alias("author", CHAMPION).id)
