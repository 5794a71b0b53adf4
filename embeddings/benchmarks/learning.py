"""Models that read vectors: fitted on four fifths of the ids, judged on the rest.

They are plain and the same for every version: a benchmark compares vectors, not models.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from embeddings.sampling import hashes

PARTS = 5  # one of which is held out
MOST_STEPS = 60  # of L-BFGS
RIDGE = 1.0  # sum of squared errors that one squared coefficient costs


@dataclass(frozen=True)
class Halves:
    """Rows to fit on, four fifths, and rows to judge; the same ids are held out on every day."""

    fit: np.ndarray
    judged: np.ndarray

    @classmethod
    def of(cls, ids: np.ndarray, rows: np.ndarray) -> Halves:
        """Split these rows. ids: (n,) bytes, of all rows; rows: (r,)."""
        held_out = hashes(ids[rows]) % np.uint64(PARTS) == 0
        return cls(rows[~held_out], rows[held_out])

    def of_those(self, chosen: np.ndarray) -> Halves:
        """Without the rows of others. chosen: (n,) bool."""
        return Halves(self.fit[chosen[self.fit]], self.judged[chosen[self.judged]])


def standardised(vectors: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and deviation 1 over the rows to fit on, (n, k) float64.

    A constant column stays one.
    """
    chosen = vectors[fit].astype(np.float64)
    deviation = chosen.std(axis=0)
    return (vectors - chosen.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)


def logistic_scores(vectors: np.ndarray, labels: np.ndarray, halves: Halves) -> np.ndarray:
    """The log odds of the judged rows by logistic regression, (judged,).

    vectors: (n, k); labels: (n,) bool, both classes among the rows to fit on.
    """
    x = standardised(vectors, halves.fit)
    model = fitted_logistic(x[halves.fit], labels[halves.fit])
    return model.decision_function(x[halves.judged])


def logistic_classes(vectors: np.ndarray, classes: np.ndarray, halves: Halves) -> np.ndarray:
    """The class of each judged row by multinomial logistic regression. classes: (n,)."""
    x = standardised(vectors, halves.fit)
    return fitted_logistic(x[halves.fit], classes[halves.fit]).predict(x[halves.judged])


def fitted_logistic(x: np.ndarray, y: np.ndarray):
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=MOST_STEPS, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not fully converged is good enough, and repeatable
        return model.fit(x, y)


def linear_scores(vectors: np.ndarray, targets: np.ndarray, halves: Halves) -> np.ndarray:
    """Ridge regression of several targets at once. targets: (n, t). Returns (judged, t)."""
    x = standardised(vectors, halves.fit)
    mean = targets[halves.fit].mean(axis=0)
    gram = x[halves.fit].T @ x[halves.fit] + RIDGE * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[halves.fit].T @ (targets[halves.fit] - mean))
    return x[halves.judged] @ weights + mean
