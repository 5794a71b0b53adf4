"""Rankers on the day after the last one that they were trained on, as the pipeline does it.

For every tested day D, a ranker is trained on the examples of `ranker.window_days` days before D
and scores those of D. Each day's counts are of the days before it, and its vectors are those of the
version published before it: nothing of D is known but what was shown to whom. As in the step
`train`, days in another space than D's are read without vectors, and days with other features are
left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from jobs.errors import EvergreenError, Skip, UntrustedDay
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.plan import module
from jobs.pipeline.running import ensure
from jobs.reports.report import ReportProgress
from jobs.reports.trials import Outcome, Trial
from jobs.settings import Settings
from jobs.sources import open_source
from jobs.spark.session import spark_session
from models.features import Day, FeatureSpec

if TYPE_CHECKING:
    from models.rankers.base import RankerOptions


class NextDay:
    """One tested day, see above. Rankers learn all labels; the primary one is tested."""

    def __init__(self, settings: Settings, examples: list[Partition]) -> None:
        """examples: of the days that may be trained on, and of the tested day as the last one."""
        train = module("train")
        use = train.usable(examples)
        tested = use.kept[-1]
        self.settings = settings
        self.data: str = settings.source.kind
        self.test = str(tested.day)
        self.partitions = use.kept
        self.days = []
        for partition in use.kept:
            masked = str(partition.day) in use.masked
            self.days.append(train.load_day(settings, partition, masked=masked))
        self.spec = train.spec_of(tested)
        self.label = module("evaluate").label_column(tested, settings.ranker.primary_label)
        path = tested.path / module("examples").EXAMPLES
        self.users = pq.read_table(path, columns=["consumer_id"])["consumer_id"].to_numpy()
        self.labels = self.days[-1].labels[:, self.label]

    def tested_rows(self) -> Day:
        return self.days[-1]

    def options(self, kind: str) -> RankerOptions:
        return self.settings.ranker.model_copy(update={"kind": kind}).options

    def keep(self, rows: int) -> None:
        """Train on no more than the newest rows."""
        *days, tested = self.days
        self.days = [*newest_rows(days, rows), tested]

    def fit(self, kind: str, seed: int, options: RankerOptions | None = None) -> Outcome:
        return self.fit_on(self.days, self.spec, kind, seed, options)

    def dated_days(self) -> Iterator[tuple[Partition, Day]]:
        """The examples of every day, and the partition that they are read from."""
        yield from zip(self.partitions, self.days, strict=True)

    def fit_on(
        self,
        read: list[Day],
        spec: FeatureSpec,
        kind: str,
        seed: int,
        options: RankerOptions | None = None,
    ) -> Outcome:
        """The same on other columns. read: the days of the trial as `spec` describes them."""
        from models.training import predict, train

        *days, tested = read
        ranker = self.settings.ranker.model_copy(update={"kind": kind})
        cfg = module("train").training_config(ranker, seed)
        started = time.process_time()
        trained = train(days, spec, kind, options or ranker.options, cfg)
        seconds = time.process_time() - started
        scores = predict(trained.model, tested, trained.space, threads=ranker.threads)
        return Outcome(
            scores=scores[:, self.label],
            rows_s=sum(len(day) for day in days) / seconds,
            model=trained.model,
        )


def newest_rows(days: list[Day], rows: int) -> list[Day]:
    """The newest of these rows, at most so many: whole days, and the end of an older one."""
    kept: list[Day] = []
    missing = rows
    for day in reversed(days):
        if not missing:
            break
        kept.insert(0, day.last(missing))
        missing -= len(kept[0])
    return kept


def next_day_trials(settings: Settings, count: int, progress: ReportProgress) -> Iterator[Trial]:
    """The last `count` days of the log, oldest first; fewer where fewer follow another day.

    Their examples, and what these need, are computed where they are not current. progress: called
    once per day whose examples are read. Raises EvergreenError where no day can be tested.
    """
    examples = []
    for day in candidates(settings, count):
        progress(f"examples of {day}")
        try:
            found = ensure(settings, "examples", day, lambda: spark_session(settings))
        except (Skip, UntrustedDay):
            continue
        examples.append(found.partition)
    if len(examples) < 2:
        raise EvergreenError(
            f"The log has {len(examples)} trusted days with impressions. A ranker is trained on "
            "one and tested on the next: at least two are needed. Use a longer log."
        )
    window = settings.ranker.window_days
    for position in range(max(1, len(examples) - count), len(examples)):
        yield NextDay(settings, examples[max(0, position - window) : position + 1])


def candidates(settings: Settings, count: int) -> list[date]:
    """The last days of the chain's calendar: `count` to test, and a window before them."""
    last = open_source(settings).span()[1]
    return chain.days_up_to(settings, last)[-count - settings.ranker.window_days :]
