"""New users as a problem: what is known of them at sign-up, and whom they follow.

Some users are known, with what they follow: embeddings learn from them alone. A ranker learns from
users who came later, and is tested on users who came after those. What a user is asked about are
producers drawn by their number of followers, as a page of suggestions shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

KNOWN, TRAIN, TEST = 0, 1, 2


@dataclass(frozen=True)
class NewUsers:
    """A data set of n users and m producers.

    words: what each thing stands for here, name -> text. parts: (n,) KNOWN, TRAIN or TEST. domains:
    (n, F) weights, names: (F,). profile: name -> (n,) numbers from 0 on. contacts: (n, n), 1 where
    the address book of one has the other. follows: (n, m) 0/1. topics: (m,) numbers from 0 on.
    candidates: how many producers a user is asked about. truth: rows of users and producers, (r,)
    each -> the probabilities of what is known to the world, name -> (r,); None: nobody knows.
    """

    name: str
    words: dict[str, str]
    parts: np.ndarray
    domains: sp.csr_matrix
    names: np.ndarray
    profile: dict[str, np.ndarray]
    contacts: sp.csr_matrix
    follows: sp.csr_matrix
    topics: np.ndarray
    candidates: int
    truth: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]] | None = None

    @property
    def known_follows(self) -> sp.csr_matrix:
        """(n, m), empty rows for those who came later."""
        return sp.csr_matrix(sp.diags((self.parts == KNOWN).astype(float)) @ self.follows)


@dataclass(frozen=True)
class Asked:
    """r pairs that are asked about. users, producers: (r,) rows; labels: (r,) 0/1."""

    users: np.ndarray
    producers: np.ndarray
    labels: np.ndarray


def asked(problem: NewUsers, part: int, seed: int) -> Asked:
    """The pairs of the users of a part, in their order. The same seed asks about the same."""
    rng = np.random.default_rng([seed, part])
    rows = np.flatnonzero(problem.parts == part)
    followers = np.asarray(problem.known_follows.sum(axis=0)).ravel()
    shares = followers / followers.sum()
    most = min(problem.candidates, int(np.count_nonzero(followers)))
    drawn = [rng.choice(len(shares), most, replace=False, p=shares) for _ in rows]
    users = np.repeat(rows, most)
    producers = np.concatenate(drawn) if drawn else np.empty(0, np.int64)
    labels = np.asarray(problem.follows[users, producers]).ravel() > 0
    return Asked(users, producers, labels.astype(np.float32))
