"""Newcomers by their profiles alone: NDCG@20 of the first day on which they engage.

    python -m perf.newcomers SETTINGS DAY [DAY …]

A newcomer of a day is a consumer with an engagement on the next day and none in the day's window;
of a log whose profiles have bags, only one with any, and each bag is read alone too.
Read from a home in which the days ran: for every embedding of the settings the producers are ranked
by the mean vector of the newcomer's groups (the lookalike fold-in), and for one whose fold-in reads
profiles also by the vector of the profile; beside both, popularity. Newcomers of all days together;
95 % intervals resample newcomers, and a gain is paired with popularity.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from embeddings.benchmarks.intervals import mean_estimates
from embeddings.benchmarks.metrics import rank_scores
from embeddings.benchmarks.tasks.base import Case
from embeddings.features import Bags, Vocabulary
from embeddings.fold_in.base import load_fold_in
from embeddings.registry.shards import read_shards
from jobs.features.entity_features import profile_rows, profiles
from jobs.judging.labels import read_engagements, with_engagements, with_profiles
from jobs.judging.vectors import Learned, case_of
from jobs.lake.store import Partition
from jobs.settings import Settings, load_settings

MOST = 100_000  # consumers of a day
POPULARITY = "popularity"


def main() -> None:
    settings = load_settings(Path(sys.argv[1]))
    days = [date.fromisoformat(text) for text in sys.argv[2:]]
    columns: dict[str, list[np.ndarray]] = {}
    for day in days:
        for name, values in of_day(settings, day).items():
            columns.setdefault(name, []).append(values)
    values = {name: np.concatenate(parts) for name, parts in columns.items()}
    estimates = mean_estimates(values, seed=0)
    print(f"{len(values[POPULARITY])} newcomers of {len(days)} days")
    for name, estimate in estimates.items():
        print(f"{name:40} {estimate}   gain on popularity {estimate - estimates[POPULARITY]}")


def of_day(settings: Settings, day: date) -> dict[str, np.ndarray]:
    """NDCG@20 of each newcomer, by what ranks the producers."""
    found: dict[str, np.ndarray] = {}
    for own in settings.of_each_embedding():
        case = newcomers(own, day)
        if not found:
            popularity = np.tile(case.producer_counts, (len(case.consumer_ids), 1))
            found[POPULARITY] = ndcg(case, popularity)
        for way, vectors in ways(own, day, case):
            found[f"{own.embedding.name}, {way}"] = ndcg(case, vectors @ case.producers.T)
    return found


def newcomers(settings: Settings, day: date) -> Case:
    """The day's version, with the newcomers as its consumers and their next day's engagements."""
    lake = settings.lake
    steps = (lake.get(step, day).path for step in ("matrix", "align", "fold_in"))
    learned = Learned(*steps)
    engagements = read_engagements(
        lake.get("validate", day + timedelta(days=1)), settings.matrix.weights, MOST
    )
    case = with_engagements(case_of(learned, engagements.consumer_ids), engagements)
    new = np.flatnonzero(case.consumer_counts == 0)
    bags = bags_of(lake.get("validate", day), case.consumer_ids[new])
    if bags:
        new = new[np.sum(list(bags.values()), axis=0) > 0]
    assert case.engaged is not None
    assert case.elsewhere is not None
    return Case(
        consumer_ids=case.consumer_ids[new],
        consumers=case.consumers[new],
        consumer_counts=case.consumer_counts[new],
        producer_ids=case.producer_ids,
        producers=case.producers,
        producer_counts=case.producer_counts,
        window=case.window[new],
        engaged=case.engaged[new],
        elsewhere=case.elsewhere[new],
    )


def bags_of(clean: Partition, ids: np.ndarray) -> dict[str, np.ndarray]:
    """The length of each consumer's bag, by the name of the feature. ids: (n,) bytes."""
    lengths: dict[str, np.ndarray] = {}
    for places, values in profiles(clean, ids):
        for name, column in values.items():
            if isinstance(column, Bags):
                lengths.setdefault(name, np.zeros(len(ids), np.int64))[places] = column.lengths
    return lengths


def only(rows: sp.csr_matrix, vocabulary: Vocabulary, name: str) -> sp.csr_matrix:
    """The rows without all features but one category."""
    kept = []
    for other, values in vocabulary.categories.items():
        kept += [other == name] * len(values)
    kept += [False] * len(vocabulary.numbers)
    chosen = rows @ sp.diags(np.array(kept, np.float32))
    chosen.eliminate_zeros()
    return chosen.tocsr()


def ways(settings: Settings, day: date, case: Case) -> Iterator[tuple[str, np.ndarray]]:
    """What stands for a newcomer's vector, by name: (n, k) each."""
    clean = settings.lake.get("validate", day)
    groups = list(read_shards(settings.lake.get("lookalike", day).path / "group"))
    centroids = {}
    for shard in groups:
        centroids |= dict(zip(shard.ids.tolist(), shard.vectors, strict=True))
    vectors = np.zeros(case.consumers.shape, np.float32)
    profiles = with_profiles(case, clean).profiles or {}
    for row in range(len(vectors)):
        ids = [f"{name.removeprefix('cat_')}={column[row]}" for name, column in profiles.items()]
        own = [centroids[id_.encode()] for id_ in ids if id_.encode() in centroids]
        if own:
            vectors[row] = np.mean(own, axis=0)
    yield "groups", vectors
    model = load_fold_in(settings.lake.get("align", day).path / "fold_in")
    vocabulary = getattr(model, "vocabulary", None)
    if vocabulary is not None:
        none = sp.csr_matrix((len(vectors), model.n_producers))
        rows = profile_rows(clean, vocabulary, case.consumer_ids)
        yield "profile", model.fold(none, rows)
        for name in bags_of(clean, case.consumer_ids):
            yield f"{name} alone", model.fold(none, only(rows, vocabulary, name))


def ndcg(case: Case, scores: np.ndarray) -> np.ndarray:
    """NDCG@20 of each newcomer. scores: (n, m); equal ones rank the more popular one first."""
    popular = case.producer_counts / (1 + case.producer_counts.max(initial=0))
    shown = (scores + 1e-6 * popular).astype(np.float32)
    assert case.engaged is not None
    assert case.elsewhere is not None
    ranking = rank_scores(lambda rows: shown[rows], case.engaged)
    return ranking.with_missing(case.elsewhere).ndcg(20)


if __name__ == "__main__":
    main()
