"""The quick form: from what the loop has stored, nothing is fitted or trained again.

The vectors are those that the loop has committed, the rankers its own models. So there is one seed,
no equal volume, no folding in, and the embeddings of an old ranker are always fresh.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import scipy.sparse as sp

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import (
    MEAN_RESAMPLES,
    Estimate,
    user_bootstrap,
    weighted_mean,
)
from embeddings.benchmarks.metrics import rank
from embeddings.benchmarks.tasks.base import NotJudged
from embeddings.benchmarks.tasks.retrieval import active
from jobs.errors import EvergreenError
from jobs.judging.labels import read_engagements, with_engagements
from jobs.judging.vectors import Learned, case_of
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.plan import module
from jobs.reports.decay import words
from jobs.reports.decay.ages import Plan, TooFewDays, plan_of
from jobs.reports.decay.rankers import RESAMPLES
from jobs.reports.decay.retrieval import CONSUMERS, TOP
from jobs.reports.report import ReportProgress, Row
from jobs.reports.trials import mean_metric
from jobs.settings import Settings

LEARNED = ("matrix", "align", "fold_in")  # the steps that a version's vectors come from
AGES = (0, 1, 3, 5, 7, 9)  # days; each costs seconds at the end of a demo
RETRIEVAL, RANKER = "NDCG@20", "AUC"
LEFT_OUT = (
    "Quick: the loop's own vectors and models, one seed. It leaves out equal volume, so that fewer "
    "data count as age, folding in, and frozen embeddings: an old ranker reads fresh ones here. "
    "evergreen decay, without --quick, measures those."
)
Curve = dict[int, Estimate]  # by age


def vectors_by_day(settings: Settings, days: list[date]) -> dict[date, Learned]:
    """The committed vectors of every day that has some and is trusted."""
    found = {}
    for day in days:
        parts = [settings.lake.find(step, day) for step in LEARNED]
        verdict = settings.lake.find("validate", day)
        if verdict is not None and verdict.facts["trusted"] and all(parts):
            found[day] = Learned(*(part.path for part in parts if part is not None))
    return found


def ages_of(plan: Plan) -> list[int]:
    """The ages of a plan that are measured."""
    return [age for age in AGES if age in plan.ages]


def retrieval_curve(
    settings: Settings, days: list[date], progress: ReportProgress
) -> tuple[Curve, Plan]:
    """NDCG@20 of the committed vectors by age. Raises TooFewDays."""
    learned = vectors_by_day(settings, days)
    plan = plan_of(list(learned), "published vectors")
    values: dict[int, list[np.ndarray]] = {age: [] for age in ages_of(plan)}
    users = []
    for test in plan.tests:
        progress(f"retrieval on {plan.days[test]}")
        verdict = settings.lake.get("validate", plan.days[test])
        engagements = read_engagements(verdict, settings.matrix.weights, CONSUMERS)
        by_age = {}
        for age in values:
            version = learned[plan.days[plan.learned(test, age)]]
            case = with_engagements(case_of(version, engagements.consumer_ids), engagements)
            try:
                by_age[age] = ndcg_of(case)
            except NotJudged:
                break
        if len(by_age) == len(values):
            users.append(engagements.consumer_ids)
            for age, of_users in by_age.items():
                values[age].append(of_users)
    if not users:
        raise TooFewDays("Too few consumers engaged on the tested days to judge the vectors.")
    means = {}
    for age, of_tests in values.items():
        means[age] = partial(weighted_mean, np.concatenate(of_tests))
    return user_bootstrap(np.concatenate(users), means, MEAN_RESAMPLES, seed=0), plan


def ndcg_of(case: Any) -> np.ndarray:
    """NDCG@20 by consumer, as the task `retrieval`. Raises NotJudged."""
    rows, engaged, elsewhere = active(case)
    ranking = rank(
        case.consumers[rows],
        case.producers,
        seen=sp.csr_matrix(engaged.shape),
        relevant=engaged,
        popularity=case.producer_counts.astype(np.float32),
    )
    return ranking.with_missing(elsewhere).ndcg(TOP)


def ranker_curve(
    settings: Settings, days: list[date], progress: ReportProgress
) -> tuple[Curve, Plan]:
    """AUC of the primary label of the loop's own models by age. Raises TooFewDays."""
    models = {}
    for day in days:
        model = settings.lake.find("train", day)
        examples = settings.lake.find("examples", day)
        if model is not None and chain.has_model(model) and examples is not None:
            models[day] = (model, examples)
    plan = plan_of(list(models), "trained models")
    scores: dict[int, list[list[np.ndarray]]] = {age: [] for age in ages_of(plan)}
    users = []
    labels = []
    for test in plan.tests:
        progress(f"rankers on {plan.days[test]}")
        examples = models[plan.days[test]][1]
        of_models = [models[plan.days[plan.learned(test, age)]][0] for age in scores]
        of_ages, y = scores_of(settings, examples, of_models)
        path = examples.path / module("examples").EXAMPLES
        users.append(pq.read_table(path, columns=["consumer_id"])["consumer_id"].to_numpy())
        labels.append(y)
        for age, of_age in zip(scores, of_ages, strict=True):
            scores[age].append([of_age])
    aucs = {age: partial(mean_metric, auc, labels, of_age) for age, of_age in scores.items()}
    return user_bootstrap(np.concatenate(users), aucs, RESAMPLES, seed=0), plan


def scores_of(
    settings: Settings, examples: Partition, models: list[Partition]
) -> tuple[list[np.ndarray], np.ndarray]:
    """The probability of the primary label by every model, (n,) each, and the labels.

    As the step `evaluate` scores its entrants. Raises TooFewDays for a model that cannot read the
    examples.
    """
    evaluate = module("evaluate")
    column = evaluate.label_column(examples, settings.ranker.primary_label)
    rows = module("train").open_day(settings, examples)
    by_key: dict[str, np.ndarray] = {}
    for model in models:
        if model.key in by_key:
            continue
        entrant = evaluate.entrant_of(model.day, model, examples)
        if entrant.obstacle:
            raise TooFewDays(
                f"The model of {model.day} cannot be tested on {examples.day}: {entrant.obstacle}."
            )
        if entrant.other_space:
            own = evaluate.own_version(settings, model)
            entrant = replace(entrant, own=own)
        pieces = evaluate.scored(settings, entrant, rows)
        by_key[model.key] = np.concatenate([piece[:, column] for piece in pieces])
    labels = np.concatenate([piece[:, column] > 0 for piece in rows.outcomes(evaluate.PIECE)])
    return [by_key[model.key] for model in models], labels


def curves(
    settings: Settings, days: list[date], progress: ReportProgress
) -> tuple[dict[str, tuple[Curve, Plan]], list[str]]:
    """Metric -> its curve; and why one is left out. Raises EvergreenError where both are."""
    found = {}
    left_out = []
    for name, measure in ((RETRIEVAL, retrieval_curve), (RANKER, ranker_curve)):
        try:
            found[name] = measure(settings, days, progress)
        except TooFewDays as reason:
            left_out.append(f"Left out: {name}. {reason}")
    if not found:
        raise EvergreenError(" ".join(left_out))
    return found, left_out


def rows_of(found: dict[str, tuple[Curve, Plan]]) -> list[Row]:
    """One row per metric and age; `lost`: to age 0."""
    rows: list[Row] = []
    for name, (curve, _) in found.items():
        for age, estimate in curve.items():
            row: Row = {"metric": name, "age": age, **estimate.fields("value")}
            row |= (curve[0] - estimate).fields("lost")
            rows.append(row)
    return rows


def sentences(found: dict[str, tuple[Curve, Plan]], label: str) -> list[str]:
    """What is lost after a week, or the oldest age."""
    lines = []
    for name, (curve, _) in found.items():
        age = max(age for age in curve if age <= words.WEEK)
        fresh = curve[0]
        if name == RETRIEVAL:
            what, whole = "next-day NDCG@20", words.Whole("it", fresh.value)
        else:
            what, whole = f"next-day AUC of {label}", words.Whole.of_auc(fresh.value)
        lines.append(words.sentence(age, fresh - curve[age], what, whole, None))
    return lines
