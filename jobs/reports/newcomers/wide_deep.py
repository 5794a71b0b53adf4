"""The ranker of the example tasks: Wide & Deep on rows of features, with or without vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from models.features import Day

KIND = "wide_deep"
EPOCHS = 2  # passes over the rows to train on


@dataclass(frozen=True)
class Rows:
    """n rows to train on or to score, in the order of time.

    users: (n,) of any type; labels: (n,) 0/1. categories: name -> (n,) numbers from 0 on; numbers:
    name -> (n,), NaN where unknown. vectors: (u, k) of consumers, of which row r has number
    vector_rows[r], -1 where there is none; k = 0 for none at all.
    """

    users: np.ndarray
    labels: np.ndarray
    categories: Mapping[str, np.ndarray]
    numbers: Mapping[str, np.ndarray]
    vectors: np.ndarray
    vector_rows: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, keep: np.ndarray) -> Rows:
        """keep: (n,) bool, or row numbers."""
        return replace(
            self,
            users=self.users[keep],
            labels=self.labels[keep],
            categories={name: column[keep] for name, column in self.categories.items()},
            numbers={name: column[keep] for name, column in self.numbers.items()},
            vector_rows=self.vector_rows[keep],
        )

    def with_numbers(self, **numbers: np.ndarray) -> Rows:
        """The rows with further numbers, (n,) each."""
        return replace(self, numbers={**self.numbers, **numbers})

    def with_vectors(self, vectors: np.ndarray, rows: np.ndarray) -> Rows:
        """The rows with vectors of consumers. rows: (n,) of each row, -1 for none."""
        return replace(self, vectors=vectors.astype(np.float32), vector_rows=rows)


def without_vectors(n: int) -> tuple[np.ndarray, np.ndarray]:
    """No vectors, of n rows."""
    return np.zeros((0, 0), np.float32), np.full(n, -1)


def scores(train_on: Rows, test_on: Rows, seed: int, threads: int) -> np.ndarray:
    """The probability of the label of every tested row, (n,), of one training with this seed."""
    from models.features import Categorical, FeatureSpec
    from models.rankers.base import read_options
    from models.training import TrainingConfig, predict, train

    columns = []
    for name, column in train_on.categories.items():
        buckets = 1 + int(max(column.max(initial=0), test_on.categories[name].max(initial=0)))
        columns.append(Categorical(name, buckets, name))
    spec = FeatureSpec(
        categorical=tuple(columns),
        numeric=tuple(train_on.numbers),
        labels=("label",),
        vector_dim=train_on.vectors.shape[1],
    )
    cfg = TrainingConfig(batch_size=256, learning_rate=2e-3, threads=threads, seed=seed)
    days = [day_of(f"pass {number}", train_on) for number in range(EPOCHS)]
    trained = train(days, spec, KIND, read_options(KIND, {}), cfg)
    tested = day_of("tested", test_on)
    return predict(trained.model, tested, trained.space, threads=threads)[:, 0]


def day_of(name: str, rows: Rows) -> Day:
    """The rows as a ranker reads them. There are no vectors of producers."""
    from models.features import Day

    nothing = np.zeros((0, rows.vectors.shape[1]), np.float32)
    numbers = [np.asarray(column, np.float32) for column in rows.numbers.values()]
    return Day(
        name=name,
        space="vectors" if rows.vectors.shape[1] else "",
        categories=np.column_stack(list(rows.categories.values())).astype(np.int64),
        numbers=np.column_stack(numbers or [np.zeros((len(rows), 0), np.float32)]),
        labels=rows.labels.astype(np.float32)[:, None],
        consumer_rows=rows.vector_rows,
        producer_rows=np.full(len(rows), -1),
        consumer_vectors=rows.vectors,
        producer_vectors=nothing,
    )
