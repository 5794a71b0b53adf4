"""Last.fm and MovieLens-100K with all that is known of their users; for measuring only.

hetrec2011-lastfm-2k/   user_artists, user_friends, user_taggedartists (.dat.gz)
ml-100k/                u.data.gz, u.item.gz, u.user
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

from jobs.reports.tables.problem import (
    Pairs,
    Problem,
    as_ids,
    counted,
    last_share,
    places,
    problem_of,
    with_labels,
)

HELD_OUT = 0.2  # share of each user's artists or films
TAGS = 50  # the most frequent ones of Last.fm are its topics
LASTFM, MOVIELENS = Path("hetrec2011-lastfm-2k"), Path("ml-100k")
NEEDED = {
    "lastfm": (LASTFM, ("user_artists.dat.gz", "user_friends.dat.gz", "user_taggedartists.dat.gz")),
    "ml-100k": (MOVIELENS, ("u.data.gz", "u.item.gz", "u.user")),
}
GENRES = 19  # the last columns of u.item


def split(name: str, pairs: Pairs, order: np.ndarray) -> Problem:
    """The last HELD_OUT of everyone is asked for, and that of the rest is what is tuned on."""
    later = last_share(pairs.consumers, order, HELD_OUT)
    window = pairs.only(~later)
    last = last_share(window.consumers, order[~later], HELD_OUT)
    return problem_of(name, window, last, pairs.only(later), repeats=False)


def read_lastfm(folder: Path) -> Problem:
    """User × artist, log(1 + listening count). Nobody knows when: what is held out is random.

    Topics: the TAGS most frequent tags, of users who gave them, and of artists who got them.
    """
    listened = pd.read_csv(folder / "user_artists.dat.gz", sep="\t")
    pairs = Pairs(
        as_ids(listened["userID"].to_numpy()),
        as_ids(listened["artistID"].to_numpy()),
        np.log1p(listened["weight"].to_numpy()),
    )
    problem = split("lastfm", pairs, np.random.default_rng(0).random(len(pairs)))
    users, artists = problem.case.consumer_ids, problem.case.producer_ids
    friends = pd.read_csv(folder / "user_friends.dat.gz", sep="\t")
    follower = places(users, as_ids(friends["userID"].to_numpy()))
    followed = places(users, as_ids(friends["friendID"].to_numpy()))
    follows = counted(follower, followed, (len(users), len(users)))
    tagged = pd.read_csv(folder / "user_taggedartists.dat.gz", sep="\t")
    frequent = tagged["tagID"].value_counts(sort=True).index[:TAGS]
    topic = pd.Index(frequent).get_indexer(tagged["tagID"])
    tagger = places(users, as_ids(tagged["userID"].to_numpy()))
    artist = places(artists, as_ids(tagged["artistID"].to_numpy()))
    return replace(
        with_labels(
            problem,
            topics=tuple(map(str, frequent)),
            consumer_topics=counted(tagger, topic, (len(users), TAGS)),
            producer_topics=counted(artist, topic, (len(artists), TAGS)),
        ),
        follows=follows,
    )


def read_movielens(folder: Path) -> Problem:
    """User × film that the user has rated, whatever the stars; in the order of time.

    Topics: genres of films, and of the films that a user rates later. Profile: age, gender,
    occupation.
    """
    names = ["user", "film", "stars", "time"]
    rated = pd.read_csv(folder / "u.data.gz", sep="\t", names=names)
    pairs = Pairs(
        as_ids(rated["user"].to_numpy()), as_ids(rated["film"].to_numpy()), np.ones(len(rated))
    )
    problem = split("ml-100k", pairs, rated["time"].to_numpy())
    case = problem.case
    films = pd.read_csv(folder / "u.item.gz", sep="|", header=None, encoding="latin-1")
    rows = places(
        as_ids(films[0].to_numpy())[np.argsort(as_ids(films[0].to_numpy()))], case.producer_ids
    )
    flags = films.iloc[np.argsort(as_ids(films[0].to_numpy())), -GENRES:].to_numpy()[rows]
    genres = sp.csr_matrix(flags.astype(np.float64))
    people = pd.read_csv(
        folder / "u.user", sep="|", names=["user", "age", "gender", "occupation", "zip"]
    )
    people = people.set_index(as_ids(people["user"].to_numpy())).loc[case.consumer_ids]
    profiles = {
        "num_age": people["age"].to_numpy(np.float64),
        "cat_gender": people["gender"].to_numpy(np.str_),
        "cat_occupation": people["occupation"].to_numpy(np.str_),
    }
    return with_labels(
        problem,
        topics=tuple(f"genre {number}" for number in range(GENRES)),
        producer_topics=genres,
        consumer_topics=(case.engaged @ genres).tocsr(),
        profiles=profiles,
    )


READERS: dict[str, Callable[[Path], Problem]] = {
    "lastfm": read_lastfm,
    "ml-100k": read_movielens,
}


def public_problems(data: Path | None) -> tuple[list[Problem], list[str]]:
    """Those that are in the folder, and one message for each that is left out."""
    problems = []
    messages = []
    for name, (folder, files) in NEEDED.items():
        missing = [str(folder / file) for file in files]
        if data is not None:
            missing = [file for file in missing if not (data / file).exists()]
        if not missing:
            assert data is not None, "without a folder all files are missing"
            problems.append(READERS[name](data / folder))
            continue
        where = "no data folder is set" if data is None else f"{data} lacks {', '.join(missing)}"
        messages.append(
            f"{name} left out: {where}. "
            f"Name the folder that contains {folder} with --data or EVERGREEN_DATA."
        )
    return problems, messages
