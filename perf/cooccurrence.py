"""make bench-cooccurrence: co-occurrence training, k = 128, against gensim's word2vec.

20,000 consumers with some 20 of 5,000 producers each, in 50 communities; one producer of every
consumer is held out. A basket is a sentence, and the window is the whole of it. All have the same
epochs, 5 negatives and noise exponent 0.75, one thread, and run in turn. A pair is a producer that
is predicted once from one input, with its negatives: the input is the mean of the other producers
("baskets", gensim's CBOW), or one vector ("direct", gensim's skip-gram). Rates are pairs per second
of CPU without the vocabulary, medians. NDCG@20 is of the held-out producers, best of three
learning rates each: input vectors averaged, output vectors ranked. Memory is the peak of a fit of
100 M different pairs (2 M consumers with 50 of 200,000 producers, all equally likely), k = 128, one
epoch in batches of 200,000 pairs, beyond the matrix; each kind of pairs in a process of its own.
SIZE=0.1 makes the data a tenth as large.
"""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path
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
MEMORY_PRODUCERS = 200_000
MEMORY_CONSUMERS = 2_000_000
MEMORY_BASKET = 50  # producers of each consumer
MEMORY_BATCH = 200_000  # pairs
MEMORY = "memory "  # begins the size in a process of its own, see `memory_ratio`
Kind = Literal["baskets", "direct"]
KINDS: tuple[Kind, ...] = ("baskets", "direct")
Vectors = tuple[np.ndarray, np.ndarray]  # of the consumers and of the producers


def main() -> int:
    options = arguments(__doc__, size="1")
    if options.size.startswith(MEMORY):
        pairs, size = options.size.removeprefix(MEMORY).split()
        return print_memory_ratio(pairs, float(size))
    size = float(options.size)
    x = community_matrix(int(20_000 * size), int(5000 * size), int(4e5 * size), 50, options.seed)
    x.data[:] = 1.0
    split = split_by_consumer(x, options.seed, test=0.05, validation=0.0)
    train = split.train + split.validation
    print(f"{x.shape[0]:,} x {x.shape[1]:,}, {train.nnz:,} engagements to learn from", flush=True)
    fit_ours(train[:1000], "baskets", 0.1, options.seed)  # compile before anything is timed
    fit_ours(train[:1000], "direct", 0.1, options.seed)
    figures = against_gensim(train, split.test, options.seed)
    for pairs in KINDS:
        name = f"{pairs}, memory of {100 * size:g} M pairs"
        figures.append(Figure(name, memory_ratio(pairs, size), "tables", bar=2.0))
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


def shared_options(pairs: Kind, learning_rate: float) -> Options:
    """The settings that ours and gensim share."""
    return Options(
        pairs=pairs,
        epochs=EPOCHS,
        negatives=NEGATIVES,
        negative_exponent=EXPONENT,
        learning_rate=learning_rate,
    )


def fit_ours(
    train: sp.csr_matrix, pairs: Kind, learning_rate: float, seed: int
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


def memory_ratio(pairs: Kind, size: float) -> float:
    """Of a process of its own, because what a process took before would count."""
    command = [sys.executable, "-m", "perf.cooccurrence", "--size", f"{MEMORY}{pairs} {size}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def print_memory_ratio(pairs: Kind, size: float) -> int:
    """Print the peak memory of a fit beyond that before it, in units of its two tables."""
    consumers = int(MEMORY_CONSUMERS * size)
    indptr = np.arange(consumers + 1) * MEMORY_BASKET
    rng = np.random.default_rng(0)
    columns = rng.integers(0, MEMORY_PRODUCERS, indptr[-1], dtype=np.int32)
    ones = np.ones(len(columns), np.float32)
    x = sp.csr_matrix((ones, columns, indptr), shape=(consumers, MEMORY_PRODUCERS))
    ids = np.arange(MEMORY_PRODUCERS).astype(np.bytes_)
    changes = {"epochs": 1, "batches": max(1, len(columns) // MEMORY_BATCH)}
    options = shared_options(pairs, 0.1).model_copy(update=changes)
    cfg = Config(dim=DIM, seed=0, **options.model_dump())
    fit(x[:1, :100], cfg, SingleWorker(), ids[:100])  # compiles
    Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
    before = peak_bytes()
    fit(x, cfg, SingleWorker(), ids)
    inputs = MEMORY_PRODUCERS if pairs == "baskets" else consumers
    tables = (MEMORY_PRODUCERS + inputs) * DIM * 4
    print((peak_bytes() - before) / tables)
    return 0


def peak_bytes() -> int:
    """The largest memory of this process so far, from Linux."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    sys.exit(main())
