"""Small strengths matrices, and a fitted fold-in of every kind."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import scipy.sparse as sp

from embeddings.cooccurrence.bags import Config as BagConfig
from embeddings.cooccurrence.bags import fit as fit_bags
from embeddings.cooccurrence.training import Config, fit
from embeddings.embedders import bag, towers
from embeddings.embedders.als import ALSConfig, als
from embeddings.embedders.cooccurrence import Options, fold_in_of
from embeddings.embedders.svd import factorize
from embeddings.features import Vocabulary
from embeddings.fold_in.als import ALSFoldIn
from embeddings.fold_in.base import FoldIn
from embeddings.fold_in.svd import SVDFoldIn
from embeddings.fold_in.towers import TowersFoldIn
from embeddings.kernels.communicator import SingleWorker
from embeddings.kernels.normalize import normalize, smoothed
from embeddings.towers.training import Config as TowersConfig
from embeddings.towers.training import train

CFG = ALSConfig(dim=6, iterations=5, unobserved_weight=0.2, regularization=0.01, solver="exact")


def random_strengths(n: int, m: int, density: float, seed: int = 0) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    x = sp.random(n, m, density, "csr", random_state=rng)
    x.data = rng.integers(1, 5, len(x.data)).astype(float)
    return x


def random_rotation(k: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(k, k)))[0]


def fitted_svd(x: sp.csr_matrix) -> FoldIn:
    sums, row_extra = smoothed(np.asarray(x.sum(axis=0)).ravel(), x.shape[0], 1.0)
    factors = factorize(normalize(x, sums, row_extra), k=6)
    return SVDFoldIn(factors.fold_in, sums, row_extra)


def fitted_als(x: sp.csr_matrix) -> FoldIn:
    return ALSFoldIn.of(als(x, CFG), CFG)


def fitted_pairs(x: sp.csr_matrix, pairs: Literal["baskets", "direct"]) -> FoldIn:
    options = Options(pairs=pairs, epochs=5, batches=5)
    cfg = Config(dim=6, seed=0, **options.model_dump())
    producer_ids = np.arange(x.shape[1]).astype(np.bytes_)
    trained = fit(x, cfg, SingleWorker(), producer_ids)
    return fold_in_of(trained, np.asarray(x.sum(axis=0)).ravel(), cfg)


def fitted_bag(x: sp.csr_matrix) -> FoldIn:
    cfg = BagConfig(dim=6, seed=0, epochs=5, batches=5)
    bags = random_strengths(x.shape[0], 4, 0.5)
    names = Vocabulary({"domain": ("a", "b", "c", "d")}, {})
    producer_ids = np.arange(x.shape[1]).astype(np.bytes_)
    trained = fit_bags(bags, x, cfg, SingleWorker(), bag.feature_ids(names), producer_ids)
    return bag.fold_in_of(trained, names)


def fitted_towers(x: sp.csr_matrix) -> FoldIn:
    options = towers.Options(epochs=2)
    cfg = TowersConfig(dim=6, seed=0, **options.model_dump())
    profiles = towers.nothing(x.shape[0])
    traits = towers.with_popularity(None, np.asarray(x.sum(axis=0)).ravel())
    producer_ids = np.arange(x.shape[1]).astype(np.bytes_)
    trained = train(x, profiles.rows, traits.rows, producer_ids, cfg)
    vocabularies = (profiles.vocabulary, traits.vocabulary)
    return TowersFoldIn.of(trained.consumer, trained.producer, *vocabularies)


# A new kind adds its line here; the contract suite fails until it does.
FITTED = {
    "als": fitted_als,
    "bag": fitted_bag,
    "logistic": partial(fitted_pairs, pairs="direct"),
    "mean": partial(fitted_pairs, pairs="baskets"),
    "svd": fitted_svd,
    "towers": fitted_towers,
}
