"""LightGCN and SimpleX: their gradients against slow literal losses, and what they learn."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from embeddings.baselines import lightgcn as graph
from embeddings.baselines import simplex as cosines
from embeddings.baselines.adam import Adam

N, M, K = 9, 7, 4


def engagements(seed: int = 0) -> sp.csr_matrix:
    """Strengths of every consumer with at least one producer."""
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 4, (N, M)) * (rng.random((N, M)) < 0.4)
    x[np.arange(N), rng.integers(0, M, N)] = 2
    return sp.csr_matrix(x.astype(np.float64))


def tastes(seed: int = 0) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """Two groups of consumers, each with its own producers, and the groups of both sides."""
    rng = np.random.default_rng(seed)
    consumers, producers = np.arange(60) % 2, np.arange(30) % 2
    likely = np.where(consumers[:, None] == producers, 0.4, 0.02)
    x = rng.random((60, 30)) < likely
    x[np.arange(60), consumers + 2 * rng.integers(0, 15, 60)] = True
    return sp.csr_matrix(x.astype(np.float64)), consumers, producers


# The equations, pair by pair, in torch, which then knows their gradients


def literal_lightgcn(first, x, triples, layers, regularization):
    """L, with the layers summed neighbour by neighbour."""
    near = [[N + j for j in range(M) if x[i, j]] for i in range(N)]
    near += [[i for i in range(N) if x[i, j]] for j in range(M)]
    layer = [first[node] for node in range(N + M)]
    total = list(layer)
    for _ in range(layers):
        following = []
        for node in range(N + M):
            found = torch.zeros(K, dtype=torch.float64)
            for other in near[node]:
                found = found + layer[other] / np.sqrt(len(near[node]) * len(near[other]))
            following.append(found)
        layer = following
        total = [one + other for one, other in zip(total, layer, strict=True)]
    e = [vector / (layers + 1) for vector in total]
    loss = 0.0
    for i, liked, drawn in triples.T:
        loss = loss - torch.log(torch.sigmoid(e[i] @ e[liked] - e[i] @ e[drawn]))
        for node in (i, liked, drawn):
            loss = loss + regularization * (first[node] @ first[node])
    return loss / triples.shape[1]


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_the_gradient_of_lightgcn_is_that_of_its_equation(layers):
    x, rng = engagements(), np.random.default_rng(layers)
    first = rng.normal(size=(N + M, K))
    consumers, liked = x.nonzero()
    drawn = rng.integers(0, M, len(liked))
    triples = np.stack([consumers, N + liked, N + drawn])
    literal = torch.tensor(first, requires_grad=True)
    literal_lightgcn(literal, x.toarray(), triples, layers, 0.1).backward()
    options = graph.Options(layers=layers, regularization=0.1)
    found = graph.gradient(graph.neighbours(x), first.astype(np.float32), triples, options)
    np.testing.assert_allclose(found, literal.grad, atol=1e-5)


def literal_simplex(weights, x, rows, drawn, options):
    """L, cosine by cosine."""
    own, producers, turn = weights
    losses = []
    for i in rows:
        liked = [j for j in range(M) if x[i, j]]
        history = sum(producers[j] for j in liked) / len(liked)
        h = options.own * own[i] + (1 - options.own) * turn @ history
        cosine = [h @ p / (h.norm() * p.norm()) for p in producers]
        far = sum(torch.relu(cosine[j] - options.margin) for j in drawn) / len(drawn)
        losses += [1 - cosine[j] + options.weight * far for j in liked]
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("own", "margin"), product((0.0, 0.3, 1.0), (-0.2, 0.3)))
def test_the_gradient_of_simplex_is_that_of_its_equation(own, margin):
    """By torch in float64: of consumers, producers and the matrix, also of one drawn twice."""
    x, rng = engagements(1), np.random.default_rng(5)
    options = cosines.Options(own=own, margin=margin, weight=3.0)
    rows, drawn = np.array([1, 4, 8]), np.array([0, 3, 3, 6])
    shapes = ((N, K), (M, K), (K, K))
    weights = [rng.normal(size=shape) for shape in shapes]
    literal = [torch.tensor(weight, requires_grad=True) for weight in weights]
    literal_simplex(literal, x.toarray(), rows, drawn, options).backward()
    engaged = (x > 0).astype(np.float32)[rows]
    single = [weight.astype(np.float32) for weight in weights]
    found = cosines.gradients(single, engaged, rows, drawn, options)
    for mine, theirs in zip(found, literal, strict=True):
        expected = np.zeros(mine.shape) if theirs.grad is None else theirs.grad
        np.testing.assert_allclose(mine, expected, atol=1e-5)


def test_a_step_of_adam_is_that_of_torch():
    """With the same falling rate, over several steps."""
    rng = np.random.default_rng(0)
    start, slopes = rng.normal(size=(3, 2)), rng.normal(size=(4, 3, 2))
    theirs = torch.tensor(start, requires_grad=True)
    peer = torch.optim.Adam([theirs], lr=0.1)
    fall = torch.optim.lr_scheduler.LinearLR(peer, 1, 0, len(slopes))
    mine = start.copy()
    adam = Adam([mine], 0.1, len(slopes))
    for slope in slopes:
        theirs.grad = torch.tensor(slope)
        peer.step()
        fall.step()
        adam.step([slope])
    np.testing.assert_allclose(mine, theirs.detach(), atol=1e-6)


LEARNERS = {
    "lightgcn": lambda x, seed: graph.lightgcn(x, 8, graph.Options(), seed),
    "simplex": lambda x, seed: cosines.simplex(x, 8, cosines.Options(epochs=20), seed),
}


@pytest.mark.parametrize("learn", LEARNERS.values(), ids=LEARNERS)
def test_what_a_group_likes_is_above_what_the_other_likes(learn):
    """Also of what a consumer has not engaged with: in nine of ten pairs or more."""
    x, consumers, producers = tastes()
    own, vectors = learn(x, 0)
    scores = own @ vectors.T
    right = wrong = 0
    for i in range(x.shape[0]):
        unknown = x[i].toarray().ravel() == 0
        liked = scores[i, unknown & (producers == consumers[i])]
        others = scores[i, unknown & (producers != consumers[i])]
        right += int((liked[:, None] > others).sum())
        wrong += int((liked[:, None] <= others).sum())
    assert right > 9 * wrong


@pytest.mark.parametrize("learn", LEARNERS.values(), ids=LEARNERS)
def test_a_seed_repeats_and_strengths_do_not_count(learn):
    x = engagements()
    one, again, other = learn(x, 1), learn((x > 0) * 1.0, 1), learn(x, 2)
    for mine, theirs in zip(one, again, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not np.array_equal(one[1], other[1])


@pytest.mark.parametrize("learn", LEARNERS.values(), ids=LEARNERS)
def test_someone_without_engagements_is_finite(learn):
    """A row and a column without a single engagement."""
    x = engagements().tolil()
    x[2] = 0
    x[:, 4] = 0
    for vectors in learn(x.tocsr(), 0):
        assert np.isfinite(vectors).all()
