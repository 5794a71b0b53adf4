"""Versions of the log's days: vectors of all consumers and producers, before and after alignment.

The coordinates of a fresh fit are arbitrary: vectors of two days are comparable only after both are
rotated to common axes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from embeddings.embedders.als import ALSConfig
from embeddings.spaces.reference import Entities, Sides, first_reference, pairs
from embeddings.spaces.rotation import Rotations, canonical_axes
from jobs.reports.daily_factors import Day, by_reference, row_ids
from jobs.reports.daily_log import Log
from jobs.reports.methods import ALS, SVD, Method, Model
from jobs.reports.report import ReportProgress
from jobs.settings import Settings


def compared_methods(settings: Settings) -> list[Method]:
    """The methods that the experiments compare, at the length of the settings."""
    dim = settings.embedding.dim
    # 32 iterations: two seeds then agree to a mean cosine of 0.95 between their producers, against
    # 0.91 after 16.
    return [ALS(ALSConfig(dim=dim, iterations=32)), SVD(dim), SVD(dim, 1.0)]


@dataclass(frozen=True)
class Version:
    """Vectors of every consumer (n, k) and producer (m, k) of the log.

    The vectors of those who are missing in the day's window are zero. fitted: (n,) bool, the
    consumers that were fitted; the vectors of the rest were folded in. consumer_strengths: (n,),
    producer_strengths: (m,), sums over the window and the fitted consumers.
    """

    consumers: np.ndarray
    producers: np.ndarray
    fitted: np.ndarray
    consumer_strengths: np.ndarray
    producer_strengths: np.ndarray

    def rotated(self, rotation: np.ndarray) -> Version:
        """Both sides by one rotation, (k, k), which keeps every product."""
        return replace(
            self,
            consumers=(self.consumers @ rotation).astype(np.float32),
            producers=(self.producers @ rotation).astype(np.float32),
        )

    def on_own_axes(self) -> Version:
        """On the canonical axes of this version, like the first day of a space."""
        return self.rotated(canonical_axes(self.consumers[self.fitted], self.producers))

    def aligned_to(self, other: Version) -> Version:
        """In the coordinates of another version."""
        return self.rotated(Rotations.of(pairs(self.sides(), first_reference(other.sides()))).whole)

    def sides(self) -> Sides:
        """The fitted consumers and the producers as a reference takes them."""
        fitted = self.fitted
        return {
            "consumer": Entities.of_day(
                row_ids(np.flatnonzero(fitted)),
                self.consumers[fitted],
                self.consumer_strengths[fitted],
            ),
            "producer": Entities.of_day(
                row_ids(np.arange(len(self.producers))), self.producers, self.producer_strengths
            ),
        }


@dataclass(frozen=True)
class Fit:
    """The factorisation of a window.

    x: (n, m') its strengths, without the columns of producers that have none; columns: (m',) the
    producers of these columns; fitted: (n,) bool, the consumers that the model was fitted on.
    """

    x: sp.csr_matrix
    columns: np.ndarray
    fitted: np.ndarray
    model: Model

    @cached_property
    def consumers(self) -> np.ndarray:
        """The vectors of all consumers, (n, k): those that were not fitted are folded in."""
        consumers = np.zeros((self.x.shape[0], self.model.consumers.shape[1]), np.float32)
        consumers[self.fitted] = self.model.consumers
        consumers[~self.fitted] = self.model.fold_in.fold(self.x[~self.fitted])
        return consumers


def fit_window(
    x: sp.csr_matrix,
    events: np.ndarray,
    method: Method,
    min_engagements: int,
    seed: int,
    hidden: np.ndarray | None = None,
) -> Fit:
    """Fit the strengths of a window, (n, m), to the consumers with enough events, (n,).

    hidden: (n,) bool, consumers to keep out of the fit.
    """
    fitted = events >= min_engagements
    if hidden is not None:
        fitted &= ~hidden
    # A producer without engagements in the window would be a free row of the factorisation.
    columns = np.flatnonzero(np.bincount(x.indices, minlength=x.shape[1]))
    x = x[:, columns]
    return Fit(x, columns, fitted, method.fit(x[fitted], seed))


def fit_version(
    log: Log,
    last: int,
    method: Method,
    settings: Settings,
    seed: int,
    hidden: np.ndarray | None = None,
) -> Version:
    """Fit the version of day number `last`, not aligned.

    hidden: (n,) bool, consumers to keep out of the fit. They are folded in, as are those with too
    few engagements.
    """
    x, events = log.window(last, settings.matrix)
    fit = fit_window(x, events, method, settings.matrix.min_engagements, seed, hidden)
    producers = np.zeros((log.shape[1], fit.model.producers.shape[1]), np.float32)
    producers[fit.columns] = fit.model.producers
    sums = np.zeros(log.shape[1])
    sums[fit.columns] = np.asarray(fit.x[fit.fitted].sum(axis=0)).ravel()
    consumer_sums = np.asarray(fit.x.sum(axis=1)).ravel()
    return Version(fit.consumers, producers, fit.fitted, consumer_sums, sums)


def without_vectors(log: Log, dim: int) -> Version:
    """A version in which every vector is zero."""
    n, m = log.shape
    consumers = np.zeros((n, dim), np.float32)
    producers = np.zeros((m, dim), np.float32)
    return Version(consumers, producers, np.zeros(n, bool), np.zeros(n), np.zeros(m))


def daily_versions(
    log: Log, method: Method, settings: Settings, seed: int, progress: ReportProgress
) -> list[Version]:
    """The version of every day but the last, not aligned; each day's solver has its own seed."""
    versions = []
    # The last day's version would serve a day that the log does not have.
    for number, day in enumerate(log.days[:-1]):
        progress(f"{method.name}: vectors of {day.day}")
        versions.append(fit_version(log, number, method, settings, seed + number))
    return versions


def align(versions: list[Version]) -> list[Version]:
    """All versions in the space of the first one, as the step `align` places consecutive days."""
    days = [Day(number, version.sides()) for number, version in enumerate(versions)]
    rotations = by_reference(days, held_out=False)
    return [
        version.rotated(rotation) for version, rotation in zip(versions, rotations, strict=True)
    ]
