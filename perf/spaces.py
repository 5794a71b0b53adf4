"""make bench-spaces: what a new space costs the ranker, on the days of the settings' log.

From a day on, all vectors are rotated by one random orthogonal matrix and are in a space of their
own. Every later day is ranked by a model of the days before it, trained and tested as the steps do
it: vectors of the older space are masked. The loss is that of AUC against the same models without a
break, over models of several seeds; its interval resamples users. The peer leaves the days of the
older space out, so that no model can be tested on the first day. SIZE=3 is the number of seeds.
The examples are those below home; what is missing is computed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.parquet as pq
from rich.progress import track

from embeddings.benchmarks.intervals import Estimate, user_bootstrap
from jobs.errors import Skip
from jobs.pipeline import chain
from jobs.pipeline.running import ensure
from jobs.settings import Settings, load_settings
from jobs.sources import open_source
from jobs.spark.session import spark_session
from jobs.steps.evaluate import label_column
from jobs.steps.examples import EXAMPLES, spec_of
from jobs.steps.train import load_day, training_config
from models.features import Day, FeatureSpec
from models.metrics import auc
from models.training import predict, train
from perf.report import Figure, arguments, finish

BREAKS = (3, 6, 9)  # days of examples before the new space
BAR = 0.003  # of AUC, on each day
RESAMPLES = 100


@dataclass(frozen=True)
class Log:
    """The days with examples, in one space.

    users: by day, the consumer of each row. label: the column of the primary label.
    """

    settings: Settings
    days: list[Day]
    users: list[np.ndarray]
    spec: FeatureSpec
    label: int

    def scores(self, days: list[Day], tested: Day, seed: int) -> np.ndarray:
        """The scores of the newest model of these days on a day that follows them, (n,)."""
        ranker = self.settings.ranker
        window = days[-ranker.window_days :]
        cfg = training_config(ranker, seed)
        trained = train(window, self.spec, ranker.kind, ranker.options, cfg)
        readable = tested if trained.space in ("", tested.space) else tested.masked()
        return predict(trained.model, readable, trained.space)[:, self.label]


def main() -> int:
    options = arguments(__doc__, size="3")
    log = read_log(load_settings())
    seeds = range(options.seed, options.seed + int(options.size))
    figures = []
    unbroken = {}
    for tested in track(range(BREAKS[0], len(log.days)), "without a break"):
        day = log.days[tested]
        unbroken[tested] = [log.scores(log.days[:tested], day, seed) for seed in seeds]
    for first in BREAKS:
        days = broken(log.days, first, options.seed)
        for tested in track(range(first, len(days)), f"break on {days[first].name}"):
            masked = [day.masked() for day in days[:first]]
            # On the first day, the newest model is still one of the older space.
            before = [*masked, *days[first:tested]] if tested > first else days[:first]
            ways = {
                "unbroken": unbroken[tested],
                "masked": [log.scores(before, days[tested], seed) for seed in seeds],
            }
            if tested > first:
                newer = days[first:tested]
                ways["left out"] = [log.scores(newer, days[tested], seed) for seed in seeds]
            name = f"break on {days[first].name}, tested on {days[tested].name}"
            figures += figures_of(name, aucs(log, tested, ways, options.seed))
    return finish("spaces", figures, options.seed)


def read_log(settings: Settings) -> Log:
    """The examples of all days that have some."""
    days = []
    users = []
    for candidate in chain.days_up_to(settings, open_source(settings.source).span()[1]):
        try:
            examples = ensure(
                settings, "examples", candidate, lambda: spark_session(settings)
            ).partition
        except Skip:
            continue
        days.append(load_day(settings, examples))
        consumers = pq.read_table(examples.path / EXAMPLES, columns=["consumer_id"])
        users.append(consumers["consumer_id"].to_numpy())
    label = label_column(examples, settings.ranker.primary_label)
    return Log(settings, days, users, spec_of(examples), label)


def broken(days: list[Day], first: int, seed: int) -> list[Day]:
    """The days with the vectors of number `first` and of all later ones in a space of their own."""
    rng = np.random.default_rng(seed)
    dim = days[-1].consumer_vectors.shape[1]
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0].astype(np.float32)
    moved = []
    for day in days[first:]:
        moved.append(
            replace(
                day,
                space="planted",
                consumer_vectors=np.asarray(day.consumer_vectors) @ rotation,
                producer_vectors=np.asarray(day.producer_vectors) @ rotation,
            )
        )
    return [*days[:first], *moved]


def aucs(
    log: Log, tested: int, ways: dict[str, list[np.ndarray]], seed: int
) -> dict[str, Estimate]:
    """The AUC of each way on a day, averaged over its models; all on the same resamples."""
    labels = log.days[tested].labels[:, log.label]

    def mean_auc(scores: list[np.ndarray]):
        def statistic(weights: np.ndarray | None = None) -> np.ndarray:
            return np.mean([auc(labels, of_model, weights) for of_model in scores], axis=0)

        return statistic

    statistics = {way: mean_auc(scores) for way, scores in ways.items()}
    return user_bootstrap(log.users[tested], statistics, RESAMPLES, seed)


def figures_of(name: str, found: dict[str, Estimate]) -> list[Figure]:
    """The loss of a day beside that of leaving days out, and the ends of its interval."""
    loss = found["unbroken"] - found["masked"]
    peer = {}
    if "left out" in found:
        peer_loss = found["unbroken"] - found["left out"]
        peer = {"peer": "days left out", "peer_value": peer_loss.value}
    return [
        Figure(f"{name}: loss", loss.value, "AUC", bar=BAR, **peer),
        Figure(f"{name}: loss, 95 % from", loss.low, "AUC"),
        Figure(f"{name}: loss, 95 % to", loss.high, "AUC"),
    ]


if __name__ == "__main__":
    sys.exit(main())
