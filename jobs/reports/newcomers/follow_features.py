"""What a ranker knows of a new user and a producer: at sign-up, and by embeddings of domains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from embeddings.cooccurrence.bags import Config, fit
from embeddings.embedders.als import ALSConfig, als
from embeddings.embedders.bag import fold_in_of
from embeddings.embedders.svd import factorize
from embeddings.features import Vocabulary
from embeddings.fold_in.als import ALSFoldIn
from embeddings.kernels.communicator import run_threads
from embeddings.kernels.normalize import normalize, smoothed
from jobs.reports.methods import THREADS
from jobs.reports.newcomers.signups import KNOWN, Asked, NewUsers
from jobs.reports.newcomers.wide_deep import Rows, without_vectors

DIM = 16
MOST_COMMON = 0.8  # share of the known users with domains above which a domain is dropped
SMOOTHING = 1.0  # of the SVD
PRIOR = 20.0  # users: the followers that a group is expected to have count so much


def sign_up_rows(problem: NewUsers, pairs: Asked) -> Rows:
    """Profile, topic of the producer, their crosses, popularity, and the lookalike features."""
    topics = problem.topics[pairs.producers]
    n_topics = int(problem.topics.max()) + 1
    categories = {"topic": topics}
    numbers = {"log_followers": np.log1p(popularity(problem))[pairs.producers]}
    for name, column in problem.profile.items():
        categories[name] = column[pairs.users]
        categories[f"{name} x topic"] = column[pairs.users] * n_topics + topics
        numbers[f"followed_by_{name}"] = lift_of_group(problem, column, pairs)
    if problem.contacts.nnz:
        numbers["followed_by_contacts"] = lift_of_contacts(problem, pairs)
        books = np.asarray(problem.contacts.sum(axis=1)).ravel()
        numbers["contacts"] = np.log1p(books)[pairs.users]
    return Rows(pairs.users, pairs.labels, categories, numbers, *without_vectors(len(pairs.labels)))


def popularity(problem: NewUsers) -> np.ndarray:
    """How many known users follow each producer, (m,)."""
    return np.asarray(problem.known_follows.sum(axis=0)).ravel()


def lift_of_group(problem: NewUsers, column: np.ndarray, pairs: Asked) -> np.ndarray:
    """How much more the known users of a user's group follow a producer than all do: (r,).

    column: (n,), the number of each user's group.
    """
    known = np.flatnonzero(problem.parts == KNOWN)
    ones = (np.ones(len(known)), (column[known], known))
    members = sp.csr_matrix(ones, shape=(int(column.max()) + 1, len(column)))
    counts = (members @ problem.follows).toarray()
    sizes = np.asarray(members.sum(axis=1)).ravel()
    own = column[pairs.users]
    return log_ratio(problem, counts[own, pairs.producers], sizes[own], pairs)


def lift_of_contacts(problem: NewUsers, pairs: Asked) -> np.ndarray:
    """The same of the known users among a user's contacts."""
    known = sp.diags((problem.parts == KNOWN).astype(float))
    members = sp.csr_matrix(problem.contacts @ known)
    users, own = np.unique(pairs.users, return_inverse=True)
    counts = sp.csr_matrix(members[users] @ problem.follows).toarray()
    sizes = np.asarray(members.sum(axis=1)).ravel()[pairs.users]
    return log_ratio(problem, counts[own, pairs.producers], sizes, pairs)


def log_ratio(problem: NewUsers, counts: np.ndarray, sizes: np.ndarray, pairs: Asked) -> np.ndarray:
    """log(rate among some / rate among all known users), smoothed by PRIOR users of the latter.

    counts: (r,), how many of some users follow the producer; sizes: (r,), how many users they are.
    """
    n_known = np.count_nonzero(problem.parts == KNOWN)
    rates = (popularity(problem)[pairs.producers] + 1) / (n_known + 1)
    return np.log((counts + PRIOR * rates) / (sizes + PRIOR) / rates)


# By domains


@dataclass(frozen=True)
class DomainVectors:
    """users: (n, k), zeros for one without domains that tell something; producers: (m, k)."""

    users: np.ndarray
    producers: np.ndarray | None = None

    def products(self, pairs: Asked) -> np.ndarray:
        """(r,), NaN where a user has no vector."""
        assert self.producers is not None, "only of embeddings of both sides"
        own = self.users[pairs.users]
        products = np.vecdot(own, self.producers[pairs.producers])
        return np.where(own.any(axis=1), products, np.nan)


def dropped(problem: NewUsers) -> sp.csr_matrix:
    """The domains without those that nearly everybody has: (n, F)."""
    known = problem.domains[problem.parts == KNOWN]
    seen = np.bincount(known.indices, minlength=known.shape[1])
    some = np.count_nonzero(np.diff(known.indptr))
    kept = (seen > 0) & (seen <= MOST_COMMON * some)
    found = sp.csr_matrix(problem.domains @ sp.diags(kept.astype(float)))
    found.eliminate_zeros()
    return found


def by_als(problem: NewUsers, seed: int) -> DomainVectors:
    """ALS of known users and domains, normalised and without the top ones; others are folded in."""
    domains = dropped(problem)
    known = domains[problem.parts == KNOWN]
    sums = np.asarray(known.sum(axis=0), np.float64).ravel()
    scaled = normalize(domains, sums)
    scaled.data /= scaled.data.mean() if scaled.nnz else 1.0  # ALS expects strengths around 1
    learned = sp.csr_matrix(scaled[problem.parts == KNOWN])
    learned = learned[np.diff(learned.indptr) > 0]
    cfg = ALSConfig(dim=DIM, seed=seed)
    factors = als(learned, cfg, threads=THREADS)
    return DomainVectors(ALSFoldIn.of(factors, cfg).fold(scaled))


def by_bag(problem: NewUsers, seed: int) -> DomainVectors:
    """Co-occurrence of bags of domains with followed producers, and of followed producers."""
    cfg = Config(dim=DIM, seed=seed, most_common=MOST_COMMON)
    rows = np.flatnonzero((problem.parts == KNOWN) & (np.diff(problem.follows.indptr) > 0))
    vocabulary = Vocabulary({"domain": tuple(problem.names.tolist())}, {})
    bags, x = problem.domains[rows], problem.follows[rows].astype(np.float32)
    ids = np.char.encode(problem.names), np.arange(x.shape[1]).astype(np.bytes_)
    bounds = len(rows) * np.arange(THREADS + 1) // THREADS

    def share(comm):
        own = slice(bounds[comm.rank], bounds[comm.rank + 1])
        return fit(bags[own], x[own], cfg, comm, *ids)

    trained = run_threads(THREADS, share)[0]
    fold_in = fold_in_of(trained, vocabulary)
    nothing = sp.csr_matrix((problem.domains.shape[0], x.shape[1]), dtype=np.float32)
    return DomainVectors(fold_in.fold(nothing, problem.domains), trained.outputs)


def by_svd(problem: NewUsers, seed: int) -> DomainVectors:
    """A domain is the mean SVD vector of the known users who visited it; a user is the mean of its
    domains. The products are with the SVD's vectors of producers."""
    rows = np.flatnonzero((problem.parts == KNOWN) & (np.diff(problem.follows.indptr) > 0))
    x = problem.follows[rows]
    sums = np.asarray(x.sum(axis=0), np.float64).ravel()
    sums, row_extra = smoothed(sums, len(rows), SMOOTHING)
    factors = factorize(normalize(x, sums, row_extra), DIM, seed, THREADS)
    domains = dropped(problem)
    of_known = domains[rows]
    visits = np.asarray(of_known.sum(axis=0)).ravel()
    # Less the mean: what all consumers have in common says nothing about a domain.
    centred = factors.consumers - factors.consumers.mean(axis=0)
    vectors = (of_known.T @ centred) / (visits + PRIOR)[:, None]
    counts = np.asarray(domains.sum(axis=1)).ravel()
    users = (domains @ vectors) / np.maximum(counts, 1)[:, None]
    return DomainVectors(users, factors.producers * np.sqrt(sums)[:, None])


EMBEDDINGS: dict[str, Callable[[NewUsers, int], DomainVectors]] = {
    "als": by_als,
    "bag": by_bag,
    "svd": by_svd,
}
# What a ranker has besides what is known at sign-up: name -> embeddings.
RANKERS: dict[str, tuple[str, ...]] = {
    "sign-up": (),
    "+ ALS of domains": ("als",),
    "+ bag of domains": ("bag",),
    "+ producer SVD": ("svd",),
    "+ ALS, producer SVD": ("als", "svd"),
    "+ all three": ("als", "bag", "svd"),
}


def with_embeddings(rows: Rows, pairs: Asked, vectors: dict[str, DomainVectors]) -> Rows:
    """The ALS vector of a user as a vector, of the others the product with the producer."""
    for name, found in vectors.items():
        if name == "als":
            known = np.any(found.users, axis=1)[pairs.users]
            rows = rows.with_vectors(found.users, np.where(known, pairs.users, -1))
        else:
            rows = rows.with_numbers(**{f"product_{name}": found.products(pairs)})
    return rows
