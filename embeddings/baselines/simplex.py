"""SimpleX: cosines of a consumer's own vector and its history with producers; many negatives.

    h_i = g c_i + (1 − g) W mean_(j engaged with) p_j
    s_ij = cos(h_i, p_j)

    L = mean_(i, j⁺) (1 − s_ij⁺)  +  w · mean_(j⁻ drawn) max(0, s_ij⁻ − μ)

The cosine contrastive loss pushes only those negatives away that are nearer than the margin μ.
The drawn are the same for all consumers of a batch, so that the many cosines are one product.

Source: Mao et al. 2021, "SimpleX: A Simple and Strong Baseline for Collaborative Filtering",
arXiv:2109.12613; here the history is whole, not its last producers only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from embeddings.baselines.adam import Adam

SPREAD = 0.1  # standard deviation of the first vectors
SHORTEST = 1e-12  # a vector shorter than this has no direction


@dataclass(frozen=True)
class Options:
    """Everything that determines a training besides its input."""

    margin: float = 0.4  # μ
    weight: float = 10.0  # w
    own: float = 0.5  # g
    negatives: int = 1000  # drawn for a batch
    epochs: int = 20
    batches: int = 10  # updates in one epoch, at most
    learning_rate: float = 0.02  # of Adam, at the start; it falls linearly to zero


def simplex(
    x: sp.csr_matrix, dim: int, options: Options, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length 1, or 0 without a history, whose products are cosines: (n, k), (m, k).

    x: (n, m) strengths > 0, of which only counts that they are there.
    """
    rng = np.random.default_rng(seed)
    weights = first_weights(x.shape, dim, rng)
    engaged = (x > 0).astype(np.float32)
    active = np.flatnonzero(np.diff(x.indptr))
    batches = min(options.batches, len(active))
    adam = Adam(weights, options.learning_rate, options.epochs * batches)
    for _ in range(options.epochs):
        for rows in np.array_split(rng.permutation(active), batches):
            drawn = rng.integers(0, x.shape[1], options.negatives)
            adam.step(gradients(weights, engaged[rows], rows, drawn, options))
    found = np.zeros((x.shape[0], dim), np.float32)
    found[active] = unit(consumers(weights, engaged[active], active, options.own))
    return found, unit(weights[1])


def first_weights(shape: tuple[int, int], dim: int, rng: np.random.Generator) -> list[np.ndarray]:
    """c (n, k) and p (m, k), small and random, and W = I (k, k), as float32."""
    own, producers = [rng.normal(0, SPREAD, (count, dim)).astype(np.float32) for count in shape]
    return [own, producers, np.eye(dim, dtype=np.float32)]


def consumers(
    weights: list[np.ndarray], engaged: sp.csr_matrix, rows: np.ndarray, own: float
) -> np.ndarray:
    """h of some consumers, (r, k). engaged: (r, m), 1 where they have engaged."""
    of_consumers, producers, turn = weights
    return np.float32(own) * of_consumers[rows] + np.float32(1 - own) * (
        mean_of(engaged) @ producers @ turn.T
    )


def gradients(
    weights: list[np.ndarray],
    engaged: sp.csr_matrix,
    rows: np.ndarray,
    drawn: np.ndarray,
    options: Options,
) -> list[np.ndarray]:
    """∂L of each of the weights, L being that of the engagements of some consumers.

    engaged: (r, m), 1 where the consumers of these rows have engaged; drawn: (d,), producers.
    """
    own, producers, turn = weights
    h = consumers(weights, engaged, rows, options.own)
    h_unit, p_unit = unit(h), unit(producers)
    shares = engaged / np.float32(engaged.nnz)  # each engagement in the mean of all
    too_near = h_unit @ p_unit[drawn].T > options.margin  # (r, d)
    of_each = shares.sum(axis=1).A1 * np.float32(options.weight / len(drawn))
    pushes = too_near * of_each[:, None].astype(np.float32)
    of_h = turned_back(h, pushes @ p_unit[drawn] - shares @ p_unit)
    of_p_unit = -shares.T @ h_unit
    np.add.at(of_p_unit, drawn, pushes.T @ h_unit)
    through = np.float32(1 - options.own) * of_h  # ∂L of the history's part of h
    history = mean_of(engaged)
    of_own = np.zeros_like(own)
    of_own[rows] = np.float32(options.own) * of_h
    of_producers = turned_back(producers, of_p_unit) + history.T @ (through @ turn)
    return [of_own, of_producers, through.T @ (history @ producers)]


def mean_of(engaged: sp.csr_matrix) -> sp.csr_matrix:
    """Times vectors of producers, the mean of each history. engaged: (r, m), 0 or 1."""
    counts = np.maximum(np.diff(engaged.indptr), 1)
    return (sp.diags((1 / counts).astype(np.float32)) @ engaged).tocsr()


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1, of the same directions."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), SHORTEST)


def turned_back(vectors: np.ndarray, of_unit: np.ndarray) -> np.ndarray:
    """∂L of vectors v, of ∂L of u = v / ‖v‖: (∂u − u (u·∂u)) / ‖v‖."""
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), SHORTEST)
    units = vectors / lengths
    along = np.einsum("rk,rk->r", units, of_unit)[:, None]
    return (of_unit - units * along) / lengths
