"""Fold-in of a bag of features: a look-up and a mean, also for an entity that came a minute ago."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from embeddings.features import Vocabulary
from embeddings.fold_in.base import require_producers


@dataclass(frozen=True)
class BagFoldIn:
    """u = (Σ_j s_j p_j + Σ_f w_f c_f e_f) / (Σ_j s_j + Σ_f w_f c_f).

    The mean of what is known: features f with weights w, and the producers j of a history with
    strengths s. A newcomer has features alone.
    """

    vectors: np.ndarray  # (m, k) float32, p: what a producer in a history adds
    features: np.ndarray  # (F, k) float32, e
    weights: np.ndarray  # (F,) float32 >= 0, c: 0 for a feature that was dropped
    profile: str  # the vocabulary of the features, as text

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What the features may be. Raises ValueError if it cannot be read or does not fit."""
        vocabulary = Vocabulary.read(self.profile)
        if not vocabulary.width == len(self.features) == len(self.weights):
            raise ValueError(
                f"A vocabulary of {vocabulary.width} columns does not fit {len(self.features)} "
                f"vectors and {len(self.weights)} weights: all three must come from one version."
            )
        return vocabulary

    def fold(self, x: sp.csr_matrix, features: sp.csr_matrix | None = None) -> np.ndarray:
        """As `FoldIn.fold`; features: (n, F), rows of the vocabulary, none by default."""
        require_producers(x, len(self.vectors))
        # In the type of the vectors: of others, SciPy would copy all vectors for one row.
        histories = x.astype(np.float32)
        sums = histories @ self.vectors
        totals = np.asarray(histories.sum(axis=1), np.float32).ravel()
        if features is not None:
            bags = features.astype(np.float32)  # a copy, which is changed
            bags.data *= self.weights[bags.indices]
            sums = sums + bags @ self.features
            totals += np.asarray(bags.sum(axis=1), np.float32).ravel()
        return sums / np.where(totals > 0, totals, np.float32(1))[:, None]

    def residual(self, x: sp.csr_matrix, vector: np.ndarray, producers: np.ndarray) -> None:
        """None: a mean has no targets."""
        return

    def rotated(self, rotation: np.ndarray) -> BagFoldIn:
        vectors = (self.vectors @ rotation).astype(np.float32)
        features = (self.features @ rotation).astype(np.float32)
        return replace(self, vectors=vectors, features=features)

    def in_order(self, order: np.ndarray) -> BagFoldIn:
        return replace(self, vectors=self.vectors[order])

    @property
    def n_producers(self) -> int:
        return len(self.vectors)

    @property
    def lengths(self) -> set[int]:
        """Lengths of arrays besides those that every kind may have, see `FoldIn`."""
        return {len(self.features)}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"vectors": self.vectors, "features": self.features, "weights": self.weights}

    def scalars(self) -> dict[str, str | float]:
        return {"kind": "bag", "profile": self.profile}


FOLD_IN = BagFoldIn
