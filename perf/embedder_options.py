"""What one option of an embedder changes: NDCG@20 of the next day, paired by consumer.

    python -m perf.embedder_options SETTINGS OPTION=VALUE DAY [DAY …]

Read from a home in which `matrix` ran on the days, and `validate` on those after them. The embedder
of the settings is fitted with their options and with one of them changed. All consumers of the next
day are ranked producers for, also newcomers, by their profile where the embedder reads it. 95 %
intervals resample consumers of all days together; the gain is paired. CPU time is that of a fit on
one thread.
"""

from __future__ import annotations

import sys
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from embeddings.benchmarks.intervals import mean_estimates
from embeddings.benchmarks.metrics import rank
from embeddings.blocks import MatrixShare, load_blocks
from embeddings.embedders.base import Fitted, Options, embedder, reads_features
from embeddings.fold_in.base import FoldIn
from embeddings.kernels.communicator import run_threads
from embeddings.registry.vectors import Index
from jobs.features.entity_features import consumer_features, producer_features, profile_rows
from jobs.judging.labels import read_engagements
from jobs.judging.vectors import consumers_of_each, rows_of
from jobs.lake.store import Partition
from jobs.settings import Settings, load_settings

MOST = 100_000  # consumers of a day


def main() -> None:
    settings = load_settings(Path(sys.argv[1]))
    name, _, value = sys.argv[2].partition("=")
    days = [date.fromisoformat(text) for text in sys.argv[3:]]
    usual = settings.embedding.options
    changed = type(usual).model_validate(usual.model_dump() | {name: value})
    columns: dict[str, list[np.ndarray]] = {"as set": [], sys.argv[2]: []}
    for day in days:
        for which, options in zip(columns, (usual, changed), strict=True):
            cpu_s, values = of_day(settings, day, options)
            columns[which].append(values)
            print(f"{day} {which:24} {values.mean():.4f}, {cpu_s:.0f} s of CPU", flush=True)
    estimates = mean_estimates({one: np.concatenate(parts) for one, parts in columns.items()}, 0)
    for which, estimate in estimates.items():
        print(f"{which:24} {estimate}   gain {estimate - estimates['as set']}")


def of_day(settings: Settings, day: date, options: Options) -> tuple[float, np.ndarray]:
    """Seconds of CPU of the fit, and NDCG@20 of each consumer of the next day."""
    lake = settings.lake
    matrix, clean = lake.get("matrix", day).path, lake.get("validate", day)
    cpu_s, fitted, producer_ids = fit(settings, matrix, clean, options)
    return cpu_s, next_day_ndcg(settings, day, fitted.fold_in, fitted.producers, producer_ids)


def next_day_ndcg(
    settings: Settings,
    day: date,
    fold_in: FoldIn,
    producers: np.ndarray,
    producer_ids: np.ndarray,
) -> np.ndarray:
    """NDCG@20 of each consumer of the day after. producers: (m, k), the vectors of these ids."""
    lake = settings.lake
    matrix, clean = lake.get("matrix", day).path, lake.get("validate", day)
    next_day = lake.get("validate", day + timedelta(days=1))
    engaged = read_engagements(next_day, settings.matrix.weights, MOST)
    blocks = load_blocks(matrix / "fitted")
    counts = consumers_of_each(blocks, len(producer_ids))
    everyone = [*blocks, *load_blocks(matrix / "rest")]
    histories = rows_of(everyone, engaged.consumer_ids, len(producer_ids))
    vocabulary = getattr(fold_in, "vocabulary", None)
    if vocabulary is None:
        vectors = fold_in.fold(histories)
    else:
        profiles = profile_rows(clean, vocabulary, engaged.consumer_ids)
        vectors = fold_in.fold(histories, profiles)
    order = np.argsort(producer_ids)
    found = Index(producer_ids[order]).find(engaged.producer_ids)
    known = found >= 0
    ones = np.ones(int(known.sum()))
    places = (engaged.consumers[known], order[found[known]])
    relevant = sp.csr_matrix((ones, places), shape=histories.shape)
    elsewhere = np.bincount(engaged.consumers[~known], minlength=len(vectors))
    seen = sp.csr_matrix(relevant.shape)
    popularity = counts.astype(np.float32)
    ranking = rank(vectors, producers, seen, relevant, popularity=popularity)
    return ranking.with_missing(elsewhere).ndcg(20)


def fit(
    settings: Settings, matrix: Path, clean: Partition, options: Options
) -> tuple[float, Fitted, np.ndarray]:
    """Seconds of CPU, the fit, and the ids of its producers."""
    cfg = settings.embedding
    solver = embedder(cfg.method)

    def work(comm):
        share = MatrixShare(matrix, comm)
        if reads_features(solver):
            share.consumer_features = consumer_features(clean, share.consumer_ids())
            share.producer_features = producer_features(clean, share.producer_ids)
        started = time.process_time()
        fitted = solver.fit(share, cfg.dim, cfg.seed, options, lambda _: None)
        return time.process_time() - started, fitted, share.producer_ids

    return run_threads(1, work)[0]


if __name__ == "__main__":
    main()
