"""Daily engagements of many days as matrices: public logs, which are for measuring only, and
simulated ones.

    snap-temporal-small/CollegeMsg.txt.gz               messages, 193 days; Panzarasa et al. 2009
    snap-temporal-small/email-Eu-core-temporal.txt.gz   e-mails, 803 days; Paranjape et al. 2017
    globo-clicks/clicks/clicks_hour_*.csv.gz            clicks, 16 days; Moreira et al. 2018

They are read from the folder that `--data` or EVERGREEN_DATA names, and left out without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from simulation.small_world import SimulatedDay, SmallWorld, simulate

SNAP = "snap-temporal-small"
GLOBO = "globo-clicks/clicks"
GLOBO_DAYS = 16
DAY_S = 86400


@dataclass(frozen=True)
class Stream:
    """A log as one matrix of engagement counts per day, (n, m), with the same rows and columns.

    truth: the simulated days behind it; None for a real log.
    """

    name: str
    days: list[sp.csr_matrix]
    truth: list[SimulatedDay] | None = None

    def window(self, last: int, length: int) -> sp.csr_matrix:
        """The sum of the `length` days up to day number `last`."""
        first = max(0, last - length + 1)
        return sum(self.days[first + 1 : last + 1], start=self.days[first]).tocsr()


def by_day(numbers: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> list[sp.csr_matrix]:
    """One matrix per day from 0 to the last. numbers: (events,), the day of each event."""
    shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers))
    matrices = []
    for part in np.split(order, ends[:-1]):
        counts = sp.coo_matrix((np.ones(len(part)), (rows[part], columns[part])), shape=shape)
        matrices.append(counts.tocsr())
    return matrices


def stream_of(name: str, times: pd.Series, consumers: pd.Series, producers: pd.Series) -> Stream:
    """times: seconds. Days are counted from the first event."""
    numbers = ((times - times.min()) // DAY_S).to_numpy().astype(np.int64)
    rows, _ = pd.factorize(consumers, sort=True)
    columns, _ = pd.factorize(producers, sort=True)
    return Stream(name, by_day(numbers, rows, columns))


def read_snap(name: str, file: Path) -> Stream:
    """A list of `source target time`."""
    table = pd.read_csv(file, sep=" ", names=["source", "target", "time"])
    return stream_of(name, table["time"], table["source"], table["target"])


def read_globo(name: str, folder: Path) -> Stream:
    """One file of clicks per hour, of 16 days and some strays; times are in milliseconds."""
    columns = ["user_id", "click_article_id", "click_timestamp"]
    hours = [pd.read_csv(file, usecols=columns) for file in sorted(folder.glob("*.csv.gz"))]
    table = pd.concat(hours, ignore_index=True)
    times = table["click_timestamp"] // 1000
    known = times < times.min() + GLOBO_DAYS * DAY_S
    return stream_of(name, times[known], table["user_id"][known], table["click_article_id"][known])


READERS: dict[str, tuple[str, Callable[[str, Path], Stream]]] = {
    "CollegeMsg": (f"{SNAP}/CollegeMsg.txt.gz", read_snap),
    "email-Eu-core": (f"{SNAP}/email-Eu-core-temporal.txt.gz", read_snap),
    "Globo": (GLOBO, read_globo),
}


def public_stream(name: str, folder: Path | None) -> Stream | str:
    """A public log, or the message why it is left out."""
    path, reader = READERS[name]
    if folder is None or not (folder / path).exists():
        where = "no data folder is set" if folder is None else f"{folder} has no {path}"
        return (
            f"{name} left out: {where}. "
            f"Name the folder that contains {path} with --data or EVERGREEN_DATA."
        )
    return reader(name, folder / path)


def simulated_stream(name: str, world: SmallWorld, days: int, seed: int) -> Stream:
    """The days of a world."""
    truth = list(simulate(world, days, seed))
    numbers = np.repeat(np.arange(days), [len(day.consumers) for day in truth])
    rows = np.concatenate([day.consumers for day in truth])
    columns = np.concatenate([day.producers for day in truth])
    return Stream(name, by_day(numbers, rows, columns), truth)
