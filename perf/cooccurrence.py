"""make bench-cooccurrence: co-occurrence training, k = 128, against gensim's word2vec.

20,000 consumers with some 20 of 5,000 producers each, in 50 communities; one producer of every
consumer is held out. A basket is a sentence, and the window is the whole of it. All have the same
epochs, 5 negatives and noise exponent 0.75, one thread, and run in turn. A pair is a producer that
is predicted once from one input, with its negatives: the input is the mean of the other producers
("baskets", gensim's CBOW), or one vector ("direct", gensim's skip-gram). Rates are pairs per second
of CPU without the vocabulary, medians. NDCG@20 is of the held-out producers, best of three
learning rates each: input vectors averaged, output vectors ranked. SIZE=0.1 makes the data a tenth
as large.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from statistics import median
from typing import Literal

import numpy as np
import scipy.sparse as sp
from gensim.models import Word2Vec
from rich.progress import track

from embeddings.benchmarks.metrics import rank
from embeddings.benchmarks.splits import split_by_consumer
from embeddings.cooccurrence.training import Config, fit
from embeddings.embedders.cooccurrence import Options, fold_in_of
from embeddings.kernels.communicator import SingleWorker
from perf.report import Figure, arguments, finish
from perf.svd import community_matrix

DIM = 128
EPOCHS = 10
NEGATIVES = 5
EXPONENT = 0.75
ROUNDS = 3
TOP = 20  # of NDCG
# Learning rates, one a round, around the best of each.
RATES = {
    "baskets": (0.015, 0.02, 0.03),
    "CBOW": (0.015, 0.02, 0.03),
    "direct": (0.1, 0.2, 0.4),
    "skip-gram": (0.0025, 0.005, 0.01),
}
Vectors = tuple[np.ndarray, np.ndarray]  # of the consumers and of the producers


def main() -> int:
    options = arguments(__doc__, size="1")
    size = float(options.size)
    x = community_matrix(int(20_000 * size), int(5000 * size), int(4e5 * size), 50, options.seed)
    x.data[:] = 1.0
    split = split_by_consumer(x, options.seed, test=0.05, validation=0.0)
    train = split.train + split.validation
    print(f"{x.shape[0]:,} x {x.shape[1]:,}, {train.nnz:,} engagements to learn from", flush=True)
    fit_ours(train[:1000], "baskets", 0.1, options.seed)  # compile before anything is timed
    fit_ours(train[:1000], "direct", 0.1, options.seed)
    figures = against_gensim(train, split.test, options.seed)
    return finish("cooccurrence", figures, options.seed)


def against_gensim(train: sp.csr_matrix, test: sp.csr_matrix, seed: int) -> list[Figure]:
    """Rates and quality of both kinds of pairs."""
    baskets = np.diff(train.indptr)
    one_input = int(np.sum(baskets * (baskets - 1)))  # every other producer of the basket, in turn
    fits = {
        "baskets": (partial(fit_ours, train, "baskets"), train.nnz),
        "CBOW": (partial(fit_gensim, train, 0), train.nnz),
        "direct": (partial(fit_ours, train, "direct"), train.nnz),
        "skip-gram": (partial(fit_gensim, train, 1), one_input),
    }
    rates: dict[str, list[float]] = {name: [] for name in fits}
    best = dict.fromkeys(fits, 0.0)
    for turn in track(range(ROUNDS), "against gensim"):
        for name, (train_on, pairs) in fits.items():
            cpu_s, vectors = train_on(RATES[name][turn], seed)
            rates[name].append(EPOCHS * pairs / cpu_s)
            best[name] = max(best[name], mean_ndcg(train, test, vectors))
    figures = []
    for ours, theirs in (("baskets", "CBOW"), ("direct", "skip-gram")):
        figures.append(
            Figure(
                f"{ours}, pairs",
                median(rates[ours]),
                "/core-s",
                peer=f"gensim, {theirs}",
                peer_value=median(rates[theirs]),
                bar=1.0,
                at_most=False,
                bar_on_ratio=True,
            )
        )
    for theirs in ("CBOW", "skip-gram"):
        figures.append(
            Figure(
                "baskets, NDCG@20",
                best["baskets"],
                "",
                peer=f"gensim, {theirs}",
                peer_value=best[theirs],
                bar=0.99,
                at_most=False,
                bar_on_ratio=True,
            )
        )
    figures.append(Figure("direct, NDCG@20", best["direct"], "", "baskets", best["baskets"]))
    return figures


def shared_options(pairs: Literal["baskets", "direct"], learning_rate: float) -> Options:
    """The settings that ours and gensim share."""
    return Options(
        pairs=pairs,
        epochs=EPOCHS,
        negatives=NEGATIVES,
        negative_exponent=EXPONENT,
        learning_rate=learning_rate,
    )


def fit_ours(
    train: sp.csr_matrix, pairs: Literal["baskets", "direct"], learning_rate: float, seed: int
) -> tuple[float, Vectors]:
    """Seconds of CPU of the training, and the vectors."""
    cfg = Config(dim=DIM, seed=seed, **shared_options(pairs, learning_rate).model_dump())
    ids = np.arange(train.shape[1]).astype(np.bytes_)
    started = time.process_time()
    trained = fit(train, cfg, SingleWorker(), ids)
    cpu_s = time.process_time() - started
    fold_in = fold_in_of(trained, np.asarray(train.sum(axis=0)).ravel(), cfg)
    return cpu_s, (fold_in.fold(train), trained.outputs)


def fit_gensim(
    train: sp.csr_matrix, skip_gram: int, learning_rate: float, seed: int
) -> tuple[float, Vectors]:
    """The same of gensim. Its vocabulary is built before."""
    sentences = []
    for row in np.split(train.indices, train.indptr[1:-1]):
        sentences.append([str(column) for column in row])
    model = Word2Vec(
        vector_size=DIM,
        window=max(len(sentence) for sentence in sentences),
        shrink_windows=False,
        min_count=1,
        sample=0,
        sg=skip_gram,
        negative=NEGATIVES,
        ns_exponent=EXPONENT,
        alpha=learning_rate,
        epochs=EPOCHS,
        workers=1,
        seed=seed,
    )
    model.build_vocab(sentences)
    started = time.process_time()
    model.train(sentences, total_examples=len(sentences), epochs=EPOCHS)
    cpu_s = time.process_time() - started
    known = [int(word) for word in model.wv.index_to_key]
    inputs = np.zeros((train.shape[1], DIM), np.float32)
    outputs = np.zeros_like(inputs)
    inputs[known] = model.wv.vectors
    outputs[known] = model.syn1neg
    return cpu_s, (np.asarray(train @ inputs), outputs)


def mean_ndcg(train: sp.csr_matrix, test: sp.csr_matrix, vectors: Vectors) -> float:
    """Mean NDCG@TOP of the consumers with a held-out producer."""
    rows = np.flatnonzero(np.diff(test.indptr))
    consumers, producers = vectors
    return float(rank(consumers[rows], producers, train[rows], test[rows]).ndcg(TOP).mean())


if __name__ == "__main__":
    sys.exit(main())
