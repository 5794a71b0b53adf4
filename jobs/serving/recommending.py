"""`evergreen recommend`: what the loop computes by day, used for one consumer, stage by stage.

Candidates, features, scores of the champion, order. Nothing of it needs Spark or a service.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from embeddings.registry.loaded import is_unicode
from jobs.errors import EvergreenError
from jobs.serving.candidates import Items, find_candidates
from jobs.serving.champion import Serving, serving_on
from jobs.serving.inputs import HOUR_MS, inputs_of
from jobs.serving.past import Past, contexts_of, events_of_consumer, past_of
from jobs.serving.ranking import PREFIX, best_order, weights_of
from jobs.settings import Settings
from jobs.terminal import plain
from models.features import Day
from models.store import Saved, load
from models.training import predict

MOST = 1500  # candidates that are scored


@dataclass
class Watch:
    """Milliseconds of each stage, in order."""

    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.stages[name] = 1000 * (time.perf_counter() - started)


@dataclass(frozen=True)
class Recommended:
    """One item: where its producer comes from, its score, and the probability of every label."""

    item: str
    producer: str
    origin: str  # IN, OUT or POPULAR of jobs.serving.candidates
    score: float
    probabilities: dict[str, float]  # label without "label_" -> calibrated


@dataclass(frozen=True)
class Answer:
    """The best items for a consumer, best first, and the milliseconds of every stage.

    candidates: how many were scored. engagements: the consumer's in the window. inputs: of the
    recommended rows, as the ranker read them.
    """

    consumer: str
    items: list[Recommended]
    candidates: int
    engagements: int
    stages: dict[str, float]
    inputs: Day


@dataclass(frozen=True)
class Recommender:
    """The champion of a day with all that was known before it, ready for any consumer."""

    settings: Settings
    day: date
    serving: Serving
    saved: Saved
    past: Past

    @classmethod
    def open(cls, settings: Settings, day: date) -> Recommender:
        """Raises NotCommitted without a champion or a past, SettingsError for unknown weights."""
        serving = serving_on(settings, day)
        saved = load(serving.model.path)
        weights_of(settings.ranker, saved.model.spec.labels)  # before anything is read
        past = past_of(settings, day, serving.model, saved.model.spec.labels)
        if not past.items.num_rows:
            raise EvergreenError(
                f"Nothing can be recommended on {day}: no event of the days before it names an "
                "item. Name the column of the items in [source], or use a log that has one."
            )
        return cls(settings, day, serving, saved, past)

    @cached_property
    def items(self) -> Items:
        return Items(self.past.items, self.past.counts)

    @property
    def labels(self) -> list[str]:
        """The labels without "label_", in the order of the probabilities."""
        return [label.removeprefix(PREFIX) for label in self.saved.model.spec.labels]

    @property
    def weights(self) -> np.ndarray:
        """The weight of each label in the score, (L,)."""
        return weights_of(self.settings.ranker, self.saved.model.spec.labels)

    @property
    def main_label(self) -> str:
        """The label with the largest weight."""
        return self.labels[int(np.abs(self.weights).argmax())]

    def warm_up(self, watch: Watch) -> None:
        """Build what the first request would build, and load what it would load."""
        with watch.stage("warm up"):
            self.recommend("", top=1)

    def recommend(
        self,
        consumer: str,
        top: int = 10,
        hour: int = 12,
        context: Mapping[str, str] | None = None,
    ) -> Answer:
        """The best items for a consumer at an hour of the day (UTC).

        context: name without "ctx_" -> value; what is not given is unknown. A consumer without
        events in the window gets popular items. Raises EvergreenError for an unknown context, and
        for an id that is no valid Unicode.
        """
        if not is_unicode(consumer):
            raise EvergreenError(f"{consumer!r} cannot be an id: it is not valid Unicode.")
        watch = Watch()
        with watch.stage("history"):
            history = events_of_consumer(self.past.days, consumer)
        with watch.stage("candidates"):
            found = find_candidates(self.items, history, consumer, self.past.version, MOST)
            rows = self.rows(found.rows, consumer, hour, context or {})
        with watch.stage("features"):
            inputs = inputs_of(str(self.day), rows, self.past, self.saved.model.spec)
        with watch.stage("scores"):
            scores, probabilities = self.scored(inputs)
        with watch.stage("order"):
            producers = rows["producer_id"].to_pylist()
            order = best_order(scores, producers, top)
        item_ids = rows["item_id"].to_pylist()
        items = []
        for place in order:
            by_label = dict(zip(self.labels, probabilities[place].tolist(), strict=True))
            origin = str(found.origin[place])
            score = float(scores[place])
            items.append(Recommended(item_ids[place], producers[place], origin, score, by_label))
        engagements = len(history["engagements"])
        chosen = chosen_rows(inputs, order)
        return Answer(consumer, items, len(rows), engagements, watch.stages, chosen)

    def rows(
        self, candidates: np.ndarray, consumer: str, hour: int, context: Mapping[str, str]
    ) -> pa.Table:
        """The candidates as impressions that have not happened yet."""
        known = contexts_of(self.past.days)
        for name in context:
            if name not in known:
                raise EvergreenError(
                    f"The impressions have no context '{name}'. They have: "
                    f"{', '.join(known) or 'none'}."
                )
        midnight = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        moment = int(midnight.timestamp()) * 1000 + hour * HOUR_MS
        count = len(candidates)
        chosen = self.past.items.take(pa.array(candidates))
        columns: dict[str, Any] = {
            "consumer_id": pa.array([consumer] * count, pa.string()),
            "producer_id": chosen["producer_id"],
            "item_id": chosen["item_id"],
            "time_ms": pa.array([moment] * count, pa.int64()),
        }
        for name, value in context.items():
            columns[f"ctx_{name}"] = pa.array([value] * count, pa.string())
        return pa.table(columns)

    def scored(self, inputs: Day) -> tuple[np.ndarray, np.ndarray]:
        """The weighted sum, (n,), and the calibrated probability of every label, (n, L)."""
        labels = self.saved.model.spec.labels
        threads = self.settings.ranker.threads
        raw = predict(self.saved.model, inputs, self.saved.space, threads=threads)
        probabilities = self.serving.calibration(labels, raw)
        return probabilities @ self.weights, probabilities


def chosen_rows(inputs: Day, rows: list[int]) -> Day:
    """Some rows of a day."""
    return replace(
        inputs,
        categories=inputs.categories[rows],
        numbers=inputs.numbers[rows],
        labels=inputs.labels[rows],
        consumer_rows=inputs.consumer_rows[rows],
        producer_rows=inputs.producer_rows[rows],
    )


# What the command shows


def run(
    settings: Settings,
    consumer: str,
    day: date,
    top: int,
    hour: int,
    context: Mapping[str, str],
    console: Console | None,
) -> dict[str, Any]:
    """Recommend, show the answer on a console where there is one, and return it as JSON values."""
    watch = Watch()
    with watch.stage("open"):
        recommender = Recommender.open(settings, day)
    recommender.warm_up(watch)
    answer = recommender.recommend(consumer, top, hour, context)
    if console is not None:
        show(recommender, answer, watch, console)
    serving = recommender.serving
    return {
        "consumer": consumer,
        "day": str(day),
        "model": str(serving.model.day),
        "promoted": str(serving.promoted),
        "calibrated_on": serving.calibration.day,
        "embedding": recommender.past.version.id if recommender.past.version else "",
        "candidates": answer.candidates,
        "items": [asdict(item) for item in answer.items],
        "milliseconds": watch.stages | answer.stages,
    }


def show(recommender: Recommender, answer: Answer, watch: Watch, console: Console) -> None:
    """A table of the items, one of the stages, and what they were computed with."""
    serving = recommender.serving
    weights = recommender.weights
    weighed = [label for label, weight in zip(recommender.labels, weights, strict=True) if weight]
    title = f"For consumer {plain(answer.consumer)} on {recommender.day}"
    table = Table(title=title, header_style="bold", pad_edge=False)
    for heading in ("", "item", "producer", "network"):
        table.add_column(heading)
    for heading in ("score", *weighed):
        table.add_column(plain(heading), justify="right")
    for rank, item in enumerate(answer.items, start=1):
        probabilities = [f"{item.probabilities[label]:.4f}" for label in weighed]
        texts = [plain(item.item), plain(item.producer), item.origin, f"{item.score:.4f}"]
        table.add_row(str(rank), *texts, *probabilities)
    console.print(table)
    stages = Table(header_style="bold", pad_edge=False)
    for name in (*answer.stages, "together"):
        stages.add_column(name, justify="right")
    milliseconds = [*answer.stages.values(), sum(answer.stages.values())]
    stages.add_row(*(f"{value:.1f} ms" for value in milliseconds))
    console.print(stages)
    calibration = serving.calibration.day
    lines = [
        f"{answer.candidates:,} candidates; {answer.engagements:,} engagements of the consumer in "
        f"the {len(recommender.past.days)} days before{fallback(answer)}.",
        f"Ranker trained up to {serving.model.day}, "
        + (f"calibrated on {calibration}." if calibration else "not calibrated."),
        f"Opened in {watch.stages['open']:.0f} ms, warmed up in {watch.stages['warm up']:.0f} ms.",
    ]
    for line in lines:
        console.print(line)


def fallback(answer: Answer) -> str:
    """What a consumer gets of whom nothing is known."""
    return "" if answer.engagements else ", so that these are popular items"
