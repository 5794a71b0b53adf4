"""Two towers: the loss and the network pair by pair, against torch, and what they learn."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from embeddings.features import NOTHING, Vocabulary
from embeddings.fold_in.towers import TowersFoldIn
from embeddings.towers import hard_negatives
from embeddings.towers.batches import Draw, Pairs, masked
from embeddings.towers.hard_negatives import HardNegatives
from embeddings.towers.tower import Tower
from embeddings.towers.training import Config, Learner, Table, Weights, train

RNG = np.random.default_rng(0)
CFG = Config(
    dim=6,
    seed=1,
    epochs=8,
    batch=64,
    negatives=10,
    hard_negatives=0,
    hidden=8,
    learning_rate=0.02,
    dropout=0.2,
    newcomers=0.2,
    ids=True,
)


def random_tower(m: int, n_features: int, d: int = 4, units: int = 5, k: int = 4) -> Tower:
    shapes = [(m, d), (n_features, d), (2, d), (d, units), (1, units), (d + units, k)]
    return Tower(*(RNG.normal(size=shape).astype(np.float32) for shape in shapes))


def random_rows(n: int, m: int, density: float = 0.4) -> sp.csr_matrix:
    return sp.random(n, m, density, "csr", dtype=np.float32, rng=RNG)


def slow_vector(tower: Tower, bag: np.ndarray, features: np.ndarray) -> list[float]:
    """The formula of the file, number by number. bag: (m,), features: (F,)."""
    d, units = tower.hidden.shape
    total = sum(float(weight) for weight in bag)
    z = []
    for f in range(d):
        number = float(tower.bias[0 if total > 0 else 1, f])
        for j, weight in enumerate(bag):
            if weight > 0:
                number += weight / total * float(tower.inputs[j, f])
        for column, value in enumerate(features):
            number += float(value) * float(tower.features[column, f])
        z.append(number)
    layer = list(z)
    for h in range(units):
        unit = float(tower.hidden_bias[0, h])
        unit += sum(z[f] * float(tower.hidden[f, h]) for f in range(d))
        layer.append(max(0.0, unit))
    k = tower.out.shape[1]
    return [sum(layer[r] * float(tower.out[r, g]) for r in range(len(layer))) for g in range(k)]


def test_a_tower_is_its_formula():
    tower, features = random_tower(7, 3), random_rows(9, 3)
    bags = sp.vstack([random_rows(8, 7), sp.csr_matrix((1, 7), dtype=np.float32)], format="csr")
    expected = []
    for bag, row in zip(bags.toarray(), features.toarray(), strict=True):
        expected.append(slow_vector(tower, bag, row))
    np.testing.assert_allclose(tower.vectors(bags, features), expected, rtol=1e-4, atol=1e-5)


def test_the_published_tower_is_the_trained_one():
    """torch computes the same, for histories, features, both; not for nothing at all."""
    tower, bags, features = random_tower(7, 3), random_rows(30, 7), random_rows(30, 3)
    known = (bags.getnnz(axis=1) + features.getnnz(axis=1)) > 0
    trained = Weights(tower).vectors(bags, features).detach().numpy()
    np.testing.assert_allclose(tower.vectors(bags, features)[known], trained[known], atol=1e-5)


def test_of_whom_nothing_is_known_has_zeros():
    tower = random_tower(7, 3)
    assert not tower.vectors(sp.csr_matrix((2, 7)), sp.csr_matrix((2, 3))).any()


def test_a_tower_refuses_rows_of_another_version():
    with pytest.raises(ValueError, match="must come from one version"):
        random_tower(7, 3).vectors(random_rows(2, 7), random_rows(2, 4))


# Batches


X = random_rows(40, 30, 0.2)


def slow_loss(products: np.ndarray, batch, pairs: Pairs, hard: int = 0) -> float:
    """−log softmax, pair by pair. products: (n, m), of all consumers and producers."""
    x = pairs.x.toarray()
    total = 0.0
    for consumer, target in zip(batch.rows, batch.producers[batch.targets], strict=True):
        scores = {}
        for producer in batch.producers:
            if producer == target or x[consumer, producer] == 0:
                scores[producer] = products[consumer, producer] - pairs.log_q[producer]
        others = np.flatnonzero(x[consumer] == 0)
        for producer in sorted(others, key=lambda j: -products[consumer, j])[:hard]:
            scores[producer] = products[consumer, producer]
        norm = np.log(sum(np.exp(score) for score in scores.values()))
        total += norm - scores[target]
    return total / len(batch.rows)


@pytest.mark.parametrize("hard", [0, 3, 100])
def test_the_loss_is_that_of_each_pair(hard):
    """With nothing hidden but the pair's own producer, whose vector the slow loss leaves out.

    100 hard negatives are all producers that the consumer has not engaged with.
    """
    draw = Draw(batch=12, negatives=9, dropout=0.0, newcomers=0.0)
    pairs = Pairs(X, draw)
    batch = pairs.batch(np.arange(0, X.nnz, 20), np.random.default_rng(0))
    profiles, traits = random_rows(40, 3), random_rows(30, 2)
    consumer, producer = random_tower(30, 3, 6), random_tower(30, 2, 6)
    learner = Learner(consumer, producer, profiles, traits, replace(CFG, hard_negatives=hard))
    own = producer.vectors(sp.identity(30, np.float32, "csr"), traits)
    products = np.empty((40, 30))
    losses = []
    for at, (row, target) in enumerate(zip(batch.rows, batch.targets, strict=True)):
        history = X[row].toarray()
        history[0, batch.producers[target]] = 0.0
        bag = sp.csr_matrix(history)
        products[row] = consumer.vectors(bag, profiles[row]) @ own.T
        losses.append(slow_loss(products, pair_of(batch, at), pairs, hard))
    assert float(learner.loss(batch).detach()) == pytest.approx(np.mean(losses), rel=1e-4)


def pair_of(batch, at: int):
    return replace(batch, rows=batch.rows[[at]], targets=batch.targets[[at]])


def test_of_many_producers_some_are_searched_for_hard_negatives(monkeypatch):
    """10 of 30: the logarithm of their share is subtracted from the products of the 2 hardest."""
    import torch

    monkeypatch.setattr(hard_negatives, "MOST_SEARCHED", 10)
    draw = Draw(batch=12, negatives=9, dropout=0.0, newcomers=0.0)
    batch = Pairs(X, draw).batch(np.arange(0, X.nnz, 20), np.random.default_rng(0))
    producers, consumers = RNG.normal(size=(30, 4)), RNG.normal(size=(len(batch.rows), 4))
    hard = HardNegatives(2, 30, lambda ids: torch.from_numpy(producers[ids]), seed=0)
    found = hard.added_to(batch, torch.from_numpy(consumers))
    assert len(hard.searched) == 10
    for row, consumer in enumerate(batch.rows):
        free = [j for j in hard.searched if X[consumer, j] == 0]
        hardest = sorted(free, key=lambda j: consumers[row] @ producers[j])[-2:]
        for j, shift in zip(found.producers, found.shifts[row], strict=True):
            if j in hardest:
                assert shift == pytest.approx(np.log(3))
            elif j in batch.producers:
                assert shift == batch.shifts[row, np.flatnonzero(batch.producers == j)[0]]
            else:  # the hard negative of another consumer
                assert shift == -np.inf
    targets = found.producers[found.targets]
    np.testing.assert_array_equal(targets, batch.producers[batch.targets])


def test_log_q_is_how_often_a_producer_is_in_a_batch():
    pairs = Pairs(X, Draw(batch=16, negatives=3, dropout=0.0, newcomers=0.0))
    rng = np.random.default_rng(5)
    seen = np.zeros(30)
    n = 0
    while n < 3000:
        for batch in pairs.epoch(rng):
            seen[batch.producers] += 1
            n += 1
    np.testing.assert_allclose(seen / n, np.exp(pairs.log_q), atol=0.04)


def test_a_bag_never_has_the_producer_of_its_pair():
    draw = Draw(batch=50, negatives=0, dropout=0.0, newcomers=0.0)
    for batch in Pairs(X, draw).epoch(np.random.default_rng(0)):
        own = batch.producers[batch.targets]
        rest = X[batch.rows].toarray()
        rest[np.arange(len(own)), own] = 0
        np.testing.assert_array_equal(batch.bags.toarray(), rest)


def test_other_producers_of_a_consumer_are_no_negatives():
    histories = sp.csr_matrix([[1, 1, 0, 2, 0], [0, 0, 3, 0, 0]], dtype=np.float32)
    found = masked(histories, np.array([0, 2, 3]), np.array([0, 1]))
    np.testing.assert_array_equal(found, [[False, False, True], [False, False, False]])


def test_a_table_that_is_read_whole_learns_as_by_adam():
    """Against torch, for a few steps."""
    import torch

    table = Table(RNG.normal(size=(5, 3)).astype(np.float32))
    weights = torch.tensor(table.rows, requires_grad=True)
    adam = torch.optim.Adam([weights], lr=0.1)
    for _ in range(4):
        weights.grad = torch.tensor(RNG.normal(size=(5, 3)).astype(np.float32))
        adam.step()
        table.update(np.arange(5), weights.grad.numpy(), 0.1)
    np.testing.assert_allclose(table.rows, weights.detach().numpy(), atol=1e-5)


def test_the_distinct_ids_of_a_batch_are_those_that_sorting_finds():
    """Of several batches, one after another."""
    table = Table(np.zeros((30, 2), np.float32))
    for size in (50, 3, 0, 50):
        ids = RNG.integers(0, 30, size)
        for found, expected in zip(
            table.distinct(ids), np.unique(ids, return_inverse=True), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_rows_that_a_batch_has_not_read_stay():
    table = Table(np.ones((4, 2), np.float32))
    table.update(np.array([1, 3]), np.full((2, 2), 0.5, np.float32), 0.1)
    np.testing.assert_allclose(table.rows, [[1, 1], [0.9, 0.9], [1, 1], [0.9, 0.9]], atol=1e-6)


# What is learned


def planted(n: int = 240, m: int = 40) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """Two tastes: strengths, the taste of each consumer, and that of each producer."""
    rng = np.random.default_rng(3)
    taste, of_producer = np.arange(n) % 2, np.arange(m) % 2
    likely = np.where(taste[:, None] == of_producer, 0.25, 0.02)
    return sp.csr_matrix((rng.random((n, m)) < likely).astype(np.float32)), taste, of_producer


@pytest.fixture(scope="module")
def newcomers() -> TowersFoldIn:
    """Towers that know a consumer's city and a producer's genre, which have its taste."""
    x, taste, of_producer = planted()
    profile = Vocabulary({"city": ("bergen", "oslo")}, {})
    traits = Vocabulary({"genre": ("folk", "jazz")}, {})
    cities = np.array(["bergen", "oslo"])[taste]
    genres = np.array(["folk", "jazz"])[of_producer]
    rows = profile.rows({"city": cities}, len(taste)), traits.rows({"genre": genres}, 40)
    trained = train(x, *rows, np.arange(40).astype(np.bytes_), CFG)
    return TowersFoldIn.of(trained.consumer, trained.producer, profile, traits)


def test_newcomers_are_near_to_what_their_profile_likes(newcomers):
    """Consumers and producers that were never engaged, by their features alone."""
    none = sp.csr_matrix((1, 40))
    producers = newcomers.producer_vectors([{"genre": "folk"}, {"genre": "jazz"}])
    for city, genre in (("bergen", 0), ("oslo", 1)):
        vector = newcomers.fold(none, newcomers.vocabulary.row({"city": city}))[0]
        assert (producers @ vector)[genre] > (producers @ vector)[1 - genre] + 0.5


def test_a_history_counts_beside_a_profile(newcomers):
    history = sp.csr_matrix((np.ones(3), (np.zeros(3, int), [1, 3, 5])), shape=(1, 40))
    alone = newcomers.fold(history)[0]
    both = newcomers.fold(history, newcomers.vocabulary.row({"city": "bergen"}))[0]
    jazz = newcomers.producer_vectors([{"genre": "jazz"}])[0]
    assert jazz @ alone > jazz @ both


def test_without_ids_producers_of_one_genre_have_one_vector():
    x, _, of_producer = planted()
    traits = Vocabulary({"genre": ("folk", "jazz")}, {})
    rows = traits.rows({"genre": np.array(["folk", "jazz"])[of_producer]}, 40)
    cfg = replace(CFG, ids=False, epochs=2)
    trained = train(x, NOTHING.rows({}, 240), rows, np.arange(40).astype(np.bytes_), cfg)
    found = trained.producer.vectors(sp.csr_matrix((40, 0)), rows)
    assert len(np.unique(found, axis=0)) == 2


def test_a_history_takes_less_than_two_milliseconds():
    """p99 of one history of 200 producers among 20,000, with a profile; half of the limit."""
    tower = random_tower(20_000, 50, d=64, units=128, k=64)
    history, profile = random_rows(1, 20_000, 0.01), random_rows(1, 50)
    tower.vectors(history, profile)  # compiles
    times = []
    for _ in range(300):
        start = time.thread_time()
        tower.vectors(history, profile)
        times.append(time.thread_time() - start)
    assert np.quantile(times, 0.99) < 0.002
