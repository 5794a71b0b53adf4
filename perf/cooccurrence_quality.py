"""make bench-cooccurrence_quality: NDCG@20 of co-occurrence beside tuned SVD, ALS and EASE.

Two days of KuaiRand, each retrieved from the days before it; MovieLens-100K and Last.fm where
EVERGREEN_DATA names their folder. Every method is tuned on one split, an earlier day or an inner
one at random, and tested on others. "as in texts" are word2vec's defaults by gensim: window 5,
exponent 0.75, subsampling, 5 epochs. Prints the table of docs/cooccurrence.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from gensim.models import Word2Vec
from rich.progress import Progress

from embeddings.benchmarks.metrics import Ranking, rank, rank_scores
from embeddings.embedders.cooccurrence import Options
from jobs.reports.methods import Cooccurrence, Method, candidates
from perf.report import Figure, arguments, finish
from perf.retrieval import Retrieval, kuairand, lastfm, movielens

TOP = 20  # of NDCG
TUNED_ON = 20220501
TESTED_ON = (20220503, 20220504)
PENALTIES = (100.0, 300.0, 1000.0)  # of EASE
EPOCHS = (10, 20, 40)
DIMS = (32, 64)
Ranker = Callable[[Retrieval], Ranking]


@dataclass(frozen=True)
class Data:
    """What methods are tuned on, and what they are tested on."""

    name: str
    tuned_on: Retrieval
    tested_on: list[Retrieval]


def main() -> int:
    options = arguments(__doc__)
    figures = []
    data_sets = data_of(options.seed)
    with Progress() as progress:
        for data in data_sets:
            grids = grids_of(options.seed)
            task = progress.add_task(data.name, total=len(grids))
            for name, grid in grids.items():
                value, chosen = tuned(data, grid)
                figures.append(Figure(f"{data.name}: {name}, {chosen}".rstrip(", "), value, ""))
                progress.console.print(f"{figures[-1].name}: {value:.4f}")
                progress.advance(task)
    return finish("cooccurrence_quality", figures, options.seed)


def data_of(seed: int) -> list[Data]:
    """The public data sets that are there, and KuaiRand."""
    found = []
    folder = os.environ.get("EVERGREEN_DATA")
    if folder:
        for retrieval in (movielens(Path(folder)), lastfm(Path(folder), seed)):
            found.append(Data(retrieval.name, retrieval.inner(seed), [retrieval]))
    days = [kuairand(day) for day in TESTED_ON]
    return [*found, Data("KuaiRand", kuairand(TUNED_ON), days)]


def tuned(data: Data, grid: dict[str, Ranker]) -> tuple[float, str]:
    """The mean NDCG@TOP of the tests by the ranker that is best where they are tuned; its name."""
    values = {}
    if len(grid) > 1:
        for name, ranker in grid.items():
            values[name] = ndcg(ranker, data.tuned_on)
    best = max(grid, key=lambda name: values.get(name, 0.0))
    return float(np.mean([ndcg(grid[best], test) for test in data.tested_on])), best


def ndcg(ranker: Ranker, retrieval: Retrieval) -> float:
    return float(ranker(retrieval).ndcg(TOP).mean())


def grids_of(seed: int) -> dict[str, dict[str, Ranker]]:
    """The rankers of each method, by a text that tells them apart."""
    grids: dict[str, dict[str, Ranker]] = {
        "popularity": {"": by_popularity},
        "EASE": {f"λ {penalty:g}": ease(penalty) for penalty in PENALTIES},
        "as in texts": {"": lambda retrieval: as_in_texts(retrieval, seed)},
        "baskets, defaults": {"": by_method(Cooccurrence(), seed)},
        "direct, defaults": {"": by_method(Cooccurrence(Options(pairs="direct")), seed)},
    }
    methods = candidates() | {"baskets, tuned": baskets()}
    for name, grid in methods.items():
        grids[name] = {method.options: by_method(method, seed) for method in grid}
    return grids


def baskets() -> list[Method]:
    """Co-occurrence by epochs and length."""
    methods: list[Method] = []
    for epochs, dim in product(EPOCHS, DIMS):
        methods.append(Cooccurrence(Options(epochs=epochs), dim))
    return methods


def by_method(method: Method, seed: int) -> Ranker:
    """Rank by the vectors of a factorisation."""

    def ranked(retrieval: Retrieval) -> Ranking:
        model = method.fit(retrieval.train, seed)
        return by_vectors(retrieval, model.consumers, model.targets)

    return ranked


def by_vectors(retrieval: Retrieval, consumers: np.ndarray, producers: np.ndarray) -> Ranking:
    rows = retrieval.rows
    return rank(consumers[rows], producers, retrieval.seen(), retrieval.test[rows])


def by_popularity(retrieval: Retrieval) -> Ranking:
    n, m = retrieval.train.shape
    popularity = np.bincount(retrieval.train.indices, minlength=m)
    return by_vectors(retrieval, np.ones((n, 1), np.float32), popularity[:, None])


def ease(penalty: float) -> Ranker:
    """Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", arXiv:1905.03375.

    With P = (XᵀX + λI)⁻¹ the weights are I − P / diag(P), and the scores X − X P / diag(P).
    """

    def ranked(retrieval: Retrieval) -> Ranking:
        x = (retrieval.train > 0).astype(np.float32)
        products, diagonal = inverse_products(x, retrieval.rows, penalty)
        known = retrieval.seen()

        def scores(chunk: slice) -> np.ndarray:
            found = x[retrieval.rows[chunk]].toarray() - products[chunk] / diagonal
            found[known[chunk].nonzero()] = -np.inf
            return found

        return rank_scores(scores, retrieval.test[retrieval.rows])

    return ranked


def inverse_products(
    x: sp.csr_matrix, rows: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """X P of these rows, (rows, m), and the diagonal of P, (m,), by the smaller Gram matrix."""
    n, m = x.shape
    if m <= n:
        inverse = np.linalg.inv((x.T @ x).toarray() + penalty * np.eye(m, dtype=np.float32))
        return x[rows] @ inverse, np.diag(inverse)
    # Woodbury: λP = I − Xᵀ (XXᵀ + λI)⁻¹ X.
    gram = (x @ x.T).toarray()
    solved = np.linalg.inv(gram + penalty * np.eye(n, dtype=np.float32)) @ x  # (n, m)
    diagonal = 1 - np.asarray(x.multiply(solved).sum(axis=0)).ravel()
    return (x[rows].toarray() - gram[rows] @ solved) / penalty, diagonal / penalty


def as_in_texts(retrieval: Retrieval, seed: int) -> Ranking:
    """item2vec by gensim's defaults; a consumer is the mean of its producers' input vectors."""
    sentences = []
    for row in np.split(retrieval.train.indices, retrieval.train.indptr[1:-1]):
        sentences.append([str(column) for column in row])
    model = Word2Vec(sentences, vector_size=DIMS[0], sg=1, min_count=1, workers=1, seed=seed)
    vectors = np.zeros((retrieval.train.shape[1], DIMS[0]), np.float32)
    outputs = np.zeros_like(vectors)
    known = [int(word) for word in model.wv.index_to_key]
    vectors[known] = model.wv.vectors
    outputs[known] = model.syn1neg
    return by_vectors(retrieval, np.asarray(retrieval.train @ vectors), outputs)


if __name__ == "__main__":
    sys.exit(main())
