"""Texts by period: tweets that others have collected, which are for measuring only, and simulated
ones.

    congress-tweets-2020-weekly/by_week_and_party/   30 weeks of 2020, cleaned: words only
    stocknet-tweets/tweet_raw/                       28 months, as posted; Xu and Cohen 2018

They are read from the folder that `--data` or EVERGREEN_DATA names, and left out without it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zlib import crc32

from embeddings.words.tokens import content_of, tokens
from jobs.words.world import written
from simulation.world import World

CONGRESS = "congress-tweets-2020-weekly/by_week_and_party"
STOCKNET = "stocknet-tweets/tweet_raw"
CONGRESS_WEEKS = 30
PARTIES = ("dem", "rep")
TWITTER_TIME = "%a %b %d %H:%M:%S %z %Y"


@dataclass(frozen=True)
class Period:
    """The texts of a week or of some months, as tokens, and the half of each, 0 or 1."""

    name: str
    sentences: list[list[str]]
    halves: list[int]


def period(name: str, texts: Iterator[list[str]]) -> Period:
    """texts: the tokens of each; its content decides about the half, as in the pipeline."""
    sentences, halves = [], []
    for words in texts:
        if words:
            sentences.append(words)
            halves.append(crc32(content_of(words).encode()) % 2)
    return Period(name, sentences, halves)


def together(periods: list[Period], length: int) -> list[Period]:
    """Every `length` periods as one; what is left over at the end is dropped."""
    found = []
    for start in range(0, len(periods) - length + 1, length):
        parts = periods[start : start + length]
        name = f"{parts[0].name} to {parts[-1].name}" if length > 1 else parts[0].name
        sentences = [words for part in parts for words in part.sentences]
        found.append(Period(name, sentences, [half for part in parts for half in part.halves]))
    return found


def congress(folder: Path) -> list[Period]:
    """The weeks. A line is one tweet, in lower case, without hashtags, mentions and links."""
    return [
        period(f"week {week}", congress_texts(folder, week))
        for week in range(1, CONGRESS_WEEKS + 1)
    ]


def congress_texts(folder: Path, week: int) -> Iterator[list[str]]:
    for party in PARTIES:
        file = folder / f"{party}_{week}.gz"
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield line.split()


def stocknet(folder: Path) -> list[Period]:
    """The months: every tweet once, as one text."""
    return [
        period(file.name.partition(".")[0], stocknet_texts(file))
        for file in sorted(folder.glob("*.jsonl.gz"))
    ]


def stocknet_weeks(folder: Path) -> list[Period]:
    """The same tweets by week, each named by its Monday."""
    weeks: dict[str, list[list[str]]] = {}
    for file in sorted(folder.glob("*.jsonl.gz")):
        for tweet in tweets(file):
            day = datetime.strptime(tweet["created_at"], TWITTER_TIME).date()
            monday = str(day - timedelta(days=day.weekday()))
            weeks.setdefault(monday, []).append(tokens(tweet["text"]))
    return [period(monday, iter(texts)) for monday, texts in sorted(weeks.items())]


def stocknet_texts(file: Path) -> Iterator[list[str]]:
    for tweet in tweets(file):
        yield tokens(tweet["text"])


def tweets(file: Path) -> Iterator[dict[str, str]]:
    """The tweets of a file, each once: some are there for several stocks."""
    seen = set()
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            tweet = json.loads(line)
            if tweet["id_str"] not in seen:
                seen.add(tweet["id_str"])
                yield tweet


def simulated_week(world: World, week: int) -> Period:
    """A week of a simulated world; week 0 begins with its first day."""
    return period(f"week {week}", simulated_texts(world, days_of(week)))


def days_of(week: int) -> range:
    return range(7 * week, 7 * week + 7)


def simulated_texts(world: World, days: range) -> Iterator[list[str]]:
    for day in days:
        for line in written(world, day):
            yield line.split()


READERS: dict[str, tuple[str, Callable[[Path], list[Period]]]] = {
    "congress": (CONGRESS, congress),
    "StockNet": (STOCKNET, stocknet),
    "StockNet by week": (STOCKNET, stocknet_weeks),
}


def public_texts(name: str, folder: Path | None) -> list[Period] | str:
    """The periods of a public set, or the message why it is left out."""
    path, read = READERS[name]
    if folder is None or not (folder / path).exists():
        where = "no data folder is set" if folder is None else f"{folder} has no {path}"
        return (
            f"{name} left out: {where}. "
            f"Name the folder that contains {path} with --data or EVERGREEN_DATA."
        )
    return read(folder / path)
