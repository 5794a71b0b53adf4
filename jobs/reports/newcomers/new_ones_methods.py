"""The methods of `table5`, each fitted once on the window and then asked about who is new.

Where a method knows nothing of a user, it ranks by popularity; of a new producer, it says nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from embeddings.blocks import MatrixShare
from embeddings.cooccurrence.bags import Config, fit
from embeddings.embedders.bag import feature_ids
from embeddings.embedders.base import Fitted, embedder, reads_features
from embeddings.features import Features
from embeddings.fold_in.towers import TowersFoldIn
from embeddings.kernels.communicator import Communicator, run_threads
from embeddings.sampling import noise
from jobs.reports.methods import THREADS
from jobs.reports.newcomers.new_ones import Asked, NewOnes
from jobs.reports.tables.methods import strength_factors, write_matrix

DIM = 32
RANDOM, POPULARITY = "random", "popularity"

# Rows of those asked about, (r,) places among them -> scores; a higher one comes first.
Score = Callable[[Asked, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Learned:
    """A finished fit. users: scores of the window's producers, (r, m); new_producers: of the new
    ones, (r, p), None where the method knows nothing of them. seconds: of CPU."""

    users: Score | None
    new_producers: Score | None = None
    seconds: float = 0.0


Method = Callable[[NewOnes, int], Learned]


def methods(problem: NewOnes) -> dict[str, Method]:
    """By name, those first that know nothing."""
    found: dict[str, Method] = {
        RANDOM: at_random,
        POPULARITY: by_popularity,
        "svd": OnTheSeam("svd", {}),
        "als": OnTheSeam("als", {}),
        "baskets": OnTheSeam("cooccurrence", {"pairs": "baskets"}),
        "direct": OnTheSeam("cooccurrence", {"pairs": "direct"}),
    }
    if problem.consumers is not None:
        found["bag of features"] = OnTheSeam("bag", {"most_common": 0.8})
    if problem.producers is not None:
        found["bag, of producers"] = bag_of_producers
    if problem.consumers is not None or problem.producers is not None:
        found["two towers"] = OnTheSeam("towers", {})
    return found


def timed(method: Method, problem: NewOnes, seed: int) -> Learned:
    """The fit with its CPU time, on THREADS threads."""
    with threadpool_limits(THREADS):
        started = time.process_time()
        learned = method(problem, seed)
        seconds = time.process_time() - started
    return Learned(learned.users, learned.new_producers, seconds)


# That know nothing


def at_random(problem: NewOnes, seed: int) -> Learned:
    users = noise(problem.consumer_ids, DIM, seed)
    producers = noise(problem.producer_ids, DIM, seed + 1)
    new = noise(problem.new_producer_ids, DIM, seed + 1)
    return Learned(
        lambda asked, part: users[asked.rows[part]] @ producers.T,
        lambda asked, part: users[asked.rows[part]] @ new.T,
    )


def by_popularity(problem: NewOnes, seed: int) -> Learned:
    """By the number of consumers; nobody knows how popular a new producer will be."""
    counts = popularity(problem)
    return Learned(lambda asked, part: np.tile(counts, (len(part), 1)))


def popularity(problem: NewOnes) -> np.ndarray:
    return np.bincount(problem.x.indices, minlength=problem.x.shape[1]).astype(np.float32)


# With vectors


@dataclass(frozen=True)
class OnTheSeam:
    """An embedder with some options, on threads of this process as it would run on Spark."""

    name: str
    options: dict[str, Any]

    def __call__(self, problem: NewOnes, seed: int) -> Learned:
        rows = np.flatnonzero(np.diff(problem.x.indptr))
        with tempfile.TemporaryDirectory() as folder:
            ids = problem.consumer_ids[rows], problem.producer_ids
            write_matrix(Path(folder), problem.x[rows], *ids)
            shares = run_threads(THREADS, lambda comm: self.fit(Path(folder), comm, problem, seed))
        model = shares[0].fold_in
        targets = shares[0].producers * strength_factors(model)[:, None]
        counts = popularity(problem)

        def vectors(asked: Asked, part: np.ndarray) -> np.ndarray:
            history = asked.history[part].astype(np.float32)
            vocabulary = getattr(model, "vocabulary", None)
            if vocabulary is None or problem.consumers is None:
                return model.fold(history)
            # The columns of an embedder that reads categories alone are the first ones.
            known = problem.consumers.rows[asked.rows[part]][:, : vocabulary.width]
            return model.fold(history, sp.csr_matrix(known))  # type: ignore[call-arg]

        def users(asked: Asked, part: np.ndarray) -> np.ndarray:
            found = vectors(asked, part)
            scores = found @ targets.T.astype(np.float32)
            scores[~found.any(axis=1)] = counts
            return scores

        if not isinstance(model, TowersFoldIn) or problem.new_producers is None:
            return Learned(users)
        new = new_by_towers(model, problem.new_producers)
        return Learned(users, lambda asked, part: vectors(asked, part) @ new.T)

    def fit(self, folder: Path, comm: Communicator, problem: NewOnes, seed: int) -> Fitted:
        solver = embedder(self.name)
        share = MatrixShare(folder, comm)
        if reads_features(solver) and problem.consumers is not None:
            own = np.searchsorted(problem.consumer_ids, share.consumer_ids())
            rows = sp.csr_matrix(problem.consumers.rows[own])
            share.consumer_features = Features(problem.consumers.vocabulary, rows)
        if reads_features(solver):
            share.producer_features = problem.producers
        options = import_module(f"embeddings.embedders.{self.name}").Options(**self.options)
        return solver.fit(share, DIM, seed, options, lambda line: None)


def new_by_towers(model: TowersFoldIn, features: Features) -> np.ndarray:
    """The vectors of new producers by their features; their popularity is not known: (p, k)."""
    unknown = sp.csr_matrix((features.rows.shape[0], 1), dtype=np.float32)
    rows = sp.hstack([features.rows, unknown], format="csr", dtype=np.float32)
    return model.producer_tower.vectors(sp.csr_matrix((rows.shape[0], 0)), rows)


def bag_of_producers(problem: NewOnes, seed: int) -> Learned:
    """The other way round: a producer is the mean of its features, and predicts its consumers."""
    assert problem.producers is not None, "methods() has it only where there are features"
    x = problem.x.T.tocsr().astype(np.float32)
    bags = problem.producers.rows
    cfg = Config(dim=DIM, seed=seed, most_common=1.0)
    names = feature_ids(problem.producers.vocabulary), problem.consumer_ids
    bounds = x.shape[0] * np.arange(THREADS + 1) // THREADS

    def share(comm: Communicator):
        own = slice(bounds[comm.rank], bounds[comm.rank + 1])
        return fit(bags[own], x[own], cfg, comm, *names)

    trained = run_threads(THREADS, share)[0]
    if problem.new_producers is None:
        return Learned(None)
    rows = problem.new_producers.rows
    sums = np.maximum(np.asarray(rows.sum(axis=1)).ravel(), 1e-9)
    new = (rows @ trained.features) / sums[:, None]
    return Learned(None, lambda asked, part: trained.outputs[asked.rows[part]] @ new.T)
