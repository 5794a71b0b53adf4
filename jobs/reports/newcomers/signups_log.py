"""New users of logs in which nobody signs up: hidden users stand for them.

A random half of the users is known with what they follow. Of the others nothing is used but what
could be known at a sign-up. In the log of the settings that is the profile, in Last.fm the tags
that a user gives and the friends.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from embeddings.benchmarks.tasks.base import Case
from embeddings.registry.vectors import encode_ids
from jobs.judging.labels import read_topics, with_producer_topics, with_profiles
from jobs.lake.schema import ENGAGEMENT_TABLE
from jobs.lake.store import Partition
from jobs.reports.newcomers.signups import KNOWN, TEST, TRAIN, NewUsers
from jobs.reports.tables.own_log import trusted_days
from jobs.reports.tables.problem import as_ids, counted, places
from jobs.reports.tables.public import LASTFM
from jobs.settings import Settings

FOLLOWS = ("follow", "profile_enter")  # kinds of engagements that stand for a follow
SHARES = (0.5, 0.25, 0.25)  # of the users: known, to train on, to test on
MOST_VALUES = 30  # of a profile's column; one with more tells hardly anything of a small group
LEAST_FOLLOWERS = 3  # of a producer that is asked about
LASTFM_FILES = ("user_artists.dat.gz", "user_friends.dat.gz", "user_taggedartists.dat.gz")


def parts_of(n: int) -> np.ndarray:
    """Each user is KNOWN, TRAIN or TEST, at random: (n,)."""
    drawn = np.random.default_rng(0).random(n)
    bounds = np.cumsum(SHARES)[:-1]
    return np.array([KNOWN, TRAIN, TEST])[np.searchsorted(bounds, drawn, side="right")]


def log_new_users(settings: Settings) -> NewUsers | str:
    """Users of the settings' log who follow anybody; a message that names what the log lacks."""
    name = settings.source.kind
    days = trusted_days(settings)
    kinds: set[str] = set()
    follows = [follows_of(day, kinds) for day in days]
    if not sum(map(len, follows)):
        return (
            f"{name} left out: new users are asked whom they follow, and the log has no engagement "
            f"of the kinds {' and '.join(FOLLOWS)}. It has: {', '.join(sorted(kinds)) or 'none'}."
        )
    pairs = pd.concat(follows).drop_duplicates()
    followers = pairs["producer_id"].value_counts()
    pairs = pairs[pairs["producer_id"].map(followers) >= LEAST_FOLLOWERS]
    consumer_ids = np.unique(encode_ids(pairs["consumer_id"].to_numpy()))
    producer_ids = np.unique(encode_ids(pairs["producer_id"].to_numpy()))
    case = with_profiles(empty_case(consumer_ids, producer_ids), days[-1])
    profile = profile_of(case)
    if not profile or len(producer_ids) < 2:
        return (
            f"{name} left out: of a new user something must be known, and "
            f"{len(producer_ids)} producers have {LEAST_FOLLOWERS} followers or more, of whom the "
            f"profiles have {len(profile)} columns of categories. Use a log with profiles."
        )
    rows = places(consumer_ids, encode_ids(pairs["consumer_id"].to_numpy()))
    columns = places(producer_ids, encode_ids(pairs["producer_id"].to_numpy()))
    domains, names = bag_of(profile)
    return NewUsers(
        name=name,
        words={
            "domains": "the values of the profile: the log has no web visits",
            "profile": "the columns of the profile",
            "contacts": "none",
            "follow": "a follow, or an entry of a profile",
        },
        parts=parts_of(len(consumer_ids)),
        domains=domains,
        names=names,
        profile={key: np.unique(column, return_inverse=True)[1] for key, column in profile.items()},
        contacts=sp.csr_matrix((len(consumer_ids), len(consumer_ids))),
        follows=counted(rows, columns, (len(consumer_ids), len(producer_ids))),
        topics=first_topics(case, settings, days[-1]),
        candidates=100,
    )


def follows_of(day: Partition, kinds: set[str]) -> pd.DataFrame:
    """The day's pairs of a consumer and a followed producer. Adds to the kinds that there are."""
    columns = ["consumer_id", "producer_id", "kind"]
    tables = [pq.read_table(part.path, columns=columns) for part in day.parts(ENGAGEMENT_TABLE)]
    rows = pa.concat_tables(tables).to_pandas().dropna()
    kinds |= set(rows["kind"].unique())
    return rows[rows["kind"].isin(FOLLOWS)][columns[:2]]


def empty_case(consumer_ids: np.ndarray, producer_ids: np.ndarray) -> Case:
    """The ids alone, for what is read of them."""
    n, m = len(consumer_ids), len(producer_ids)
    return Case(
        consumer_ids=consumer_ids,
        consumers=np.zeros((n, 0), np.float32),
        consumer_counts=np.zeros(n, np.int64),
        producer_ids=producer_ids,
        producers=np.zeros((m, 0), np.float32),
        producer_counts=np.zeros(m, np.int64),
        window=sp.csr_matrix((n, m)),
    )


def profile_of(case: Case) -> dict[str, np.ndarray]:
    """The columns of categories that have more than one value and not too many."""
    found = {}
    for name, column in (case.profiles or {}).items():
        if name.startswith("cat_") and 1 < len(np.unique(column)) <= MOST_VALUES:
            found[name.removeprefix("cat_")] = column
    return found


def bag_of(profile: dict[str, np.ndarray]) -> tuple[sp.csr_matrix, np.ndarray]:
    """Every value that a user has, as in `name=value`: (n, F), and the names (F,)."""
    blocks, names = [], []
    for name, column in profile.items():
        values, own = np.unique(column, return_inverse=True)
        known = values[own] != ""
        rows = np.flatnonzero(known)
        ones = (np.ones(len(rows)), (rows, own[known]))
        blocks.append(sp.csr_matrix(ones, shape=(len(column), len(values))))
        names += [f"{name}={value}" for value in values]
    return sp.hstack(blocks, format="csr"), np.array(names)


def first_topics(case: Case, settings: Settings, day: Partition) -> np.ndarray:
    """The most frequent topic of each producer's items + 1; 0 for none: (m,)."""
    topics = read_topics(day, settings.benchmark.topic_column)
    table = with_producer_topics(case, topics).producer_topics
    if table is None:
        return np.zeros(len(case.producer_ids), np.int64)
    return largest(table)


def largest(table: sp.csr_matrix) -> np.ndarray:
    """The column of each row's largest number + 1, 0 for a row without any."""
    has_any = np.diff(table.indptr) > 0
    return np.where(has_any, np.asarray(table.argmax(axis=1)).ravel() + 1, 0)


def lastfm_new_users(data: Path | None) -> NewUsers | str:
    """Last.fm; a message where the files are missing."""
    missing = [str(LASTFM / file) for file in LASTFM_FILES]
    if data is not None:
        missing = [file for file in missing if not (data / file).exists()]
    if data is None or missing:
        where = "no data folder is set" if data is None else f"{data} lacks {', '.join(missing)}"
        return (
            f"lastfm left out: {where}. Name the folder that contains {LASTFM} with --data or "
            "EVERGREEN_DATA."
        )
    read = [pd.read_csv(data / LASTFM / file, sep="\t") for file in LASTFM_FILES]
    listened, friends, tagged = read
    users, artists = (np.unique(as_ids(listened[key])) for key in ("userID", "artistID"))
    n = len(users)
    tags = np.unique(as_ids(tagged["tagID"]))
    tag = places(tags, as_ids(tagged["tagID"]))
    artist = places(artists, as_ids(tagged["artistID"]))
    tagger = places(users, as_ids(tagged["userID"]))
    bags = counted(tagger, tag, (n, len(tags)))
    bags.data = np.log1p(bags.data)
    # The topics of artists are a feature: they come from users who are known.
    parts = parts_of(n)
    is_known = (tagger >= 0) & (parts[tagger] == KNOWN)
    frequent = np.argsort(-np.bincount(tag[is_known], minlength=len(tags)), kind="stable")[:50]
    topics = counted(artist[is_known], tag[is_known], (len(artists), len(tags)))
    friend = places(users, as_ids(friends["friendID"]))
    follows = counted(
        places(users, as_ids(listened["userID"])),
        places(artists, as_ids(listened["artistID"])),
        (n, len(artists)),
    )
    return NewUsers(
        name="lastfm",
        words={
            "domains": "the tags that a user gives, weighted by log(1 + count)",
            "profile": "none",
            "contacts": "the friends",
            "follow": "an artist among the user's 50",
        },
        parts=parts,
        domains=bags,
        names=tags.astype(np.str_),
        profile={},
        contacts=counted(places(users, as_ids(friends["userID"])), friend, (n, n)),
        follows=follows,
        topics=largest(topics[:, frequent].tocsr()),
        candidates=50,
    )
