"""Vectors of articles that are some hours old, and how they rank what is current.

    stale        articles of that age
    folded in    the same, and articles that came since from the readers of their first clicks

A session is the fold-in of what it has clicked. One that has no vector is shown what had most
clicks in the window that its articles are known from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from embeddings.benchmarks.metrics import rank
from embeddings.fold_in.svd import SVDFoldIn
from embeddings.kernels.normalize import inv_sqrt
from jobs.reports.daily_versions import Fit, fit_window
from jobs.reports.hours.clicks import NextClicks
from jobs.reports.methods import SVD

LEAST = 2  # clicks of a consumer who is fitted


@dataclass(frozen=True)
class Articles:
    """m articles with vectors.

    ids: (m,) ascending; vectors: (m, k); scales: (m,), as of `Model`; fold_in: of sessions;
    popularity: (m,) clicks.
    """

    ids: np.ndarray
    vectors: np.ndarray
    scales: np.ndarray
    fold_in: SVDFoldIn
    popularity: np.ndarray

    def only(self, current: np.ndarray) -> Articles:
        """Those that are current. current: article numbers, ascending."""
        kept = np.flatnonzero(np.isin(self.ids, current))
        return Articles(
            self.ids[kept],
            self.vectors[kept],
            self.scales[kept],
            self.fold_in.in_order(kept),
            self.popularity[kept],
        )


def learned(window: sp.csr_matrix, dim: int, seed: int) -> Articles:
    """The vectors of the articles of a window, (consumers, articles) counts."""
    events = np.asarray(window.sum(axis=1)).ravel()
    fit = fit_window(window, events, SVD(dim, 1.0), LEAST, seed)
    return Articles(
        fit.columns,
        fit.model.producers,
        fit.model.scales,
        fold_in_of(fit),
        np.asarray(window[:, fit.columns].sum(axis=0)).ravel(),
    )


def fold_in_of(fit: Fit) -> SVDFoldIn:
    found = fit.model.fold_in
    assert isinstance(found, SVDFoldIn), "the method is an SVD"
    return found


def with_new_articles(old: Articles, window: sp.csr_matrix) -> Articles:
    """The same, and vectors for the articles of a newer window that it lacks.

    An SVD puts the article j where its readers are: V√Σ = X̂ᵀ U√Σ Σ⁻¹, where the readers U√Σ are
    folded in from the articles that are known. Σ is what V√Σ and the fold-in V Σ^(-1/2) differ by.
    """
    sums = np.asarray(window.sum(axis=0)).ravel()
    new = np.setdiff1d(np.flatnonzero(sums), old.ids)
    readers = old.fold_in.fold(window[:, old.ids].tocsr())
    totals = np.asarray(window.sum(axis=1)).ravel() + old.fold_in.row_extra
    fitted = old.fold_in.column_sums
    extra = fitted.mean() / 2  # with smoothing 1 the mean of the sums was added to each of them
    smooth = sums[new] + extra
    clicks = sp.diags(inv_sqrt(totals)) @ window[:, new] @ sp.diags(inv_sqrt(smooth))
    sigma = singular_values(old)
    inverse = np.divide(1.0, sigma, out=np.zeros_like(sigma), where=sigma > 0)
    vectors = np.asarray(clicks.T @ readers) * inverse
    ids = np.concatenate([old.ids, new])
    order = np.argsort(ids)
    matrix = np.concatenate([old.fold_in.matrix, vectors * inverse])
    column_sums = np.concatenate([fitted, smooth])
    fold_in = SVDFoldIn(matrix.astype(np.float32), column_sums, old.fold_in.row_extra)
    return Articles(
        ids[order],
        np.concatenate([old.vectors, vectors])[order].astype(np.float32),
        np.concatenate([old.scales, np.sqrt(smooth)])[order],
        fold_in.in_order(order),
        sums[ids[order]],
    )


def singular_values(articles: Articles) -> np.ndarray:
    """Σ, (k,): of V√Σ = (V Σ^(-1/2)) Σ."""
    lengths = np.linalg.norm(articles.vectors, axis=0)
    inverse = np.linalg.norm(articles.fold_in.matrix, axis=0)
    return np.divide(lengths, inverse, out=np.zeros_like(lengths), where=inverse > 0)


def found(articles: Articles, wanted: NextClicks, current: np.ndarray, top: int) -> np.ndarray:
    """Which next clicks are among the first `top`, (n,) float64.

    All current articles that have a vector are ranked; what the session has clicked comes last.
    """
    shown = articles.only(current)
    sessions = articles.fold_in.fold(wanted.history[:, articles.ids].tocsr())
    targets = shown.vectors * shown.scales[:, None].astype(np.float32)
    return hits(sessions, targets, shown.popularity, shown.ids, wanted, top)


def found_by_popularity(
    clicks: np.ndarray, wanted: NextClicks, current: np.ndarray, top: int
) -> np.ndarray:
    """The same where everyone is shown what had most clicks. clicks: (articles,)."""
    nothing = np.zeros((len(wanted.articles), 1), np.float32)
    targets = np.zeros((len(current), 1), np.float32)
    return hits(nothing, targets, clicks[current], current, wanted, top)


def hits(
    sessions: np.ndarray,
    targets: np.ndarray,
    popularity: np.ndarray,
    ids: np.ndarray,
    wanted: NextClicks,
    top: int,
) -> np.ndarray:
    """Which next clicks are among the first `top` of these articles, (n,). ids: (m,) ascending."""
    n = len(wanted.articles)
    once = sp.csr_matrix((np.ones(n), (np.arange(n), wanted.articles)), wanted.history.shape)
    relevant = once[:, ids].tocsr()
    ranking = rank(
        sessions,
        targets,
        seen=wanted.history[:, ids].tocsr(),
        relevant=relevant,
        popularity=popularity.astype(np.float32),
    )
    return ranking.with_missing(1 - np.diff(relevant.indptr)).recall(top)
