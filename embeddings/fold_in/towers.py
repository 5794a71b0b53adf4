"""Fold-in of two towers: the consumer's tower, evaluated for a history, a profile, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from embeddings.features import Value, Vocabulary
from embeddings.towers.tower import Tower


@dataclass(frozen=True)
class TowersFoldIn:
    """Weights of both towers; of the producer's, without the vectors of the ids.

    The names are those of `Tower`. Their shapes have m producers, F or G features, width d, H units
    and vectors of length k.
    """

    inputs: np.ndarray  # (m, d)
    features: np.ndarray  # (F, d)
    bias: np.ndarray  # (2, d)
    hidden: np.ndarray  # (d, H)
    hidden_bias: np.ndarray  # (1, H)
    out: np.ndarray  # (d + H, k)
    producer_features: np.ndarray  # (G, d)
    producer_bias: np.ndarray  # (2, d)
    producer_hidden: np.ndarray  # (d, H)
    producer_hidden_bias: np.ndarray  # (1, H)
    producer_out: np.ndarray  # (d + H, k)
    profile: str  # the vocabulary of the consumers' features, as text
    traits: str  # the vocabulary of the producers' features, as text

    @classmethod
    def of(
        cls, consumer: Tower, producer: Tower, profile: Vocabulary, traits: Vocabulary
    ) -> TowersFoldIn:
        """The fold-in of two towers that were trained together."""
        of_producer = {f"producer_{name}": array for name, array in vars(producer).items()}
        del of_producer["producer_inputs"]  # as large as the vectors, which are published
        return cls(**vars(consumer), **of_producer, profile=profile.text(), traits=traits.text())

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What the features of a consumer may be. Raises ValueError if it cannot be read."""
        return self._fitting(self.profile, self.features)

    @cached_property
    def producer_vocabulary(self) -> Vocabulary:
        """What the features of a producer may be. Raises ValueError if it cannot be read."""
        return self._fitting(self.traits, self.producer_features)

    def fold(self, x: sp.csr_matrix, features: sp.csr_matrix | None = None) -> np.ndarray:
        """As `FoldIn.fold`; features: (n, F), rows of the vocabulary, none by default.

        A consumer without a history has the vector of its features, zeros if it has none of these.
        """
        return self.consumer_tower.vectors(x, features)

    def producer_vectors(self, features: Sequence[Mapping[str, Value]]) -> np.ndarray:
        """The vectors of producers that nobody has engaged with, (n, k) float32.

        features: of each, its categories and its popularity, the sum of its strengths, where it is
        known. Raises ValueError for a name or a value that the vocabulary does not have.
        """
        vocabulary = self.producer_vocabulary
        rows = [vocabulary.row(one) for one in features]
        stacked = sp.vstack([sp.csr_matrix((0, vocabulary.width), dtype=np.float32), *rows])
        return self.producer_tower.vectors(sp.csr_matrix((len(rows), 0)), stacked.tocsr())

    def residual(self, x: sp.csr_matrix, vector: np.ndarray, producers: np.ndarray) -> None:
        """None: the towers have no targets."""
        return

    def rotated(self, rotation: np.ndarray) -> TowersFoldIn:
        consumer = self.consumer_tower.rotated(rotation)
        producer = self.producer_tower.rotated(rotation)
        return replace(self, out=consumer.out, producer_out=producer.out)

    def in_order(self, order: np.ndarray) -> TowersFoldIn:
        return replace(self, inputs=self.inputs[order])

    @property
    def n_producers(self) -> int:
        return len(self.inputs)

    @property
    def lengths(self) -> set[int]:
        """Lengths of arrays besides those that every kind may have, see `FoldIn`."""
        d, units = self.hidden.shape
        return {len(self.features), len(self.producer_features), 1, 2, d, units, d + units}

    @property
    def consumer_tower(self) -> Tower:
        layers = (self.hidden, self.hidden_bias, self.out)
        return Tower(self.inputs, self.features, self.bias, *layers)

    @property
    def producer_tower(self) -> Tower:
        """The tower of producers that have no vector of their own."""
        d = self.producer_hidden.shape[0]
        layers = (self.producer_hidden, self.producer_hidden_bias, self.producer_out)
        none = np.empty((0, d), np.float32)
        return Tower(none, self.producer_features, self.producer_bias, *layers)

    def arrays(self) -> dict[str, np.ndarray]:
        names = [name for name, value in vars(self).items() if isinstance(value, np.ndarray)]
        return {name: getattr(self, name) for name in names}

    def scalars(self) -> dict[str, str | float]:
        return {"kind": "towers", "profile": self.profile, "traits": self.traits}

    @staticmethod
    def _fitting(text: str, weights: np.ndarray) -> Vocabulary:
        vocabulary = Vocabulary.read(text)
        if vocabulary.width != len(weights):
            raise ValueError(
                f"A vocabulary of {vocabulary.width} columns does not fit {len(weights)} rows of "
                "weights: both must come from one version."
            )
        return vocabulary


FOLD_IN = TowersFoldIn
