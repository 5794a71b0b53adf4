"""The factorisations that the experiments compare: fitted on some consumers, folded in for the others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from embeddings.embedders.als import ALSConfig, als
from embeddings.embedders.svd import factorize
from embeddings.fold_in.als import ALSFoldIn
from embeddings.fold_in.base import FoldIn
from embeddings.fold_in.svd import SVDFoldIn
from embeddings.kernels.normalize import normalize, smoothed

THREADS = 2  # of a fit; another number may round differently


@dataclass(frozen=True)
class Model:
    """A fit. consumers: (n, k), rows as in the fitted matrix; producers: (m, k)."""

    consumers: np.ndarray
    producers: np.ndarray
    fold_in: FoldIn
    heights: (
        np.ndarray
    )  # (m,), what a product of vectors is to be multiplied by to stand for strengths

    @property
    def targets(self) -> np.ndarray:
        """(m, k): u · target_j ranks the producers j for a consumer u by the strength that the fit expects."""
        return self.producers * self.heights[:, None].astype(np.float32)


@dataclass(frozen=True)
class SVD:
    """Truncated SVD of the normalised matrix, its sums smoothed or, with 0, not."""

    dim: int = 32
    smoothing: float = 0.0

    @property
    def name(self) -> str:
        return "svd smoothed" if self.smoothing else "svd"

    def fit(self, x: sp.csr_matrix, seed: int) -> Model:
        """x: (n, m) strengths > 0."""
        sums = np.asarray(x.sum(axis=0), dtype=np.float64).ravel()
        sums, row_extra = smoothed(sums, int(np.count_nonzero(np.diff(x.indptr))), self.smoothing)
        factors = factorize(normalize(x, sums, row_extra), self.dim, seed, threads=THREADS)
        fold_in = SVDFoldIn(factors.fold_in, sums, row_extra)
        return Model(factors.consumers, factors.producers, fold_in, np.sqrt(sums))


@dataclass(frozen=True)
class ALS:
    """Implicit ALS: products of vectors come near 1 where there is an engagement."""

    cfg: ALSConfig
    name: ClassVar[str] = "als"

    def fit(self, x: sp.csr_matrix, seed: int) -> Model:
        """x: (n, m) strengths > 0."""
        cfg = replace(self.cfg, seed=seed)
        factors = als(x, cfg, threads=THREADS)
        return Model(
            factors.consumers, factors.producers, ALSFoldIn.of(factors, cfg), np.ones(x.shape[1])
        )


Method = SVD | ALS


def candidates() -> dict[str, list[Method]]:
    """What is tried of each method where its regularisation is tuned."""
    weights, penalties = (0.03, 0.1, 0.3, 1.0), (0.003, 0.01, 0.03)
    dims, smoothings = (16, 32, 64), (0.3, 1.0, 3.0)
    alss = [
        ALSConfig(dim=32, unobserved_weight=w, regularization=p)
        for w, p in product(weights, penalties)
    ]
    return {
        "als": [ALS(cfg) for cfg in alss],
        "svd": [SVD(dim) for dim in dims],
        "svd smoothed": [SVD(dim, smoothing) for dim, smoothing in product(dims, smoothings)],
    }


LABELS = {"als": "ALS", "svd": "SVD", "svd smoothed": "SVD, smoothed"}  # in pictures


def options(method: Method) -> str:
    """What was tuned, for a table."""
    if isinstance(method, SVD):
        return f"k {method.dim}, smoothing {method.smoothing:g}"
    return f"α0 {method.cfg.unobserved_weight:g}, λ {method.cfg.regularization:g}"
