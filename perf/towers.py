"""make bench-towers: our two towers beside the same two on TorchRec's collection of bags.

The same engagements, features, batches, first weights and loss, with the default options: see
`perf.torchrec_towers` for what differs. A day's towers rank producers for all consumers of the next
day, newcomers by their profile. CPU time is that of the training alone, on one thread. Intervals
resample consumers; the difference is paired. SIZE=2 is the number of seeds. The day is the last one
of the settings' log that another one follows; what is missing below home is computed.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

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
from perf.report import Figure, arguments, finish
from perf.tower_options import next_day_ndcg

OURS, PEER = "towers", "TorchRec"
Train = Callable[..., Trained]
TRAINERS: dict[str, Train] = {OURS: training.train, PEER: torchrec_towers.train}


def main() -> int:
    options = arguments(__doc__, size="2")
    warnings.simplefilter("ignore")  # TorchRec's about itself
    settings = load_settings()
    day = open_source(settings).span()[1] - timedelta(days=1)
    for step, needed in (("matrix", day), ("validate", day + timedelta(days=1))):
        ensure(settings, step, needed, lambda: spark_session(settings))
    clean = settings.lake.get("validate", day)
    inputs = inputs_of(settings.lake.get("matrix", day).path, clean)
    seconds: dict[str, list[float]] = {name: [] for name in TRAINERS}
    values: dict[str, list[np.ndarray]] = {name: [] for name in TRAINERS}
    for seed in track(range(options.seed, options.seed + int(options.size)), "seeds"):
        cfg = Config(dim=settings.embedding.dim, seed=seed, **Options().model_dump())
        for name, train in TRAINERS.items():
            cpu_s, trained = fitted(train, inputs, cfg)
            seconds[name].append(cpu_s)
            fold_in, vectors = published(trained, inputs)
            values[name].append(next_day_ndcg(settings, day, fold_in, vectors, inputs.ids))
    pairs = Pairs(inputs.x, cfg.draw)
    millions = pairs.batches * pairs.size * cfg.epochs / 1e6
    return finish("towers", figures_of(seconds, values, millions), options.seed)


class Inputs:
    """What both learn from."""

    def __init__(self, share: MatrixShare) -> None:
        self.x = share.by_consumer(lambda block: block.astype(np.float32))
        self.profiles = share.consumer_features or nothing(self.x.shape[0])
        self.traits: Features = with_popularity(share.producer_features, share.column_sums)
        self.ids = share.producer_ids


def inputs_of(matrix: Path, clean: Partition) -> Inputs:
    def work(comm) -> Inputs:
        share = MatrixShare(matrix, comm)
        share.consumer_features = consumer_features(clean, share.consumer_ids())
        share.producer_features = producer_features(clean, share.producer_ids)
        return Inputs(share)

    return run_threads(1, work)[0]


def fitted(train: Train, inputs: Inputs, cfg: Config) -> tuple[float, Trained]:
    """Seconds of CPU, and the towers."""
    started = time.process_time()
    trained = train(inputs.x, inputs.profiles.rows, inputs.traits.rows, inputs.ids, cfg)
    return time.process_time() - started, trained


def published(trained: Trained, inputs: Inputs) -> tuple[TowersFoldIn, np.ndarray]:
    """The fold-in of consumers, and the vectors of producers: (m, k)."""
    vocabularies = inputs.profiles.vocabulary, inputs.traits.vocabulary
    fold_in = TowersFoldIn.of(trained.consumer, trained.producer, *vocabularies)
    own = sp.identity(len(inputs.ids), np.float32, format="csr")
    return fold_in, trained.producer.vectors(own, inputs.traits.rows)


def figures_of(
    seconds: dict[str, list[float]], values: dict[str, list[np.ndarray]], millions: float
) -> list[Figure]:
    """values: NDCG@20 of each consumer, of every seed. millions: of pairs in one training."""
    estimates = mean_estimates({name: np.concatenate(all_) for name, all_ in values.items()}, 0)
    speeds = {name: millions / float(np.median(taken)) for name, taken in seconds.items()}
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
