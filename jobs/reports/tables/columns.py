"""The columns of the tables: what each asks of a method, and in a simulated world, of the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import scipy.sparse as sp

from embeddings.benchmarks.degrees import judge_degrees
from embeddings.benchmarks.intervals import (
    Estimate,
    Name,
    Statistic,
    user_bootstrap,
    weighted_mean,
)
from embeddings.benchmarks.judging import RESAMPLES, SEED, require
from embeddings.benchmarks.labels import Labels, common_labels, logistic_aucs
from embeddings.benchmarks.learning import Halves
from embeddings.benchmarks.metrics import rank_scores
from embeddings.benchmarks.tasks.base import Case, Judged, NotJudged, benchmark
from jobs.reports.tables.methods import Learned, by_products
from jobs.reports.tables.problem import Problem, Truth
from simulation.people import degrees

TOP = 20  # of NDCG
RETRIEVAL = "retrieval"
DISCOUNTS = 1 / np.log2(np.arange(2, TOP + 2))
CHUNK = 512  # consumers whose scores are in memory at once

Judge = Callable[[Problem, Learned], Judged]  # of one metric; raises NotJudged


@dataclass(frozen=True)
class Column:
    """title: for tables and pictures. true: what the measured figure stands for, where the truth is
    known; None where it is measured on the truth itself."""

    name: str
    title: str
    measured: Judge
    true: Judge | None = None


# What is measured


def by_task(task: str, metric: str, of_follows: bool = False) -> Judge:
    """A standard task. of_follows: on the sets of those followed, instead of those engaged with."""
    standard = benchmark(task)

    def judge(problem: Problem, learned: Learned) -> Judged:
        case = problem.case
        if of_follows:
            if problem.follows is None:
                raise NotJudged("nobody follows anybody")
            case = replace(case, window=problem.follows)
        if task == "categories" and problem.labels is not None:
            case = replace(case, producer_topics=problem.labels)
        case = with_vectors(case, learned, of_producers=task in ("categories", "known_for"))
        require(standard, case)
        judged = standard.judge(case)
        return Judged(judged.n, {metric: judged.statistics[metric]})

    return judge


def with_vectors(case: Case, learned: Learned, of_producers: bool) -> Case:
    """The case with the vectors of a method. Raises NotJudged where it has none of that side."""
    vectors = learned.producers if of_producers else learned.consumers
    if vectors is None:
        raise NotJudged("the method has no such vectors")
    return replace(case, producers=vectors) if of_producers else replace(case, consumers=vectors)


def retrieval(problem: Problem, learned: Learned) -> Judged:
    """NDCG@20 of the later engagements of those who have any."""
    case = problem.case
    assert case.engaged is not None, "problem_of sets it"
    assert case.elsewhere is not None, "problem_of sets it"
    seen = None if problem.repeats else case.window
    return mean_ndcg(ndcg_of(learned, seen, case.engaged, case.elsewhere))


def retrieval_of_new(problem: Problem, learned: Learned) -> Judged:
    """The same for engagements with producers that are new to the consumer."""
    case = problem.case
    assert case.engaged is not None, "problem_of sets it"
    if not problem.repeats:
        raise NotJudged("all of them are new")
    engaged = case.engaged - case.engaged.multiply(case.window > 0)
    engaged.eliminate_zeros()
    return mean_ndcg(ndcg_of(learned, case.window, engaged.tocsr(), case.elsewhere))


def retrieval_by_products(problem: Problem, learned: Learned) -> Judged:
    """The same as `retrieval` by plain products of the vectors, as in the daily benchmark."""
    case = with_vectors(problem.case, learned, of_producers=False)
    consumers = case.consumers
    producers = with_vectors(case, learned, of_producers=True).producers
    plain = by_products(problem.input, consumers, producers)
    return retrieval(problem, plain)


def mean_ndcg(values: np.ndarray) -> Judged:
    return Judged(len(values), {f"ndcg{TOP}": partial(weighted_mean, values)})


def ndcg_of(
    learned: Learned,
    seen: sp.csr_matrix | None,
    engaged: sp.csr_matrix,
    elsewhere: np.ndarray | None = None,
) -> np.ndarray:
    """NDCG@20 of the consumers who engaged, (r,). seen: producers that are ranked last, (n, m).

    engaged: (n, m); elsewhere: (n,), engagements besides, which no method can find. Raises
    NotJudged.
    """
    scores = scores_of(learned)
    missing = np.zeros(engaged.shape[0], np.int64) if elsewhere is None else elsewhere
    asked = np.flatnonzero(np.diff(engaged.indptr) + missing)

    def unseen(rows: slice) -> np.ndarray:
        found = scores(asked[rows])
        if seen is not None:
            found[seen[asked[rows]].nonzero()] = -np.inf
        return found

    return rank_scores(unseen, engaged[asked]).with_missing(missing[asked]).ndcg(TOP)


def scores_of(learned: Learned) -> Callable[[np.ndarray], np.ndarray]:
    if learned.scores is None:
        raise NotJudged("the method has no vectors of producers")
    return learned.scores


# What is true, in a simulated world


def truth_of(problem: Problem) -> Truth:
    if problem.truth is None:
        raise NotJudged("the truth is not known")
    return problem.truth


def true_topics(problem: Problem, learned: Learned) -> Judged:
    """User topics, by the degrees that the world has drawn from: those above an equal share."""
    truth = truth_of(problem)
    case = with_vectors(problem.case, learned, of_producers=False)
    topics = truth.tastes.shape[1]
    liked = np.zeros((len(case.consumer_ids), topics), bool)
    liked[truth.here] = degrees(truth.tastes) > 1 / topics
    halves = Halves.of(case.consumer_ids, known_here(truth, case))
    labels = common_labels(Labels.all_known(liked), halves, topics)
    return Judged(len(halves.judged), {"auc": logistic_aucs(case.consumers, labels, halves)})


def known_here(truth: Truth, case: Case) -> np.ndarray:
    """The rows of the consumers who are there and have engaged in the window."""
    return truth.here[case.consumer_counts[truth.here] > 0]


def true_interests(problem: Problem, learned: Learned) -> Judged:
    """Interested in, by the degrees that the world has drawn from."""
    truth = truth_of(problem)
    case = with_vectors(problem.case, learned, of_producers=False)
    wanted = np.zeros((len(case.consumer_ids), truth.tastes.shape[1]))
    wanted[truth.here] = degrees(truth.tastes)
    return judge_degrees(case.consumer_ids, case.consumers, wanted, known_here(truth, case))


def true_subjects(problem: Problem, learned: Learned) -> Judged:
    """Known for, by the degrees that the world has drawn from."""
    truth = truth_of(problem)
    case = with_vectors(problem.case, learned, of_producers=True)
    wanted = np.zeros((len(case.producer_ids), truth.subjects.shape[1]))
    wanted[truth.there] = degrees(truth.subjects)
    return judge_degrees(case.producer_ids, case.producers, wanted, truth.there)


def true_categories(problem: Problem, learned: Learned) -> Judged:
    """Categories of all producers, without the mistakes of those who label them."""
    truth = truth_of(problem)
    first = truth.subjects.argmax(axis=1)
    shape = (len(problem.case.producer_ids), truth.subjects.shape[1])
    labels = sp.csr_matrix((np.ones(len(first)), (truth.there, first)), shape=shape)
    return by_task("categories", "accuracy")(replace(problem, labels=labels), learned)


def true_gain(problem: Problem, learned: Learned) -> Judged:
    """The clicks to be expected from the first 20, discounted by rank, as a share of the most."""
    truth = truth_of(problem)
    scores = scores_of(learned)
    found = []
    for start in range(0, len(truth.asked), CHUNK):
        part = slice(start, start + CHUNK)
        first = np.argsort(-scores(truth.asked[part]), axis=1, kind="stable")[:, :TOP]
        found.append(np.take_along_axis(truth.rates[part], first, axis=1) @ DISCOUNTS)
    values = np.concatenate(found) / (truth.best @ DISCOUNTS)
    return Judged(len(values), {"share": partial(weighted_mean, values)})


TABLE_1 = (
    Column("topics", "user topic, ROC-AUC", by_task("topics", "auc"), true_topics),
    Column("profile", "metadata, ROC-AUC", by_task("profile", "auc")),
    Column("follows", "follow Jaccard, ρ", by_task("jaccard", "cosine", of_follows=True)),
    Column("engaged", "engaged Jaccard, ρ", by_task("jaccard", "cosine")),
    Column(RETRIEVAL, f"retrieval, NDCG@{TOP}", retrieval, true_gain),
    Column("new", "of new producers", retrieval_of_new),
    Column("products", "by plain products", retrieval_by_products),
)
TABLE_4 = (
    Column(
        "categories", "categories, accuracy", by_task("categories", "accuracy"), true_categories
    ),
    Column("known_for", "known for, NDCG", by_task("known_for", "ndcg"), true_subjects),
    Column(
        "interested_in", "interested in, NDCG", by_task("interested_in", "ndcg"), true_interests
    ),
)


# Estimates


def estimates(
    judge: Judge, problem: Problem, learned: Mapping[Name, list[Learned]]
) -> tuple[dict[Name, Estimate], dict[Name, list[float]]]:
    """The mean over seeds of every method that can be judged, with its interval.

    All methods have the same resamples of users: their differences are paired. Also returns the
    figure of each seed. learned: name -> one fit for each seed.
    """
    statistics: dict[Name, Statistic] = {}
    by_seed: dict[Name, list[float]] = {}
    n = 0
    for name, fits in learned.items():
        try:
            judged = [judge(problem, fit) for fit in fits]
        except NotJudged:
            continue
        n = judged[0].n
        of_seeds = [next(iter(each.statistics.values())) for each in judged]
        statistics[name] = partial(mean_of, of_seeds)
        by_seed[name] = [float(statistic()) for statistic in of_seeds]
    return user_bootstrap(np.arange(n), statistics, RESAMPLES, SEED), by_seed


def mean_of(statistics: list[Statistic], weights: np.ndarray | None = None) -> np.ndarray:
    """The mean of several statistics of the same weighted users."""
    return np.mean([statistic(weights) for statistic in statistics], axis=0)
