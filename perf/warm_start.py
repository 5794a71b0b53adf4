"""make bench-warm-start: what going on from yesterday's ranker costs and saves, by next-day AUC.

Rankers of the settings' log, each tested on the day after the last one that it was trained on:

    anew               trained on the window of days before, as by default
    anew, admitted     the same with ids in 2^20 buckets, of which those that were read in
                       ADMIT_AFTER rows have a vector of their own (`ranker.admit_after`)
    anew, rate held    the same as "anew" with a rate that falls to 0.3 of its peak instead of zero:
                       warm ones learn at 0.3 of it, which does not fall
    warm               the model of the day before goes on with that day (`ranker.warm_start`)
    warm, admitted     both
    warm, evicted      and ids that were not read for EVICT_AFTER_DAYS days lose their vector

Chains of warm ones begin on the log's first day with examples. The last DAYS days are tested; the
default of `ranker.warm_rate` and ADMIT_AFTER were chosen on KuaiRand's days before these.
Differences of AUC have an interval by consumer over all days and seeds. SIZE=2 is the number of
seeds. The examples are those below home; what is missing is computed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.parquet as pq
from rich.progress import track

from embeddings.benchmarks.auc import auc
from jobs.errors import Skip, UntrustedDay
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.running import ensure
from jobs.reports.report import select
from jobs.reports.scored import Scored, difference_rows
from jobs.reports.trials import mean_metric
from jobs.settings import RankerSettings, Settings, load_settings
from jobs.sources import open_source
from jobs.spark.session import spark_session
from jobs.steps.evaluate import label_column
from jobs.steps.examples import EXAMPLES, spec_of
from jobs.steps.train import load_day, training_config, usable
from models.features import Day, FeatureSpec
from models.metrics import log_loss
from models.standalone import bucket
from models.start import Start
from models.training import Trained, predict, sparse_tables, train
from perf.report import Figure, arguments, finish

DAYS = 5  # that are tested
BUCKETS = 2**20  # of consumers, producers and items each: they hardly share any by chance
ADMIT_AFTER = 2  # rows
EVICT_AFTER_DAYS = 4
BASE = "anew"
ENTITIES = ("consumer", "producer", "item")


@dataclass(frozen=True)
class Way:
    """warm: does a model go on from the one before? admit_after: 0 with the buckets of the log.

    last_rate: of a training that is not warm.
    """

    warm: bool = False
    admit_after: int = 0
    evict_after_days: float = np.inf
    last_rate: float = 0.0


WAYS = {
    BASE: Way(),
    "anew, admitted": Way(admit_after=ADMIT_AFTER),
    "anew, rate held": Way(last_rate=0.3),
    "warm": Way(warm=True),
    "warm, admitted": Way(warm=True, admit_after=ADMIT_AFTER),
    "warm, evicted": Way(True, ADMIT_AFTER, EVICT_AFTER_DAYS),
}


@dataclass(frozen=True)
class Log:
    """The days with examples. label: the column of the primary label."""

    days: list[Day]
    spec: FeatureSpec
    label: int


@dataclass(frozen=True)
class Model:
    """One training. tested: the place of the day after it. seconds: of CPU."""

    trained: Trained
    tested: int
    seconds: float


def main() -> int:
    options = arguments(__doc__, size="2")
    seeds = range(options.seed, options.seed + int(options.size))
    settings = load_settings()
    partitions = examples_of(settings)
    log = read_log(settings, partitions)
    wide = in_more_buckets(log, partitions)
    scores: dict[str, list[list[np.ndarray]]] = {}
    figures = []
    for name, way in track(WAYS.items(), "ways"):
        read = wide if way.admit_after else log
        scores[name] = [[] for _ in log.days]
        trained = []
        for seed in seeds:
            for model in models(settings.ranker, read, way, seed):
                scores[name][model.tested].append(scores_of(model, read))
                trained.append(model)
        figures += costs(name, trained)
    scored = []
    for place in range(len(log.days) - DAYS, len(log.days)):
        day = log.days[place]
        users = ids_of(partitions[place], "consumer")
        of_way = {name: by_day[place] for name, by_day in scores.items()}
        labels = day.labels[:, log.label]
        scored.append(Scored(settings.source.kind, day.name, users, labels, of_way))
    return finish(f"warm_start_{settings.source.kind}", aucs(scored) + figures, options.seed)


def examples_of(settings: Settings) -> list[Partition]:
    """Those of the days that can be trained on, with their vectors, together with the last one."""
    found = []
    for day in chain.days_up_to(settings, open_source(settings).span()[1]):
        try:
            run = ensure(settings, "examples", day, lambda: spark_session(settings))
        except (Skip, UntrustedDay):
            continue
        found.append(run.partition)
    use = usable(found)
    return [partition for partition in use.kept if str(partition.day) not in use.masked]


def read_log(settings: Settings, partitions: list[Partition]) -> Log:
    days = [load_day(settings, partition) for partition in partitions]
    label = label_column(partitions[-1], settings.ranker.primary_label)
    return Log(days, spec_of(partitions[-1]), label)


def in_more_buckets(log: Log, partitions: list[Partition]) -> Log:
    """The same log with the ids hashed into BUCKETS each."""
    columns = list(log.spec.categorical)
    places = {entity: log.spec.fields.index(entity) for entity in ENTITIES}
    days = []
    for day, partition in zip(log.days, partitions, strict=True):
        categories = day.categories.copy()
        for entity, place in places.items():
            ids, inverse = np.unique(ids_of(partition, entity), return_inverse=True)
            hashed = np.array([bucket(str(one), BUCKETS) for one in ids])
            categories[:, place] = hashed[inverse]
            columns[place] = replace(columns[place], buckets=BUCKETS)
        days.append(replace(day, categories=categories))
    return Log(days, replace(log.spec, categorical=tuple(columns)), log.label)


def ids_of(partition: Partition, entity: str) -> np.ndarray:
    """(n,) texts."""
    name = f"{entity}_id"
    return pq.read_table(partition.path / EXAMPLES, columns=[name])[name].to_numpy()


def models(ranker: RankerSettings, log: Log, way: Way, seed: int) -> Iterator[Model]:
    """The model of every day of which the next one is tested."""
    first = len(log.days) - DAYS
    if not way.warm:
        for tested in range(first, len(log.days)):
            yield fitted(ranker, log, way, seed, tested)
        return
    start = None
    for tested in range(1, len(log.days)):
        model = fitted(ranker, log, way, seed, tested, start)
        trained = model.trained
        seen = trained.admitted.seen if trained.admitted else None
        start = Start(trained.model, trained.space, 1, seen, way.evict_after_days)
        if tested >= first:
            yield model


def fitted(
    ranker: RankerSettings, log: Log, way: Way, seed: int, tested: int, start: Start | None = None
) -> Model:
    """The ranker of the days before the tested one, or of the last of them alone."""
    first = tested - 1 if start is not None else max(0, tested - ranker.window_days)
    cfg = training_config(ranker, seed, warm=start is not None)
    cfg = replace(cfg, admit_after=way.admit_after)
    if start is None:
        cfg = replace(cfg, last_rate=way.last_rate)
    days = log.days[first:tested]
    started = time.process_time()
    trained = train(days, log.spec, ranker.kind, ranker.options, cfg, start=start)
    return Model(trained, tested, time.process_time() - started)


def scores_of(model: Model, log: Log) -> np.ndarray:
    """(n,) of the tested label."""
    trained = model.trained
    return predict(trained.model, log.days[model.tested], trained.space)[:, log.label]


def costs(name: str, trained: list[Model]) -> list[Figure]:
    """CPU of a training, and the vectors of the last model."""
    newest = trained[-1].trained
    vectors = sum(len(table) for table in sparse_tables(newest.model))
    figures = [
        Figure(f"{name}: CPU of a training", float(np.mean([m.seconds for m in trained])), "s"),
        Figure(f"{name}: vectors", vectors, ""),
    ]
    if newest.admitted is not None:
        for what, count in newest.admitted.changes.items():
            figures.append(Figure(f"{name}: vectors {what} by the last training", count, ""))
    return figures


def aucs(scored: list[Scored]) -> list[Figure]:
    """The AUC of every way, and what it is above that of BASE, with the interval."""
    figures = []
    labels = [test.labels for test in scored]
    for name in WAYS:
        value = mean_metric(auc, labels, [test.scores[name] for test in scored])
        figures.append(Figure(f"{name}: AUC", float(value), ""))
        losses = [log_loss(test.labels, s) for test in scored for s in test.scores[name]]
        figures.append(Figure(f"{name}: log loss", float(np.mean(losses)), ""))
    for row in select(difference_rows(scored, BASE), "test", "all"):
        for end in ("", "_low", "_high"):
            name = f"{row['kind']}: AUC less that of {BASE}{end.replace('_', ', ')}"
            figures.append(Figure(name, float(row[f"over {BASE}{end}"]), ""))
    return figures


if __name__ == "__main__":
    sys.exit(main())
