"""Clicks hour by hour, and what is clicked next in a session.

Globo    globo-clicks/clicks/clicks_hour_*.csv.gz: Moreira et al. 2018, sessions as they are
log      the engagements of the settings' log; a session ends with a pause of half an hour
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from jobs.errors import EvergreenError
from jobs.lake.schema import ENGAGEMENT_TABLE
from jobs.pipeline.plan import trusted
from jobs.pipeline.running import ensure
from jobs.reports.daily_log import days_of
from jobs.reports.report import ReportProgress
from jobs.reports.streams import GLOBO, GLOBO_DAYS
from jobs.settings import Settings
from jobs.spark.session import spark_session

HOUR_S, DAY_HOURS = 3600, 24
PAUSE_S = 30 * 60  # that ends a session
LONGEST = 20  # clicks of a session before the one to be found


@dataclass(frozen=True)
class Clicks:
    """Clicks of a log in the order of their sessions, and in a session of their times.

    consumers, articles: (n,) int64 numbers from 0; hours: (n,) since the first click; positions:
    (n,) how many clicks of its session came before.
    """

    consumers: np.ndarray
    articles: np.ndarray
    hours: np.ndarray
    positions: np.ndarray

    @classmethod
    def of(cls, table: pd.DataFrame) -> Clicks:
        """table: consumer, article, session and time_s, a row per click."""
        table = table.sort_values(["session", "time_s", "article"], kind="stable")
        times = table["time_s"].to_numpy()
        return cls(
            consumers=pd.factorize(table["consumer"], sort=True)[0],
            articles=pd.factorize(table["article"], sort=True)[0],
            hours=((times - times.min()) // HOUR_S).astype(np.int64),
            positions=table.groupby("session", sort=False).cumcount().to_numpy(),
        )

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.consumers.max()) + 1, int(self.articles.max()) + 1

    def window(self, end: int, hours: int) -> sp.csr_matrix:
        """The clicks of the hours before `end`: (consumers, articles) counts."""
        inside = (self.hours >= end - hours) & (self.hours < end)
        pairs = (self.consumers[inside], self.articles[inside])
        counts = sp.coo_matrix((np.ones(len(pairs[0])), pairs), shape=self.shape)
        return counts.tocsr()

    def next_clicks(self, hour: int, most: int, seed: int) -> NextClicks:
        """The clicks of an hour that follow another one in their session, at most so many.

        Clicks on an article that the session has had among its last LONGEST clicks are left out.
        """
        rows = np.flatnonzero((self.hours == hour) & (self.positions > 0))
        lengths = np.minimum(self.positions[rows], LONGEST)
        before = np.repeat(rows - lengths, lengths) + counting(lengths)
        of = np.repeat(np.arange(len(rows)), lengths)
        again = np.zeros(len(rows), bool)
        again[of[self.articles[before] == self.articles[rows][of]]] = True
        history = sp.coo_matrix(
            (np.ones(len(of)), (of, self.articles[before])), shape=(len(rows), self.shape[1])
        ).tocsr()
        kept = np.flatnonzero(~again)
        if len(kept) > most:
            rng = np.random.default_rng((seed, hour))
            kept = np.sort(rng.choice(kept, most, replace=False))
        return NextClicks(self.consumers[rows[kept]], history[kept], self.articles[rows[kept]])


@dataclass(frozen=True)
class NextClicks:
    """n clicks to be found. consumers: (n,); history: (n, articles) what the session has clicked
    before; articles: (n,) what it clicks next.
    """

    consumers: np.ndarray
    history: sp.csr_matrix
    articles: np.ndarray


def counting(lengths: np.ndarray) -> np.ndarray:
    """0, 1, … for each of these lengths, one after the other: (Σ lengths,)."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


# Logs


def globo(folder: Path | None) -> Clicks | str:
    """The clicks of Globo, or the message why they are left out."""
    if folder is None or not (folder / GLOBO).exists():
        where = "no data folder is set" if folder is None else f"{folder} has no {GLOBO}"
        return f"Globo left out: {where}. Name the folder that contains it with --data."
    names = {
        "user_id": "consumer",
        "click_article_id": "article",
        "session_id": "session",
        "click_timestamp": "time_s",
    }
    files = sorted((folder / GLOBO).glob("*.csv.gz"))
    table = pd.concat([pd.read_csv(file, usecols=list(names)) for file in files])
    table = table.rename(columns=names)
    table["time_s"] //= 1000
    kept = table["time_s"] < table["time_s"].min() + GLOBO_DAYS * DAY_HOURS * HOUR_S
    return Clicks.of(table[kept])


def of_log(settings: Settings, progress: ReportProgress) -> Clicks:
    """The engagements of the settings' log with its items, or with producers where it has none.

    Validates the days first where they are not. Raises EvergreenError without a trusted day.
    """
    spark = spark_session(settings)
    parts: list[Any] = []
    for day in days_of(settings):
        partition = ensure(settings, "validate", day, lambda: spark).partition
        progress(f"read {day}")
        if trusted(partition):
            rows = partition.read(spark, ENGAGEMENT_TABLE)
            rows = rows.selectExpr(
                "consumer_id", "coalesce(item_id, producer_id) article", "time_ms"
            )
            parts.append(rows.dropDuplicates().toArrow().to_pandas())
    if not parts:
        raise EvergreenError("No day of the log is trusted, so there is nothing to measure.")
    table = pd.concat(parts).rename(columns={"consumer_id": "consumer"})
    table["time_s"] = table["time_ms"] // 1000
    return Clicks.of(with_sessions(table))


def with_sessions(table: pd.DataFrame) -> pd.DataFrame:
    """Number the sessions of each consumer; table: consumer, time_s, article."""
    table = table.sort_values(["consumer", "time_s", "article"], kind="stable")
    pause = table["time_s"].diff() > PAUSE_S
    other = table["consumer"] != table["consumer"].shift()
    return table.assign(session=(pause | other).cumsum())
