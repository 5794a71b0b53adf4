"""What refreshing the embeddings buys a ranker that is not retrained.

As in `jobs.reports.alignment`, rankers read profile, context and vectors, without ids and past
counts. The ranker of age a is served vectors in three ways, and a fourth ranker is retrained:

    frozen              those that were newest when it was trained
    unaligned refresh   yesterday's, as a retrained solver returns them: in arbitrary axes
    aligned refresh     yesterday's, in the space of its training
    everything fresh    a ranker trained up to yesterday, with yesterday's vectors
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import Estimate, share_of_gain, user_bootstrap
from jobs.reports.alignment import with_random_signs
from jobs.reports.daily_log import Log
from jobs.reports.daily_versions import Version, align, daily_versions
from jobs.reports.decay.ages import Plan, TooFewDays, plan_of
from jobs.reports.frozen_rankers import AUC_RESAMPLES, Ranker, RankingDays
from jobs.reports.methods import Method
from jobs.reports.report import ReportProgress, Row
from jobs.reports.trials import mean_metric
from jobs.settings import Settings

FROZEN, UNALIGNED, ALIGNED, FRESH = WAYS = (
    "frozen",
    "unaligned refresh",
    "aligned refresh",
    "everything fresh",
)
SEED_STEP = 10_000  # between the solvers of two seeds, which count up by the day


@dataclass
class Measured:
    """aucs: way and age -> AUC of the primary label, all on the same rows.

    seconds: CPU, of the newest embeddings and of the newest ranker, by seed.
    """

    plan: Plan
    aucs: dict[tuple[str, int], Estimate] = field(default_factory=dict)
    embedding_s: list[float] = field(default_factory=list)
    ranker_s: list[float] = field(default_factory=list)


def rankable(log: Log) -> list[int]:
    """Numbers of the days with impressions and a day before, whose vectors they are served."""
    return [n for n, day in enumerate(log.days) if n > 0 and day.examples is not None]


def plan(log: Log) -> Plan:
    """Raises TooFewDays where no ranker can grow old."""
    days = [log.days[number].day for number in rankable(log)]
    if not days:
        raise TooFewDays("No day but the first has impressions: there is nothing to rank.")
    return plan_of(days, "impressions and a day before them")


def n_steps(log: Log, chosen: Plan, seeds: int) -> int:
    """How often `measure` reports progress."""
    return seeds * (len(log.days) - 1 + len(chosen.all_learned()))


def measure(
    log: Log, chosen: Plan, settings: Settings, method: Method, seeds: int, progress: ReportProgress
) -> Measured:
    """All ways at every age, with intervals by consumer. chosen: `plan` of this log."""
    numbers = rankable(log)
    found = Measured(chosen)
    scores: dict[tuple[str, int], dict[int, list[np.ndarray]]] = {}
    for seed in range(seeds):
        started = time.process_time()
        versions = align(daily_versions(log, method, settings, SEED_STEP * seed, progress))
        # An estimate: a later day's fit has more data than an earlier one.
        found.embedding_s.append((time.process_time() - started) / len(versions))
        served = {ALIGNED: versions, UNALIGNED: with_random_signs(versions, seed)}
        days = RankingDays(log, settings, seed, numbers[0])
        for last in chosen.all_learned():
            progress(f"ranker of vectors up to {log.days[numbers[last]].day}, seed {seed}")
            started = time.process_time()
            ranker = trained(days, numbers, last, versions)
            seconds = time.process_time() - started
            score_ages(scores, days, numbers, chosen, last, ranker, served)
        found.ranker_s.append(seconds)
    found.aucs = estimates(log, numbers, chosen, scores)
    return found


def trained(days: RankingDays, numbers: list[int], last: int, versions: list[Version]) -> Ranker:
    """A ranker of the window up to a position, each day with the vectors of the day before it."""
    assert days.log.spec is not None, "a log with impressions has a spec"
    window = numbers[max(0, last + 1 - days.settings.ranker.window_days) : last + 1]
    examples = [days.examples(number, versions[number - 1]) for number in window]
    return Ranker(days.log.spec, examples, days.settings.ranker, days.seed)


def score_ages(
    scores: dict[tuple[str, int], dict[int, list[np.ndarray]]],
    days: RankingDays,
    numbers: list[int],
    chosen: Plan,
    last: int,
    ranker: Ranker,
    served: dict[str, list[Version]],
) -> None:
    """Add the scores of one ranker on the tested days on which it is of some age."""
    for test in chosen.tests:
        ages = [age for age in chosen.ages if chosen.learned(test, age) == last]
        if not ages:
            continue
        number = numbers[test]
        versions = {way: by_day[number - 1] for way, by_day in served.items()}
        versions[FROZEN] = served[ALIGNED][numbers[last]]
        for way, version in versions.items():
            of_way = ranker.score(days.examples(number, version))
            for age in ages:
                add(scores, (way, age), test, of_way)
                if age == 0 and way == ALIGNED:
                    for other in chosen.ages:
                        add(scores, (FRESH, other), test, of_way)


def add(scores: dict, key: tuple[str, int], test: int, of_seed: np.ndarray) -> None:
    scores.setdefault(key, {}).setdefault(test, []).append(of_seed)


def estimates(
    log: Log,
    numbers: list[int],
    chosen: Plan,
    scores: dict[tuple[str, int], dict[int, list[np.ndarray]]],
) -> dict[tuple[str, int], Estimate]:
    """The AUC of every way and age: mean over tested days and seeds, resampled by consumer."""
    users = []
    labels = []
    for test in chosen.tests:
        examples = log.days[numbers[test]].examples
        assert examples is not None, "a rankable day has impressions"
        users.append(examples.consumer_rows)
        labels.append(examples.labels[:, 0])
    statistics: dict[tuple[str, int], partial] = {}
    for key, of_key in scores.items():
        of_tests = [of_key[test] for test in chosen.tests]
        statistics[key] = partial(mean_metric, auc, labels, of_tests)
    return user_bootstrap(np.concatenate(users), statistics, AUC_RESAMPLES, seed=0)


# Tables


def curve_rows(found: Measured) -> list[Row]:
    """One row per way and age; `lost`: to everything fresh."""
    rows: list[Row] = []
    for way in WAYS:
        for age in found.plan.ages:
            row: Row = {"way": way, "age": age}
            row |= found.aucs[way, age].fields("auc")
            row |= (found.aucs[FRESH, age] - found.aucs[way, age]).fields("auc_lost")
            rows.append(row)
    return rows


def won_back(found: Measured, age: int) -> Estimate:
    """The share of the loss of frozen vectors that aligned ones win back."""
    aucs = found.aucs
    return share_of_gain(aucs[ALIGNED, age], aucs[FRESH, age], aucs[FROZEN, age])


def seconds(found: Measured) -> dict[str, float]:
    """CPU seconds of a refresh of the embeddings, and of one with a new ranker."""
    embeddings = float(np.median(found.embedding_s))
    return {ALIGNED: embeddings, FRESH: embeddings + float(np.median(found.ranker_s))}
