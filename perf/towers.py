"""make bench-towers: our two towers beside the same two on TorchRec's collection of bags.

The same engagements, features, batches, first weights and loss, with the default options: see
`perf.torchrec_towers` for what differs. A day's towers rank producers for all consumers of the next
day, newcomers by their profile. Intervals resample consumers; the difference is paired. SIZE=2 is
the number of seeds. Speed is that of one pass over the first consumers' engagements on one thread,
CPU time, the median of rounds that alternate. The day is the last one of the settings' log that
another one follows; what is missing below home is computed.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from statistics import median

import numpy as np
import scipy.sparse as sp
from rich.progress import track

from embeddings.benchmarks.intervals import mean_estimates
from embeddings.blocks import MatrixShare
from embeddings.embedders.towers import Options, nothing, with_popularity
from embeddings.features import Features
from embeddings.fold_in.towers import TowersFoldIn
from embeddings.kernels.communicator import run_threads
from embeddings.towers import training
from embeddings.towers.batches import Pairs
from embeddings.towers.training import Config, Trained
from jobs.features.entity_features import consumer_features, producer_features
from jobs.lake.store import Partition
from jobs.pipeline.running import ensure
from jobs.settings import load_settings
from jobs.sources import open_source
from jobs.spark.session import spark_session
from perf import torchrec_towers
from perf.embedder_options import next_day_ndcg
from perf.report import Figure, arguments, finish
from perf.torchrec_peer import INSTALLED

OURS, PEER = "towers", "TorchRec"
FIRST, ROUNDS = 6000, 9  # consumers of which the speed is measured, and how often
Train = Callable[..., Trained]
TRAINERS: dict[str, Train] = {OURS: training.train, PEER: torchrec_towers.train}


def main() -> int:
    options = arguments(__doc__, size="2")
    if not INSTALLED:
        sys.exit("TorchRec is not installed: `make install` does it where it can be had.")
    warnings.simplefilter("ignore")  # TorchRec's about itself
    settings = load_settings()
    day = open_source(settings).span()[1] - timedelta(days=1)
    for step, needed in (("matrix", day), ("validate", day + timedelta(days=1))):
        ensure(settings, step, needed, lambda: spark_session(settings))
    clean = settings.lake.get("validate", day)
    inputs = inputs_of(settings.lake.get("matrix", day).path, clean)
    values: dict[str, list[np.ndarray]] = {name: [] for name in TRAINERS}
    for seed in track(range(options.seed, options.seed + int(options.size)), "seeds"):
        cfg = Config(dim=settings.embedding.dim, seed=seed, **Options().model_dump())
        for name, train in TRAINERS.items():
            fold_in, vectors = published(inputs.fitted(train, cfg), inputs)
            values[name].append(next_day_ndcg(settings, day, fold_in, vectors, inputs.ids))
    return finish("towers", figures_of(values, speeds_of(inputs, cfg)), options.seed)


class Inputs:
    """What both learn from."""

    def __init__(self, share: MatrixShare) -> None:
        self.x = share.by_consumer(lambda block: block.astype(np.float32))
        self.profiles = share.consumer_features or nothing(self.x.shape[0])
        self.traits: Features = with_popularity(share.producer_features, share.column_sums)
        self.ids = share.producer_ids

    def fitted(self, train: Train, cfg: Config, consumers: int | None = None) -> Trained:
        """Both towers. consumers: the first ones alone."""
        rows = slice(consumers)
        return train(self.x[rows], self.profiles.rows[rows], self.traits.rows, self.ids, cfg)


def inputs_of(matrix: Path, clean: Partition) -> Inputs:
    def work(comm) -> Inputs:
        share = MatrixShare(matrix, comm)
        share.consumer_features = consumer_features(clean, share.consumer_ids())
        share.producer_features = producer_features(clean, share.producer_ids)
        return Inputs(share)

    return run_threads(1, work)[0]


def speeds_of(inputs: Inputs, cfg: Config) -> dict[str, float]:
    """Million pairs per second of CPU, of each."""
    once = replace(cfg, epochs=1)
    pairs = Pairs(inputs.x[:FIRST], cfg.draw)
    seconds: dict[str, list[float]] = {name: [] for name in TRAINERS}
    for train in TRAINERS.values():
        inputs.fitted(train, once, FIRST // 10)
    for _ in track(range(ROUNDS), "speed"):
        for name, train in TRAINERS.items():
            started = time.process_time()
            inputs.fitted(train, once, FIRST)
            seconds[name].append(time.process_time() - started)
    millions = pairs.batches * pairs.size / 1e6
    return {name: millions / median(taken) for name, taken in seconds.items()}


def published(trained: Trained, inputs: Inputs) -> tuple[TowersFoldIn, np.ndarray]:
    """The fold-in of consumers, and the vectors of producers: (m, k)."""
    vocabularies = inputs.profiles.vocabulary, inputs.traits.vocabulary
    fold_in = TowersFoldIn.of(trained.consumer, trained.producer, *vocabularies)
    own = sp.identity(len(inputs.ids), np.float32, format="csr")
    return fold_in, trained.producer.vectors(own, inputs.traits.rows)


def figures_of(values: dict[str, list[np.ndarray]], speeds: dict[str, float]) -> list[Figure]:
    """values: NDCG@20 of each consumer, of every seed."""
    estimates = mean_estimates({name: np.concatenate(all_) for name, all_ in values.items()}, 0)
    difference = estimates[OURS] - estimates[PEER]
    return [
        Figure("NDCG@20", float(estimates[OURS].value), "", PEER, float(estimates[PEER].value)),
        Figure("difference", float(difference.value), ""),
        Figure("difference, low", float(difference.low), ""),
        Figure("difference, high", float(difference.high), ""),
        Figure(
            "pairs learned",
            speeds[OURS],
            "M pairs / core-s",
            PEER,
            speeds[PEER],
            1.0,
            at_most=False,
            bar_on_ratio=True,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
