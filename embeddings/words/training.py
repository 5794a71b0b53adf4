"""Skip-gram with negative sampling on counted pairs: vectors of words.

    Σ_(a,b) w_ab (log σ(e_a·v_b) + Σ_negatives log σ(−e_a·v_n))   is maximised

over input vectors e and output vectors v, by the trainer of `embeddings.cooccurrence`: each word
is a row, and its pairs are the row's entries. What word2vec draws is an expectation here: the
windows are in the weights of the pairs, and a word that is kept with probability c multiplies the
weights of its pairs by c. Source: Mikolov et al. 2013, arXiv:1310.4546.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from embeddings.blocks import even_split
from embeddings.cooccurrence.training import Config, fit, kept_shares
from embeddings.kernels.communicator import Communicator
from embeddings.words.meaning import LEAST, Half

PENALTY = 1e-6  # on the length of an input vector: word2vec has none


@dataclass(frozen=True)
class WordConfig:
    """Everything that determines a fit: see [words] in the settings."""

    dim: int
    seed: int = 0
    epochs: int = 15
    batches: int = 50
    negatives: int = 5
    negative_exponent: float = 0.75
    subsample: float = 1e-3
    learning_rate: float = 0.2

    def of_trainer(self) -> Config:
        """As the trainer takes it: the words are subsampled before."""
        options = vars(self) | {"subsample": 0.0}
        return Config(pairs="direct", regularization=PENALTY, **options)


@dataclass(frozen=True)
class WordVectors:
    """The result of a fit of m words.

    inputs, outputs: (m, k) float32; keep: (m,) float32, the share of each word that was passed;
    losses: (epochs,).
    """

    inputs: np.ndarray
    outputs: np.ndarray
    keep: np.ndarray
    losses: np.ndarray


def fit_words(
    pairs: sp.csr_matrix, ids: np.ndarray, counts: np.ndarray, cfg: WordConfig, comm: Communicator
) -> WordVectors:
    """One worker's part of a fit, which all workers return whole.

    pairs: (m, m) weights >= 0, the same on every worker. ids: (m,) bytes, which decide where a word
    starts. counts: (m,) occurrences. Another number of workers changes only the rounding.
    """
    keep = kept_shares(counts.astype(np.float64), cfg.subsample)
    passed = (sp.diags(keep) @ pairs @ sp.diags(keep)).tocsr().astype(np.float32)
    passed.eliminate_zeros()
    rows = even_split(passed.indptr, comm.size)[comm.rank]
    trained = fit(passed[rows], cfg.of_trainer(), comm, ids)
    assert trained.consumers is not None, "pairs are direct"
    inputs = comm.allgather(np.ascontiguousarray(trained.consumers))
    return WordVectors(inputs, trained.outputs, keep, trained.losses)


def fit_half(
    pairs: sp.csr_matrix, ids: np.ndarray, counts: np.ndarray, cfg: WordConfig, comm: Communicator
) -> Half:
    """One worker's part of a fit of the words that a half of the texts has often enough."""
    often = np.flatnonzero(counts >= LEAST)
    own = pairs[often][:, often].tocsr()
    found = fit_words(own, ids[often], counts[often], cfg, comm)
    return Half(ids[often], found.inputs, counts[often])
