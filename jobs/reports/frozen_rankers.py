"""Rankers that read the vectors of a version, and the AUCs of their scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import Estimate, user_bootstrap
from jobs.errors import EvergreenError
from jobs.reports.daily_log import Log
from jobs.reports.daily_versions import Version, without_vectors
from jobs.settings import RankerSettings, Settings
from models.features import Day, FeatureSpec

AUC_RESAMPLES = 200
# A ranker is the mean of so many networks: the AUC of a single one differs by 0.001 between seeds.
N_NETWORKS = 2


class Ranker:
    """Networks of several seeds, trained on the same days; their mean probability is the score."""

    def __init__(
        self, spec: FeatureSpec, days: list[Day], settings: RankerSettings, seed: int
    ) -> None:
        """days: with their vectors, oldest first."""
        # Imported here: torch takes seconds, and most commands do not need it.
        from models.training import TrainingConfig, train

        cfg = TrainingConfig(settings.batch_size, settings.learning_rate, threads=settings.threads)
        self.models = []
        for number in range(N_NETWORKS):
            seeded = replace(cfg, seed=N_NETWORKS * seed + number)
            self.models.append(train(days, spec, settings.kind, settings.options, seeded).model)

    def score(self, day: Day) -> np.ndarray:
        """One score per row of the day, (n,) float64."""
        from models.training import predict

        probabilities = []
        for model in self.models:
            # The first label is the only one: see `without_ids` in jobs/reports/daily_log.py.
            probabilities.append(predict(model, day, day.space)[:, 0])
        return np.stack(probabilities).mean(axis=0, dtype=np.float64)


@dataclass(frozen=True)
class RankingDays:
    """The days of a log that can be ranked: they have impressions, and a previous day with vectors.

    first: the number of the first such day in the log.
    """

    log: Log
    settings: Settings
    seed: int
    first: int

    @classmethod
    def from_log(cls, log: Log, settings: Settings, seed: int, longest: int) -> RankingDays:
        """longest: the days of the longest training.

        Raises EvergreenError unless at least two days follow it and none is missing in between.
        """
        rankable = []
        for number, day in enumerate(log.days):
            # The log's first day has no previous day whose vectors it could be served.
            if number > 0 and day.examples is not None:
                rankable.append(number)
        # At least two later days: at age 1 frozen and aligned vectors are the same.
        needed = longest + 2
        if len(rankable) < needed or rankable[-1] - rankable[0] >= len(rankable):
            raise EvergreenError(
                f"The log has {len(rankable)} trusted days with impressions and a previous day. "
                f"Rankers are frozen on day {longest} and evaluated on at least two later days: "
                f"{needed} days in a row are needed. Use a longer log."
            )
        return cls(log, settings, seed, rankable[0])

    def examples(self, number: int, version: Version) -> Day:
        """The examples of a day, with these vectors."""
        examples = self.log.days[number].examples
        assert examples is not None, "every day from the first one on has impressions"
        return replace(
            examples,
            # One name for all versions: serving another space is what the experiment measures, and
            # the ranker's guard against it must not fire.
            space="one",
            consumer_vectors=version.consumers,
            producer_vectors=version.producers,
        )

    def days_after(self, start: int) -> range:
        """Numbers of the days that a ranker frozen on day `start` was not trained on."""
        return range(self.first + start, len(self.log.days))

    def train_ranker(self, start: int, versions: list[Version], last: int | None = None) -> Ranker:
        """Train on `start` days, each with the previous day's vectors.

        versions: by day number. last: the last of these days; by default they are the first ones.
        """
        assert self.log.spec is not None, "a log with impressions has a spec"
        end = self.first + start if last is None else last + 1
        days = []
        for number in range(end - start, end):
            # A day's own version was fitted on what the ranker is to predict.
            days.append(self.examples(number, versions[number - 1]))
        return Ranker(self.log.spec, days, self.settings.ranker, self.seed)

    def scores_without_vectors(self, start: int) -> dict[int, np.ndarray]:
        """The baseline: scores of the later days by a ranker without vectors, by day number."""
        zeros = without_vectors(self.log, self.settings.embedding.dim)
        ranker = self.train_ranker(start, [zeros] * len(self.log.days))
        scores = {}
        for number in self.days_after(start):
            scores[number] = ranker.score(self.examples(number, zeros))
        return scores


@dataclass(frozen=True)
class ScoredRows:
    """Rows that were scored in several ways.

    consumers: (n,) row numbers, labels: (n,) 0/1, scores: way -> (n,).
    """

    consumers: np.ndarray
    labels: np.ndarray
    scores: dict[str, np.ndarray]

    @classmethod
    def concatenated(cls, parts: list[ScoredRows]) -> ScoredRows:
        """All rows of parts that were scored in the same ways."""
        consumers = []
        labels = []
        scores: dict[str, list[np.ndarray]] = {way: [] for way in parts[0].scores}
        for part in parts:
            consumers.append(part.consumers)
            labels.append(part.labels)
            for way, of_way in scores.items():
                of_way.append(part.scores[way])
        joined = {way: np.concatenate(of_way) for way, of_way in scores.items()}
        return cls(np.concatenate(consumers), np.concatenate(labels), joined)

    def where(self, keep: np.ndarray) -> ScoredRows:
        """The rows to keep. keep: (n,) bool."""
        scores = {way: values[keep] for way, values in self.scores.items()}
        return ScoredRows(self.consumers[keep], self.labels[keep], scores)

    def aucs(self, seed: int) -> dict[str, Estimate]:
        """The AUC of every way, resampled by consumer with the same draws for all ways."""
        statistics = {}
        for way, scores in self.scores.items():
            statistics[way] = partial(auc, self.labels, scores)
        return user_bootstrap(self.consumers, statistics, AUC_RESAMPLES, seed)
