"""What options are worth, day by day: as the loop would have measured it on the next day.

    embedding   NDCG@20 of the day's engagements by the vectors of the day before, as the daily
                benchmark has it
    ranker      AUC of the primary label on the day, by a ranker of the window before it

Both read what the loop has committed: no trial needs Spark, or writes a partition.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.tasks.base import Case, benchmark
from embeddings.blocks import load_blocks
from embeddings.fold_in.base import load_fold_in
from embeddings.kernels.communicator import run_threads
from jobs.errors import EvergreenError
from jobs.judging.labels import read_engagements, with_engagements
from jobs.judging.vectors import consumers_of_each, rows_of
from jobs.lake.schema import ENGAGEMENT_TABLE
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.plan import module
from jobs.reports.decay.rankers import RankerDays
from jobs.settings import Settings

MEMBERS = 2  # threads of an embedder: fixed, since another number may round differently
METRIC = {"embedding": "ndcg20", "ranker": "auc"}
Judge = Callable[[Settings, date], float]


def judge_of(kind: str) -> Judge:
    """The value of some settings on a day; higher is better."""
    return {"embedding": retrieval, "ranker": next_day_auc}[kind]


def days_to_judge(settings: Settings, kind: str) -> list[date]:
    """The newest `tuning.days` days up to `tuning.last_day` on which trials can be judged.

    Raises EvergreenError where there are none.
    """
    ready = {"embedding": retrieval_days, "ranker": ranker_days}[kind](settings)
    last = settings.tuning.last_day
    days = [day for day in ready if last is None or day <= last]
    if not days:
        until = f" up to {last}" if last else ""
        raise EvergreenError(
            f"No day{until} has been computed on which an {kind} could be judged: it takes a day "
            "and the one before it. Run them first, as in: evergreen run --from DAY --to DAY"
        )
    return days[-settings.tuning.days :]


# Embeddings


def retrieval_days(settings: Settings) -> list[date]:
    """The days with engagements after one with a matrix."""
    found = []
    for day in settings.lake.days("validate"):
        tables = settings.lake.find("validate", day)
        trusted = tables is not None and tables.facts["trusted"] and tables.has(ENGAGEMENT_TABLE)
        if trusted and settings.lake.find("matrix", day - timedelta(days=1)) is not None:
            found.append(day)
    return found


def retrieval(settings: Settings, day: date) -> float:
    """NDCG@20 of the day's engagements by vectors that are fitted on the matrix of the day before.

    The vectors are those of the steps `embed` and `fold_in`, without the rotation of `align`, which
    changes no product.
    """
    before = day - timedelta(days=1)
    matrix = settings.lake.get("matrix", before)
    most = module("benchmark").CONSUMERS
    tables = settings.lake.get("validate", day)
    engagements = read_engagements(tables, settings.matrix.weights, most)
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        features = None
        if module("embed").needs_of_features(settings, before):
            features = settings.lake.get("validate", before)
        case = fitted_case(settings, matrix, features, Path(folder), engagements.consumer_ids)
        judged = benchmark("retrieval").judge(with_engagements(case, engagements))
    return float(judged.statistics[METRIC["embedding"]]())


def fitted_case(
    settings: Settings,
    matrix: Partition,
    features: Partition | None,
    folder: Path,
    consumer_ids: np.ndarray,
) -> Case:
    """The vectors of these consumers and of all producers, fitted as the step `embed` does it.

    features: as in `embed.member`; folder: an empty one.
    """
    (folder / "consumers").mkdir()
    work = module("embed").member(matrix.path, folder, settings.embedding, features)
    run_threads(MEMBERS, lambda comm: work(comm, lambda line: None))
    producers = np.load(folder / "producers.npy")
    vectors = np.zeros((len(consumer_ids), producers.shape[1]), np.float32)
    step = module("fold_in")
    model = load_fold_in(folder / "fold_in")
    same = np.eye(producers.shape[1], dtype=np.float32)
    columns = np.arange(len(producers))
    for name in step.block_names(matrix.path):
        own = folder / "consumers" / f"{name}.npy"
        parts = (
            step.fitted_consumers(matrix.path / "fitted" / name, own, same),
            step.folded_consumers(matrix.path / "rest" / name, model, columns, features),
        )
        for part in parts:
            if part is not None:
                _, rows, places = np.intersect1d(consumer_ids, part.ids, return_indices=True)
                vectors[rows] = part.vectors[places]
    blocks = load_blocks(matrix.path / "fitted")
    nobody = np.zeros(len(consumer_ids), np.int64)
    return Case(
        consumer_ids=consumer_ids,
        consumers=vectors,
        consumer_counts=nobody,
        producer_ids=np.load(matrix.path / "producers.npy"),
        producers=producers,
        producer_counts=consumers_of_each(blocks, len(producers)),
        window=rows_of([], consumer_ids, len(producers)),
    )


# Rankers


def examples_of(settings: Settings) -> list[Partition]:
    """The examples that are committed, ascending."""
    found = [settings.lake.find("examples", day) for day in settings.lake.days("examples")]
    return [examples for examples in found if examples is not None]


def ranker_days(settings: Settings) -> list[date]:
    """The days with examples after another one."""
    return [examples.day for examples in examples_of(settings)][1:]


def next_day_auc(settings: Settings, day: date) -> float:
    """AUC on the day, by a ranker that was trained on the window before it."""
    known = [examples for examples in examples_of(settings) if examples.day <= day]
    days = RankerDays(settings, known)
    if len(days) < 2:
        raise EvergreenError(
            f"No ranker can be judged on {day}: no day before it has the same features. Set "
            "tuning.last_day to an earlier day, or wait for a day more."
        )
    test = len(days) - 1
    newest = test - 1
    seed = chain.seed(settings, "train", days.days[newest])  # as the step `train` draws it
    ranker = days.fit(days.window(newest), seed)
    primary = next(iter(days.labels.values()))
    return float(auc(days.day(test).labels[:, primary], days.scores(ranker, test)[:, 0]))
