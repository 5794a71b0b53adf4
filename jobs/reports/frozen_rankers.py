"""Rankers that read the vectors of a version, and what their rankings are worth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from jobs.errors import EvergreenError
from jobs.reports.daily_log import Log
from jobs.reports.metrics import Estimate, estimate
from jobs.reports.versions import Version, without_vectors
from jobs.settings import RankerSettings, Settings
from models.features import Day, FeatureSpec
from models.metrics import auc

AUC_RESAMPLES = 200
SEEDS = 2  # a ranker is the mean of so many networks: one alone differs by 0.001 from the next


class Ranker:
    """Rankers of several seeds, trained on the same days; their mean probability is the score."""

    def __init__(
        self, spec: FeatureSpec, days: list[Day], settings: RankerSettings, seed: int
    ) -> None:
        """days: with their vectors, oldest first."""
        from jobs.steps.train import ranker_options
        from models.training import TrainingConfig, train

        kind, options = ranker_options(settings)
        cfg = TrainingConfig(settings.batch_size, settings.learning_rate, threads=settings.threads)
        self.models = [
            train(days, spec, kind, options, replace(cfg, seed=SEEDS * seed + n)).model
            for n in range(SEEDS)
        ]

    def score(self, day: Day) -> np.ndarray:
        """(n,) float64, one for each row of the day."""
        from models.training import predict

        return np.stack([predict(model, day, day.space)[:, 0] for model in self.models]).mean(
            axis=0, dtype=np.float64
        )


@dataclass(frozen=True)
class Course:
    """The days of a log that can be ranked: those with impressions, after a day that gives them vectors."""

    log: Log
    settings: Settings
    seed: int
    first: int  # number of the first such day

    @classmethod
    def of(cls, log: Log, settings: Settings, seed: int, longest: int) -> Course:
        """longest: days that the longest training takes. Raises EvergreenError where fewer than two days follow it."""
        ranked = [
            number for number, day in enumerate(log.days) if number > 0 and day.examples is not None
        ]
        if len(ranked) < longest + 2 or ranked[-1] - ranked[0] >= len(ranked):
            raise EvergreenError(
                f"The log has {len(ranked)} trusted days with impressions and a day before them. Rankers are frozen on "
                f"day {longest} and two days must follow: {longest + 2} in a row are needed."
            )
        return cls(log, settings, seed, ranked[0])

    def day(self, number: int, version: Version) -> Day:
        """The examples of a day with these vectors."""
        examples = self.log.days[number].examples
        assert examples is not None, "every day from the first one on has impressions"
        return replace(
            examples,
            space="one",
            consumer_vectors=version.consumers,
            producer_vectors=version.producers,
        )

    def later(self, start: int) -> range:
        """Numbers of the days that a ranker frozen on day `start` has not seen."""
        return range(self.first + start, len(self.log.days))

    def ranker(self, start: int, versions: list[Version]) -> Ranker:
        """Trained on `start` days, each with the vectors of the day before it. versions: by day number."""
        assert self.log.spec is not None
        days = [
            self.day(number, versions[number - 1])
            for number in range(self.first, self.first + start)
        ]
        return Ranker(self.log.spec, days, self.settings.ranker, self.seed)

    def blind_scores(self, start: int) -> dict[int, np.ndarray]:
        """By day number, what a ranker that never saw a vector says of the later days."""
        nothing = without_vectors(self.log, self.settings.embedding.dim)
        ranker = self.ranker(start, [nothing] * len(self.log.days))
        return {number: ranker.score(self.day(number, nothing)) for number in self.later(start)}


# What a ranking is worth


@dataclass(frozen=True)
class Judged:
    """Rows that were ranked in several ways. consumers: (n,) rows, labels: (n,) 0/1, scores: way -> (n,)."""

    consumers: np.ndarray
    labels: np.ndarray
    scores: dict[str, np.ndarray]

    @classmethod
    def joined(cls, parts: list[Judged]) -> Judged:
        scores = {
            way: np.concatenate([part.scores[way] for part in parts]) for way in parts[0].scores
        }
        consumers = np.concatenate([part.consumers for part in parts])
        return cls(consumers, np.concatenate([part.labels for part in parts]), scores)

    def where(self, keep: np.ndarray) -> Judged:
        """keep: (n,) bool."""
        return Judged(
            self.consumers[keep],
            self.labels[keep],
            {way: s[keep] for way, s in self.scores.items()},
        )

    def aucs(self, seed: int) -> AUCs:
        """The AUC of every way, and of every way on the same resamples of whole consumers.

        As models.metrics.paired_bootstrap, for any number of ways at the price of one.
        """
        _, row = np.unique(self.consumers, return_inverse=True)
        n, rng = int(row.max(initial=-1)) + 1, np.random.default_rng(seed)
        drawn: dict[str, list[np.ndarray]] = {way: [] for way in self.scores}
        for _ in range(AUC_RESAMPLES // 50 if n else 0):  # fifty at a time: memory is 50 · rows
            weights = rng.multinomial(n, np.full(n, 1 / n), size=50)[:, row]
            for way, scores in self.scores.items():
                drawn[way].append(np.asarray(auc(self.labels, scores, weights)))
        values = (
            {way: float(auc(self.labels, scores)) for way, scores in self.scores.items()}
            if n
            else {}
        )
        return AUCs(values, {way: np.concatenate(parts) for way, parts in drawn.items() if parts})


@dataclass(frozen=True)
class AUCs:
    """AUC by way, and (AUC_RESAMPLES,) of each on the same draws."""

    values: dict[str, float]
    drawn: dict[str, np.ndarray]

    def of(self, way: str) -> Estimate:
        return estimate(self.values[way], self.drawn[way])

    def gain(self, way: str, over: str) -> Estimate:
        return estimate(self.values[way] - self.values[over], self.drawn[way] - self.drawn[over])

    def share(self, way: str, whole: str, over: str) -> Estimate:
        """(AUC(way) − AUC(over)) / (AUC(whole) − AUC(over)): how much of a gain is kept."""
        value = (self.values[way] - self.values[over]) / (self.values[whole] - self.values[over])
        return estimate(
            value, (self.drawn[way] - self.drawn[over]) / (self.drawn[whole] - self.drawn[over])
        )


def by_row(numbers: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """numbers[rows], 0 where a row is −1. numbers: (n,)."""
    return np.where(rows >= 0, numbers[rows], 0)
