"""Approximate indexes: what is published of them, what they find, and when they are not used."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from registry_parts import DAY, SPACE, parts, vectors

from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry import indexing
from embeddings.registry.approximate import CANDIDATES
from embeddings.registry.client import IndexRule, Recall, Registry, Vectors, Version
from embeddings.registry.errors import DamagedVersion, LowRecall
from embeddings.registry.shards import write_shard

N = 400  # consumers; all of them are queries of the measurement
DIM = 8
RULE = IndexRule(above=100, min_recall=0.5)
CLUSTERS = 20
FILE = "consumer/neighbours.faiss"


def spread(n: int = N, seed: int = 0) -> Vectors:
    """Consumers in all directions, for whom an index misses some neighbours."""
    return vectors([f"c{i:04}" for i in range(n)], DIM, seed)


def clustered() -> Vectors:
    """Consumers in separate clusters: consumer i is in cluster i mod CLUSTERS."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLUSTERS, DIM))
    near = centres[np.arange(N) % CLUSTERS] + 0.02 * rng.normal(size=(N, DIM))
    return with_vectors(near)


def with_vectors(values: np.ndarray) -> Vectors:
    one = spread(len(values))
    return Vectors(one.ids, values.astype(np.float32), one.counts, one.folded)


def publish(
    registry: Registry, consumers: Vectors | Path, rule: IndexRule = RULE, name: str = "author"
) -> Version:
    """A version of these consumers and of ten producers, who are too few for an index."""
    producers = vectors([f"p{i}" for i in range(10)], DIM, seed=1)
    entities = {"consumer": consumers, "producer": producers}
    fold_in = SVDFoldIn(producers.vectors, np.ones(10))
    return registry.publish(name, DAY, SPACE, entities, fold_in, {}, index=rule)


def test_an_index_finds_the_cluster_of_a_consumer(plain):
    publish(plain, clustered())
    found = plain.neighbours("author", "consumer:c0007", 10)
    assert not found.exact
    assert {int(one.id[1:]) % CLUSTERS for one in found} == {7}
    assert found == plain.neighbours("author", "consumer:c0007", 10, exact=True)
    assert "c0007" not in {one.id for one in found}


def test_the_published_recall_is_that_of_a_slow_loop(plain):
    version = publish(plain, spread())
    facts = version.entities["consumer"]["index"]
    assert 1 < facts["probes"] < 16, "neither the first nor the last choice"
    for asking, others in (("consumer", range(1, N, 2)), ("producer", range(1, 10, 2))):
        keys = [f"c{i:04}" if asking == "consumer" else f"p{i}" for i in others]
        for k in (10, 100):
            shares = [share_found(plain, f"{asking}:{key}", k) for key in keys]
            assert facts["recall"][asking][f"at_{k}"] == round(np.mean(shares), 4)
    assert 0.5 < facts["recall"]["consumer"]["at_100"] < 1


def share_found(registry: Registry, key: str, k: int) -> float:
    """The share of the exact neighbours that the index finds. No two vectors are equal."""
    loaded = registry.load(registry.version("author"))
    exact = loaded.neighbours(key, k, "consumer", exact=True)
    index = loaded.files.indexes["consumer"]
    entity, _, id_ = key.partition(":")
    query = loaded.get(entity, [id_]).vectors[0]
    candidates = {f"c{row:04}" for row in index.candidates(query)}
    return sum(one.id in candidates for one in exact) / k


def test_an_answer_has_the_recall_of_the_entity_that_asks(plain):
    version = publish(plain, spread())
    recall = version.entities["consumer"]["index"]["recall"]
    for key in ("consumer:c0003", "producer:p3"):
        found = plain.neighbours("author", key, among="consumer")
        assert found.recall == Recall(**recall[key.partition(":")[0]])
    for measured in recall.values():
        assert min(measured.values()) >= RULE.min_recall


@pytest.mark.parametrize(
    "how",
    [
        {"exact": True},
        {"only": [f"c{i:04}" for i in range(50)]},
        {"dim": 3},
        {"k": 101},
        {"among": "producer"},
    ],
    ids=str,
)
def test_other_searches_are_exact(plain, how):
    publish(plain, spread())
    publish(plain, spread(), IndexRule(), name="plain")
    found = plain.neighbours("author", "consumer:c0001", **how)
    assert found == plain.neighbours("plain", "consumer:c0001", **how)
    assert (found.exact, found.recall) == (True, None)


def test_an_index_that_comes_up_short_is_not_used(plain):
    """The lists of the query hold fewer rows than it asks for: one far cluster of three."""
    far = np.zeros((3, DIM)) - [5] + [[0.1], [0], [0.2]] * np.eye(3, DIM)
    near = np.ones((N - 3, DIM)) + 0.3 * np.random.default_rng(0).normal(size=(N - 3, DIM))
    publish(plain, with_vectors(np.vstack([near, far])), IndexRule(100, 0.0))
    found = plain.neighbours("author", f"consumer:c{N - 1:04}", 100)
    assert found.exact
    assert len(found) == 100


def test_an_index_below_the_required_recall_leaves_nothing(plain, root):
    """A thousand vectors that differ by less than a code can express."""
    rng = np.random.default_rng(0)
    twins = np.ones((1000, DIM)) + 3e-3 * rng.normal(size=(1000, DIM))
    confusing = with_vectors(np.vstack([rng.normal(size=(1000, DIM)), twins]))
    version = publish(plain, clustered())
    message = (
        r"^The approximate index of consumer has a recall of 0\.\d+ among the 10 and 0\.\d+ among "
        r"the 100 nearest to a consumer; 0\.99 is required\. Nothing is published\. Lower .*"
        r"registry\.min_recall.*raise registry\.index_above from 100 to 2000 or more\.$"
    )
    with pytest.raises(LowRecall, match=message):
        publish(plain, confusing, IndexRule(100, 0.99))
    assert plain.versions("author") == [version]
    assert list((root / "versions").glob("*/day=*/*")) == [version.path]
    assert list((root / "versions" / "_staging").iterdir()) == []
    assert publish(plain, confusing, IndexRule(2000, 0.99)).revision == 2


def test_more_rows_are_compared_where_codes_cannot_tell_them_apart(plain):
    """600 of 10,000 vectors differ by less than a code can express: any of them may be nearest."""
    rng = np.random.default_rng(0)
    twins = np.ones((600, DIM)) + 3e-3 * rng.normal(size=(600, DIM))
    vectors = np.vstack([rng.normal(size=(9400, DIM)), twins])
    version = publish(plain, with_vectors(vectors), IndexRule(100, 0.99))
    facts = version.entities["consumer"]["index"]
    assert facts["candidates"] == 4 * CANDIDATES
    found = plain.neighbours("author", "consumer:c9999", 100)
    exact = plain.neighbours("author", "consumer:c9999", 100, exact=True)
    assert not found.exact
    assert {one.id for one in found} == {one.id for one in exact}


def test_equal_vectors_are_found_by_any_of_them(plain):
    """Every consumer has hundreds of twins: an index that returns any of them misses nothing."""
    values = np.repeat(np.eye(2, DIM), 1000, axis=0)
    version = publish(plain, with_vectors(values), IndexRule(100, 1.0))
    assert version.entities["consumer"]["index"]["recall"]["consumer"] == {
        "at_10": 1.0,
        "at_100": 1.0,
    }


def test_the_same_vectors_give_the_same_bytes_with_any_number_of_threads(plain, monkeypatch):
    monkeypatch.setattr(indexing, "THREADED", 0)
    threads = faiss.omp_get_max_threads()
    digests = set()
    try:
        for number in (1, 2, 3):
            faiss.omp_set_num_threads(number)
            digests.add(publish(plain, spread(3000)).digest)
    finally:
        faiss.omp_set_num_threads(threads)
    assert len(digests) == 1


def test_shards_and_a_single_array_have_the_same_neighbours(plain, tmp_path):
    whole = spread()
    for number, chosen in enumerate((slice(0, None, 2), slice(1, None, 2))):
        arrays = (whole.ids, whole.vectors, whole.counts, whole.folded)
        write_shard(tmp_path / "shards", number, Vectors(*(array[chosen] for array in arrays)))
    publish(plain, tmp_path / "shards", IndexRule(100, 1.0))
    publish(plain, whole, IndexRule(100, 1.0), name="whole")
    found = plain.neighbours("author", "consumer:c0011", 100)
    assert not found.exact
    assert found == plain.neighbours("whole", "consumer:c0011", 100)
    assert found == plain.neighbours("author", "consumer:c0011", 100, exact=True)


def test_zero_vectors_are_never_neighbours(plain):
    values = spread().vectors.copy()
    values[::4] = 0
    publish(plain, with_vectors(values))
    publish(plain, with_vectors(np.zeros((N, DIM))), name="zero")
    found = plain.neighbours("author", "consumer:c0001", 100)
    assert not found.exact
    assert all(int(one.id[1:]) % 4 for one in found)
    assert plain.neighbours("zero", "producer:p1", among="consumer") == []


def test_an_entity_that_is_not_above_the_limit_has_no_index(plain):
    """And the version is the same as without any rule, so that earlier digests stay."""
    entities, fold_in = parts()
    digests = set()
    for rule in (IndexRule(), IndexRule(above=9), IndexRule(above=100)):
        version = plain.publish("author", DAY, SPACE, entities, fold_in, {}, index=rule)
        digests.add(version.digest)
    assert len(digests) == 1
    assert plain.load(version).files.indexes == {}


def test_a_damaged_index_is_named_and_never_read(plain):
    version = publish(plain, clustered())
    path = version.path / FILE
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DamagedVersion, match=r"consumer/neighbours\.faiss \(changed\)"):
        plain.verify(version)
    with pytest.raises(DamagedVersion, match=r"neighbours\.faiss does not have the digest.*exact"):
        plain.neighbours("author", "consumer:c0001")
    assert len(plain.neighbours("author", "consumer:c0001", exact=True)) == 10
    assert publish(plain, clustered()) == version  # which repairs it
    assert not plain.neighbours("author", "consumer:c0001").exact


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_version_without_its_index_cannot_be_opened(plain, damage):
    version = publish(plain, clustered())
    damage(version.path / FILE)
    with pytest.raises(DamagedVersion, match=r"neighbours\.faiss cannot be read"):
        plain.load(version)


def test_an_open_version_keeps_its_index_when_it_is_removed(plain):
    old = publish(plain, clustered())
    publish(plain, spread())
    loaded = plain.load(old)
    plain.remove(old)
    found = loaded.neighbours("consumer:c0007")
    assert not found.exact
    assert {int(one.id[1:]) % CLUSTERS for one in found} == {7}


def test_show_prints_the_recall(run, plain):
    version = publish(plain, clustered())
    recall = version.entities["consumer"]["index"]["recall"]["consumer"]["at_10"]
    shown = run("show", "author").stdout.splitlines()
    (line,) = [line for line in shown if "index.recall.consumer.at_10 " in line]
    assert str(recall) in line
