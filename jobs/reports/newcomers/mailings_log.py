"""The log of the settings as mailings: what is shown on the next day stands for an e-mail."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np

from jobs.errors import EvergreenError
from jobs.reports.newcomers.mailings import BASE, WITH_CONSUMER, Mailing
from jobs.reports.newcomers.wide_deep import KIND
from jobs.reports.next_day import NextDay, next_day_trials
from jobs.reports.report import ReportProgress
from jobs.settings import Settings
from models.features import Day

ACTIVITY = "num_consumer_past_engaged"  # log(1 + engagements before the day)
TESTED = 3  # of the last days
WORDS = (
    "An e-mail is what is shown on one of the last days, clicked or not; the consumer's embedding "
    "is that of the version published before the day, and that of the e-mail is its producer's."
)


def log_mailing(settings: Settings, progress: ReportProgress) -> Mailing | str:
    """The last days of the log together; a message where the log cannot be asked."""
    name = settings.source.kind
    try:
        found = list(next_day_trials(settings, TESTED, progress))
    except EvergreenError as error:
        return f"{name} left out: {error}"
    trials = [trial for trial in found if isinstance(trial, NextDay)]
    without = [trial for trial in trials if not trial.days[-1].has_vectors]
    if without or not trials:
        return (
            f"{name} left out: on {without[0].test if without else 'no day'} nobody who is shown "
            "something has a published vector. Publish the days before, or use a longer log."
        )
    activity = [activity_of(trial) for trial in trials]

    def score(ranker: str, seed: int) -> np.ndarray:
        return np.concatenate([score_day(trial, ranker, seed) for trial in trials])

    return Mailing(
        name=name,
        words=WORDS,
        users=np.concatenate([trial.users for trial in trials]),
        labels=np.concatenate([trial.labels for trial in trials]),
        activity=np.rint(np.expm1(np.concatenate(activity))),
        score=score,
    )


def activity_of(trial: NextDay) -> np.ndarray:
    """The activity of the consumer of every tested row, (n,)."""
    return trial.days[-1].numbers[:, trial.spec.numeric.index(ACTIVITY)].astype(np.float64)


def score_day(trial: NextDay, ranker: str, seed: int) -> np.ndarray:
    """Wide & Deep of the pipeline's features, with the vectors that the ranker sees: (n,)."""
    seen = copy(trial)
    seen.days = [seen_by(ranker, day) for day in trial.days]
    return seen.fit(KIND, seed).scores


def seen_by(ranker: str, day: Day) -> Day:
    """The day without what a ranker does not see."""
    if ranker == BASE:
        return day.masked()
    if ranker == WITH_CONSUMER:
        return replace(day, producer_rows=np.full(len(day), -1))
    return day
