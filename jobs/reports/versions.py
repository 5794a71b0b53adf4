"""Versions of the log's days: vectors of everybody, in coordinates of their own or turned to those of the first day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from embeddings.align import canonical_axes, procrustes
from embeddings.embedders.als import ALSConfig
from jobs.reports.daily_log import Log
from jobs.reports.methods import ALS, SVD, Method
from jobs.settings import Settings

Tell = Callable[[str], None]


def compared(settings: Settings) -> list[Method]:
    """ALS until two seeds agree: mean cosine 0.95 between their producers, 0.91 after half as many iterations."""
    dim = settings.embedding.dim
    return [ALS(ALSConfig(dim=dim, iterations=32)), SVD(dim), SVD(dim, 1.0)]


@dataclass(frozen=True)
class Version:
    """Vectors of every consumer and producer of the log, (n, k) and (m, k); zeros for those that the day does not have.

    fitted: (n,) bool, whose vector comes from the fit; the others were folded in.
    """

    consumers: np.ndarray
    producers: np.ndarray
    fitted: np.ndarray

    def turned(self, rotation: np.ndarray) -> Version:
        return replace(
            self,
            consumers=(self.consumers @ rotation).astype(np.float32),
            producers=(self.producers @ rotation).astype(np.float32),
        )

    def on_own_axes(self) -> Version:
        """As the anchor of a space."""
        return self.turned(canonical_axes(self.producers))

    def aligned_to(self, anchor: Version) -> Version:
        """Both sides by one rotation: the one that brings the producers that both have together."""
        shared = self.producers.any(axis=1) & anchor.producers.any(axis=1)
        return self.turned(procrustes(self.producers[shared], anchor.producers[shared]))


def version(
    log: Log,
    last: int,
    method: Method,
    settings: Settings,
    seed: int,
    hidden: np.ndarray | None = None,
) -> Version:
    """The vectors after day number `last`, in coordinates of their own.

    hidden: (n,) bool, consumers kept out of the fit. They and those with too few engagements are folded in.
    """
    x, events = log.window(last, settings.matrix)
    fitted = events >= settings.matrix.min_engagements
    if hidden is not None:
        fitted &= ~hidden
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
    """Nobody has a vector."""
    n, m = log.shape
    return Version(
        np.zeros((n, dim), np.float32), np.zeros((m, dim), np.float32), np.zeros(n, bool)
    )


def daily_versions(
    log: Log, method: Method, settings: Settings, seed: int, tell: Tell
) -> list[Version]:
    """As each day but the last leaves them: every day's solver has a seed of its own."""
    found = []
    for number, day in enumerate(log.days[:-1]):
        tell(f"{method.name}: vectors of {day.day}")
        found.append(version(log, number, method, settings, seed + number))
    return found


def aligned(versions: list[Version]) -> list[Version]:
    """All turned to the first one, which lies on its canonical axes."""
    anchor = versions[0].on_own_axes()
    return [anchor, *(version.aligned_to(anchor) for version in versions[1:])]
