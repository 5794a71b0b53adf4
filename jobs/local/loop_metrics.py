"""The loop for Prometheus: how fresh everything is, what was decided, and how the steps ended.

`families` reads the home, `LoopCollector` keeps what was read, so that a scrape waits for nothing.
A moment is a unix time: the age of a day is `time() - …` in a query, and grows without a new look.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime

from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from embeddings.facts import declaration, headlines
from embeddings.registry.versions import EMBEDDING
from jobs.intake.index import LATE, OUTLIER
from jobs.lake.store import Partition
from jobs.parts import LANDING, LEARNING_STEPS, STEPS
from jobs.pipeline.attempts import attempts
from jobs.pipeline.observing import embedding_of
from jobs.pipeline.plan import tracked
from jobs.pipeline.rulings import EVALUATE, decisions
from jobs.pipeline.status import Status, status
from jobs.settings import Settings
from jobs.sources import open_source
from jobs.sources.days import day_bounds_ms

FIRST_LOOK_S = 5.0  # that a scrape waits for the first look; Prometheus gives up after 10 s
LEAST_PAUSE_S = 15.0  # between two looks
PAUSE = 20.0  # times the length of a look: looking takes at most a twentieth of the time
TABLES = ("impressions", "engagements", "consumers", "items")
log = logging.getLogger(__name__)

Sample = tuple[list[str], float]  # values of the labels, and the value


def families(settings: Settings, now: datetime) -> list[Metric]:
    """All metrics of a home at a moment. Raises EvergreenError where its log cannot be read."""
    settings = settings.looking()
    # A look never reads the log: that may take long, and is for the step that lands a day.
    found = status(settings, now, read=False)
    return [
        newest_days(settings),
        *of_status(found),
        versions(settings),
        *champion(settings, found.champion),
        *rows(settings),
        *steps(settings),
        gate_decisions(settings),
        *drift_alarms(settings),
        headline_facts(settings),
        *disk(settings),
    ]


def gauge(name: str, meaning: str, samples: Iterable[Sample], labels: str = "") -> Metric:
    """A gauge. labels: their names, separated by blanks."""
    family = GaugeMetricFamily(f"evergreen_{name}", meaning, labels=labels.split())
    for values, value in samples:
        family.add_metric(values, value)
    return family


def end_of(settings: Settings, day: date) -> float:
    """When a day was over, in the time zone of the log; unix time."""
    return day_bounds_ms(day, open_source(settings).timezone)[1] / 1000


def newest(settings: Settings, step: str) -> Partition | None:
    """The newest committed partition of a step."""
    for day in reversed(settings.lake.days(step)):
        partition = settings.lake.find(step, day)
        if partition is not None:
            return partition
    return None


def newest_days(settings: Settings) -> Metric:
    """The newest day of three stages."""
    samples = []
    stages = [(LANDING, "landed", settings), (EVALUATE, "tested", settings)]
    stages += [("publish", "published", one) for one in settings.of_each_embedding()]
    for step, stage, one in stages:
        days = one.lake.days(step)
        if days:
            samples.append(([stage, embedding_of(one, step)], end_of(settings, days[-1])))
    return gauge(
        "newest_day_end_timestamp_seconds",
        "When the newest day was over that is landed, published, or that rankers were tested on.",
        samples,
        "stage embedding",
    )


def of_status(found: Status) -> Iterator[Metric]:
    """What `evergreen status` says of the parts of the day."""
    days = []
    for part in found.parts:
        counts = {
            "current": part.current_days,
            "waiting": len(part.waiting),
            "refused": len(part.refused),
        }
        days += [([part.part, state], n) for state, n in counts.items()]
    yield gauge(
        "days",
        "Days by part: current; waiting, which are missing or stale; refused by validation.",
        days,
        "part state",
    )
    yield gauge(
        "late_parts", "Parts of the day that should be complete by now.", [([], len(found.late))]
    )
    yield gauge(
        "held_back_embeddings",
        "Embeddings whose alias champion does not follow their newest version.",
        [([], len(found.held_back))],
    )


def versions(settings: Settings) -> Metric:
    """Where the aliases of each published embedding point."""
    family = InfoMetricFamily("evergreen_version", "The version that an alias points at.")
    with settings.open_registry() as registry:
        for name in registry.names(EMBEDDING):
            for alias, version in registry.aliases(name).items():
                family.add_metric([], {"embedding": name, "alias": alias, "version": version.id})
    return family


def champion(settings: Settings, trained: str) -> Iterator[Metric]:
    """The ranker that serves. trained: its training day; empty for none."""
    if not trained:
        return
    name = settings.ranker.name
    info = InfoMetricFamily("evergreen_champion", "The ranker that serves, by its training day.")
    info.add_metric([], {"ranker": name, "day": trained})
    yield info
    yield gauge(
        "champion_day_end_timestamp_seconds",
        "When the training day of the ranker was over that serves.",
        [([name], end_of(settings, date.fromisoformat(trained)))],
        "ranker",
    )
    for day in reversed(settings.lake.days(EVALUATE)):
        tested = settings.lake.find(EVALUATE, day)
        if tested and trained in (tested.facts.get("champion"), tested.facts.get("challenger")):
            yield gauge(
                "champion_tested_day_end_timestamp_seconds",
                "When the newest day was over that the ranker was tested on that serves.",
                [([name], end_of(settings, day))],
                "ranker",
            )
            return


def rows(settings: Settings) -> Iterator[Metric]:
    """The rows of the newest day that validation has judged."""
    judged = newest(settings, "validate")
    landed = settings.lake.find(LANDING, judged.day) if judged else None
    if judged is None or landed is None:
        return
    samples = []
    for table in TABLES:
        if f"rows_{table}" in landed.facts:
            samples.append(([table, "landed"], landed.facts[f"rows_{table}"]))
            samples.append(([table, "quarantined"], faulty(settings, judged, table)))
    yield gauge(
        "rows",
        "Rows of the newest validated day: all that were landed, and those put in quarantine for a "
        "fault other than their day.",
        samples,
        "table outcome",
    )
    yield gauge(
        "rows_day_end_timestamp_seconds",
        "When that day was over.",
        [([], end_of(settings, judged.day))],
    )


def faulty(settings: Settings, judged: Partition, table: str) -> int:
    """Rows put in quarantine, without those of other days, which say nothing of this one."""
    bad = judged.facts.get(f"bad_{table}", 0)
    quarantine = settings.lake.find("quarantine", judged.day)
    facts = quarantine.facts if quarantine else {}
    return bad - sum(facts.get(f"bad_{table}/{fault}", 0) for fault in (OUTLIER, LATE))


def steps(settings: Settings) -> Iterator[Metric]:
    """The last attempt at every step, of the embeddings that the settings have."""
    known = {"", *(one.embedding.name for one in settings.of_each_embedding())}
    if settings.words is not None:
        known.add(settings.words.name)
    last = [attempt for attempt in attempts(settings) if attempt.embedding in known]
    metrics: dict[str, tuple[str, Callable]] = {
        "step_duration_seconds": (
            "Seconds that the last attempt at the step took.",
            lambda attempt: attempt.seconds,
        ),
        "step_end_timestamp_seconds": (
            "When the last attempt at the step ended.",
            lambda attempt: attempt.ended_s,
        ),
        "step_failed": (
            "1 where the last attempt at the step failed, else 0.",
            lambda attempt: bool(attempt.error),
        ),
    }
    for name, (meaning, value) in metrics.items():
        samples = [([one.step, one.embedding], float(value(one))) for one in last]
        yield gauge(name, meaning, samples, "step embedding")


def gate_decisions(settings: Settings) -> Metric:
    """How often each outcome is among the decisions that the lake has."""
    counts = dict.fromkeys(("promoted", "proposed", "kept"), 0)
    for decision in decisions(settings):
        if outcome := outcome_of(decision):
            counts[outcome] += 1
    return gauge(
        "gate_decisions",
        "Decided days of the lake: challenger promoted; proposed to a person; champion kept.",
        [([outcome], n) for outcome, n in counts.items()],
        "outcome",
    )


def outcome_of(decision: Partition) -> str:
    """What was decided; empty without a champion. decision: a partition of the step gate."""
    if decision.facts.get("promoted"):
        return "promoted"
    if decision.facts.get("proposed"):
        return "proposed"
    return "kept" if decision.facts.get("champion_after") else ""


def drift_alarms(settings: Settings) -> Iterator[Metric]:
    """The alarms of the newest day that was compared with those before it."""
    compared = newest(settings, "drift")
    if compared is not None:
        yield gauge(
            "drift_alarms",
            "Columns of the newest compared day that differ more than chance explains.",
            [([], compared.facts.get("alarms", 0))],
        )


def headline_facts(settings: Settings) -> Metric:
    """Figures of the newest partition of every step: those that its day's run shows in MLflow."""
    samples = []
    for one in settings.of_each_embedding():
        for step in STEPS if one.is_first else LEARNING_STEPS:
            partition = newest(one, step)
            declared = tracked(one, step).facts if partition else ()
            for name, value in headlines(declared, partition.facts if partition else {}).items():
                if isinstance(value, int | float):
                    unit = getattr(declaration(declared, name), "unit", "")
                    samples.append(([step, embedding_of(one, step), name, unit], float(value)))
    return gauge(
        "headline",
        "Figures of the newest partition of a step, by name and unit.",
        samples,
        "step embedding fact unit",
    )


def disk(settings: Settings) -> Iterator[Metric]:
    """The file system of the home."""
    usage = shutil.disk_usage(settings.home)
    yield gauge("disk_free_bytes", "Free space where the home is.", [([], usage.free)])
    yield gauge("disk_size_bytes", "Size of the file system of the home.", [([], usage.total)])


class LoopCollector(Collector):
    """What the last look at the home has found. A scrape starts the next one and does not wait.

    look: the metrics as they are now. Only the first scrape waits, for at most FIRST_LOOK_S.
    """

    def __init__(self, look: Callable[[], list[Metric]]) -> None:
        self._look = look
        self._found: list[Metric] = []
        self._next_s = 0.0  # when the next look is due, by the monotonic clock
        self._alone = threading.Lock()
        self._first = threading.Event()

    def describe(self) -> list[Metric]:
        """Nothing: a description would be made by looking, before the service starts."""
        return []

    def collect(self) -> list[Metric]:
        """The metrics of the last look; those about looking itself are among them."""
        if time.monotonic() >= self._next_s and self._alone.acquire(blocking=False):
            threading.Thread(target=self._update, daemon=True).start()
        self._first.wait(FIRST_LOOK_S)
        return self._found

    def _update(self) -> None:
        """Look, and plan the next look."""
        started = time.monotonic()
        try:
            found, failed = self._look(), 0
        except Exception:  # such as a log that is not there: the other metrics go on
            log.warning("The metrics of the loop cannot be read.", exc_info=True)
            found, failed = [], 1
        took = time.monotonic() - started
        self._found = [
            *found,
            gauge("look_failed", "1 where the home could not be read, else 0.", [([], failed)]),
            gauge("look_duration_seconds", "Seconds that reading the home took.", [([], took)]),
            gauge("look_timestamp_seconds", "When the home was read.", [([], time.time())]),
        ]
        self._next_s = time.monotonic() + max(LEAST_PAUSE_S, PAUSE * took)
        self._first.set()
        self._alone.release()
