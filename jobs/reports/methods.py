"""The factorisations that the experiments compare: fit some consumers, fold in the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from embeddings.embedders.als import ALSConfig, als
from embeddings.embedders.cooccurrence import Options, cooccurrence
from embeddings.embedders.svd import factorize
from embeddings.fold_in.als import ALSFoldIn
from embeddings.fold_in.base import FoldIn
from embeddings.fold_in.svd import SVDFoldIn
from embeddings.kernels.normalize import normalize, smoothed

THREADS = 2  # of a fit; fixed, since another number may round differently
LABELS = {"als": "ALS", "svd": "SVD", "svd smoothed": "SVD, smoothed"}  # in pictures


@dataclass(frozen=True)
class Model:
    """A fitted factorisation.

    consumers: (n, k), rows as in the fitted matrix; producers: (m, k); scales: (m,), the factors
    that turn a product of vectors into the expected strength.
    """

    consumers: np.ndarray
    producers: np.ndarray
    fold_in: FoldIn
    scales: np.ndarray

    @property
    def targets(self) -> np.ndarray:
        """(m, k): u · target_j ranks the producers j for a consumer u by expected strength."""
        return self.producers * self.scales[:, None].astype(np.float32)


@dataclass(frozen=True)
class SVD:
    """Truncated SVD of the normalised matrix. smoothing 0: its row and column sums, unchanged."""

    dim: int = 32
    smoothing: float = 0.0

    @property
    def name(self) -> str:
        return "svd smoothed" if self.smoothing else "svd"

    @property
    def options(self) -> str:
        """The tuned options, for a table."""
        return f"k {self.dim}, smoothing {self.smoothing:g}"

    def fit(self, x: sp.csr_matrix, seed: int, producer_ids: np.ndarray | None = None) -> Model:
        """x: (n, m) strengths > 0. producer_ids: not used."""
        sums = np.asarray(x.sum(axis=0), dtype=np.float64).ravel()
        n_active = int(np.count_nonzero(np.diff(x.indptr)))
        sums, row_extra = smoothed(sums, n_active, self.smoothing)
        factors = factorize(normalize(x, sums, row_extra), self.dim, seed, threads=THREADS)
        fold_in = SVDFoldIn(factors.fold_in, sums, row_extra)
        return Model(factors.consumers, factors.producers, fold_in, np.sqrt(sums))


@dataclass(frozen=True)
class ALS:
    """Implicit ALS: the product of two vectors is close to 1 where there is an engagement."""

    cfg: ALSConfig
    name: ClassVar[str] = "als"

    @property
    def options(self) -> str:
        """The tuned options, for a table."""
        return f"α0 {self.cfg.unobserved_weight:g}, λ {self.cfg.regularization:g}"

    def fit(self, x: sp.csr_matrix, seed: int, producer_ids: np.ndarray | None = None) -> Model:
        """x: (n, m) strengths > 0. producer_ids: (m,), if other days have other columns."""
        cfg = self.cfg.model_copy(update={"seed": seed})
        factors = als(x, cfg, threads=THREADS, producer_ids=producer_ids)
        fold_in = ALSFoldIn.of(factors, cfg)
        return Model(factors.consumers, factors.producers, fold_in, np.ones(x.shape[1]))


@dataclass(frozen=True)
class Cooccurrence:
    """Skip-gram with negative sampling on baskets, or on pairs of a consumer and a producer."""

    chosen: Options = field(default_factory=Options)
    dim: int = 32
    name: ClassVar[str] = "cooccurrence"

    @property
    def options(self) -> str:
        """The tuned options, for a table."""
        chosen = self.chosen
        return (
            f"{chosen.pairs}, k {self.dim}, {chosen.epochs} epochs, rate {chosen.learning_rate:g}"
        )

    def fit(self, x: sp.csr_matrix, seed: int, producer_ids: np.ndarray | None = None) -> Model:
        """x: (n, m) strengths > 0. producer_ids: (m,), if other days have other columns."""
        factors = cooccurrence(x, self.chosen, self.dim, seed, THREADS, producer_ids)
        return Model(factors.consumers, factors.producers, factors.fold_in, np.ones(x.shape[1]))


Method = SVD | ALS | Cooccurrence


def candidates() -> dict[str, list[Method]]:
    """The grid of each method over which its regularisation is tuned."""
    alss: list[Method] = []
    for weight, penalty in product((0.03, 0.1, 0.3, 1.0), (0.003, 0.01, 0.03)):
        cfg = ALSConfig(dim=32, iterations=16, unobserved_weight=weight, regularization=penalty)
        alss.append(ALS(cfg))
    # An SVD has no penalty: what regularises it is its number of dimensions.
    dims = (16, 32, 64)
    plain: list[Method] = [SVD(dim) for dim in dims]
    smooth: list[Method] = [
        SVD(dim, smoothing) for dim, smoothing in product(dims, (0.3, 1.0, 3.0))
    ]
    return {"als": alss, "svd": plain, "svd smoothed": smooth}
