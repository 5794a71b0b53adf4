"""Versions of the log's days: vectors of all consumers and producers, before and after alignment.

The coordinates of a fresh fit are arbitrary: vectors of two days are comparable only after both are
rotated to common axes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from embeddings.align import canonical_axes, procrustes
from embeddings.embedders.als import ALSConfig
from jobs.reports.daily_log import Log
from jobs.reports.methods import ALS, SVD, Method
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
    consumers that were fitted; the vectors of the rest were folded in.
    """

    consumers: np.ndarray
    producers: np.ndarray
    fitted: np.ndarray

    def rotated(self, rotation: np.ndarray) -> Version:
        """Both sides by one rotation, (k, k), which keeps every product."""
        return replace(
            self,
            consumers=(self.consumers @ rotation).astype(np.float32),
            producers=(self.producers @ rotation).astype(np.float32),
        )

    def on_own_axes(self) -> Version:
        """On the canonical axes of this version's producers, like the anchor of a space."""
        return self.rotated(canonical_axes(self.producers))

    def aligned_to(self, anchor: Version) -> Version:
        """Rotated so that the producers of both versions come as close together as possible."""
        shared = self.producers.any(axis=1) & anchor.producers.any(axis=1)
        return self.rotated(procrustes(self.producers[shared], anchor.producers[shared]))


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
    fitted = events >= settings.matrix.min_engagements
    if hidden is not None:
        fitted &= ~hidden
    # A producer without engagements in the window would be a free row of the factorisation.
    columns = np.flatnonzero(np.bincount(x.indices, minlength=x.shape[1]))
    x = x[:, columns]
    model = method.fit(x[fitted], seed)
    consumers = np.zeros((x.shape[0], model.consumers.shape[1]), np.float32)
    consumers[fitted] = model.consumers
    consumers[~fitted] = model.fold_in.fold(x[~fitted])
    producers = np.zeros((log.shape[1], model.producers.shape[1]), np.float32)
    producers[columns] = model.producers
    return Version(consumers, producers, fitted)


def without_vectors(log: Log, dim: int) -> Version:
    """A version in which every vector is zero."""
    n, m = log.shape
    consumers = np.zeros((n, dim), np.float32)
    producers = np.zeros((m, dim), np.float32)
    return Version(consumers, producers, np.zeros(n, bool))


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


def align_to_first(versions: list[Version]) -> list[Version]:
    """All versions rotated to the first one, which is put on its canonical axes."""
    anchor = versions[0].on_own_axes()
    return [anchor, *(version.aligned_to(anchor) for version in versions[1:])]
