"""make bench-spaces: what a new space costs the ranker, on the days of the settings' log.

From a day on, all vectors are rotated by one random orthogonal matrix and are in a space of their
own. Every later day is ranked by two models, trained and tested as the steps do it:

    champion      the last model of the older space, with the newest version it was trained on
    challenger    the newest model of the new space; the days of the older one are masked. None on
                  the first day

The loss is that of AUC against the newest model without a break, over models of several seeds; its
interval resamples users. Whichever of the two loses less is to meet the bar, because the chain has
both. The challenger's peer leaves the days of the older space out. SIZE=3 is the number of seeds.
The examples are those below home; what is missing is computed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.parquet as pq
from rich.progress import track

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import Estimate, user_bootstrap
from jobs.errors import Skip
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.published import published_version
from jobs.pipeline.running import ensure
from jobs.settings import Settings, load_settings
from jobs.sources import open_source
from jobs.spark.session import spark_session
from jobs.steps.evaluate import label_column, with_vectors_of
from jobs.steps.examples import EXAMPLES, spec_of
from jobs.steps.train import load_day, training_config
from models.features import Day, FeatureSpec
from models.training import Trained, predict, train
from perf.report import Figure, arguments, finish

BREAKS = (3, 6, 9)  # days of examples before the new space
BAR = 0.003  # of AUC, on each day, by the better of the two models
RESAMPLES = 100


@dataclass(frozen=True)
class Log:
    """The days with examples, in one space.

    examples: by day, their partition. users: by day, the consumer of each row. label: the column of
    the primary label.
    """

    settings: Settings
    days: list[Day]
    examples: list[Partition]
    users: list[np.ndarray]
    spec: FeatureSpec
    label: int

    def model(self, days: list[Day], seed: int) -> Trained:
        """The newest model of these days."""
        ranker = self.settings.ranker
        cfg = training_config(ranker, seed)
        return train(days[-ranker.window_days :], self.spec, ranker.kind, ranker.options, cfg)

    def scores(self, trained: Trained, tested: Day) -> np.ndarray:
        """The model's scores of the primary label, (n,)."""
        return predict(trained.model, tested, trained.space)[:, self.label]

    def with_vectors_before(self, first: int, tested: int) -> Day:
        """A day with the newest vectors that a model of the days before `first` was trained on."""
        version = published_version(self.settings, self.examples[first - 1].facts["version"])
        return with_vectors_of(self.settings, version, self.days[tested], self.examples[tested])


def main() -> int:
    options = arguments(__doc__, size="3")
    log = read_log(load_settings())
    seeds = range(options.seed, options.seed + int(options.size))
    unbroken = {}
    models = {}
    for tested in track(range(BREAKS[0], len(log.days)), "without a break"):
        models[tested] = [log.model(log.days[:tested], seed) for seed in seeds]
        unbroken[tested] = [log.scores(model, log.days[tested]) for model in models[tested]]
    figures = []
    for first in BREAKS:
        days = broken(log.days, first, options.seed)
        masked = [day.masked() for day in days[:first]]
        for tested in track(range(first, len(days)), f"break on {days[first].name}"):
            older = log.with_vectors_before(first, tested)
            ways = {
                "unbroken": unbroken[tested],
                "champion": [log.scores(model, older) for model in models[first]],
            }
            newer = days[first:tested]
            if newer:
                for way, window in {"challenger": [*masked, *newer], "left out": newer}.items():
                    trained = [log.model(window, seed) for seed in seeds]
                    ways[way] = [log.scores(model, days[tested]) for model in trained]
            name = f"break on {days[first].name}, tested on {days[tested].name}"
            figures += figures_of(name, aucs(log, tested, ways, options.seed))
    return finish("spaces", figures, options.seed)


def read_log(settings: Settings) -> Log:
    """The examples of all days that have some."""
    days = []
    found = []
    users = []
    for candidate in chain.days_up_to(settings, open_source(settings).span()[1]):
        try:
            examples = ensure(
                settings, "examples", candidate, lambda: spark_session(settings)
            ).partition
        except Skip:
            continue
        days.append(load_day(settings, examples))
        found.append(examples)
        consumers = pq.read_table(examples.path / EXAMPLES, columns=["consumer_id"])
        users.append(consumers["consumer_id"].to_numpy())
    label = label_column(examples, settings.ranker.primary_label)
    return Log(settings, days, found, users, spec_of(examples), label)


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
    """A day's losses by model, the ends of their intervals, and the smaller loss beside the bar."""
    losses = {}
    for way in ("champion", "challenger", "left out"):
        if way in found:
            losses[way] = found["unbroken"] - found[way]
    peer = {}
    if "left out" in losses:
        peer = {"peer": "days left out", "peer_value": losses.pop("left out").value}
    least = min(loss.value for loss in losses.values())
    figures = [Figure(f"{name}: loss of the better model", least, "AUC", bar=BAR)]
    for way, loss in losses.items():
        beside = peer if way == "challenger" else {}
        figures += [
            Figure(f"{name}: loss of the {way}", loss.value, "AUC", **beside),
            Figure(f"{name}: loss of the {way}, 95 % from", loss.low, "AUC"),
            Figure(f"{name}: loss of the {way}, 95 % to", loss.high, "AUC"),
        ]
    return figures


if __name__ == "__main__":
    sys.exit(main())
