"""LightGCN: vectors that are averaged over the graph of engagements, and nothing else.

    E^(k+1) = S E^(k),   E = (E^(0) + … + E^(K)) / (K + 1) = P E^(0)

S_ij = 1 / √(d_i d_j) where i and j are a consumer and a producer who engaged, d being how many
neighbours each has. E^(0) is learned so that what a consumer engaged with is above what is drawn
at random (BPR):

    L = mean_(i, j⁺, j⁻) −log σ(e_i·e_j⁺ − e_i·e_j⁻)  +  λ (‖e_i⁰‖² + ‖e_j⁺⁰‖² + ‖e_j⁻⁰‖²)

Its gradient takes no more than sparse products, since P is symmetric: see `gradient`. Every step is
of all engagements, with new draws: the products cost the same for a few of them.

Source: He et al. 2020, "LightGCN: Simplifying and Powering Graph Convolution Network for
Recommendation", arXiv:2002.02126.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.special import expit

from embeddings.baselines.adam import Adam
from embeddings.kernels.normalize import normalize

SPREAD = 0.1  # standard deviation of the first vectors, as the authors have it


@dataclass(frozen=True)
class Options:
    """Everything that determines a training besides its input."""

    layers: int = 2  # K
    regularization: float = 1e-4  # λ
    steps: int = 150
    learning_rate: float = 0.05  # of Adam, at the start; it falls linearly to zero


def lightgcn(
    x: sp.csr_matrix, dim: int, options: Options, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors whose products rank producers: (n, k) and (m, k) float32.

    x: (n, m) strengths > 0, of which only counts that they are there.
    """
    rng = np.random.default_rng(seed)
    n, m = x.shape
    consumers, engaged = x.nonzero()
    graph = neighbours(x)
    first = rng.normal(0, SPREAD, (n + m, dim)).astype(np.float32)
    adam = Adam([first], options.learning_rate, options.steps)
    for _ in range(options.steps):
        drawn = rng.integers(0, m, len(engaged))
        triples = np.stack([consumers, n + engaged, n + drawn])
        adam.step([gradient(graph, first, triples, options)])
    found = averaged(graph, first, options.layers)
    return found[:n], found[n:]


def neighbours(x: sp.csr_matrix) -> sp.csr_matrix:
    """S, (n + m, n + m) float32; an empty row or column stays zero."""
    links = normalize((x > 0).astype(np.float32), dtype=np.float32)
    return sp.bmat([[None, links], [links.T, None]], format="csr")


def averaged(graph: sp.csr_matrix, first: np.ndarray, layers: int) -> np.ndarray:
    """P times some vectors, (n + m, k). graph: S."""
    total = first.copy()
    layer = first
    for _ in range(layers):
        layer = graph @ layer
        total += layer
    return total / np.float32(layers + 1)


def gradient(
    graph: sp.csr_matrix, first: np.ndarray, triples: np.ndarray, options: Options
) -> np.ndarray:
    """∂L / ∂E^(0), (n + m, k). triples: (3, b), rows of a consumer, of one engaged with, of a draw.

    With W_(i j⁺) = −σ(e_i·e_j⁻ − e_i·e_j⁺) / b and W_(i j⁻) its opposite, ∂L / ∂E = (W + Wᵀ) E.
    """
    consumer, engaged, drawn = triples
    last = averaged(graph, first, options.layers)
    behind = np.einsum("bk,bk->b", last[consumer], last[drawn] - last[engaged])
    slopes = expit(behind) / len(behind)
    pairs = np.tile(consumer, 2), np.concatenate([engaged, drawn])
    one_way = sp.csr_matrix((np.concatenate([-slopes, slopes]), pairs), shape=graph.shape)
    of_last = (one_way + one_way.T).astype(np.float32) @ last
    counts = np.bincount(triples.ravel(), minlength=len(first)).astype(np.float32)
    weights = 2 * options.regularization / len(behind) * counts
    return averaged(graph, of_last, options.layers) + weights[:, None] * first
