"""gate: does yesterday's challenger replace the champion? Judged on a day that neither has seen.

It does unless it is significantly worse: the 95 % interval of the difference in AUC (paired
bootstrap of users) is entirely below zero. Of two equally good models the newer one is preferred,
because it has seen more recent data.

A model that is missing or reads other features than the day has cannot be tested. It neither wins
nor stops the day. A model of another space than the day's is tested like any other, with the
newest vectors of its own space, as it would be served:

    champion     challenger             champion from now on
    none         none, or not tested    none
    none         tested                 the challenger, unopposed
    not tested   none, or not tested    the champion
    not tested   tested                 the challenger, unopposed: it can read today's rows
    tested       none, or not tested    the champion
    tested       tested                 the challenger, unless it is significantly worse; also
                                        where AUC is undefined, without both outcomes on the day
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import Estimate, user_bootstrap
from embeddings.facts import Fact
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.plan import reads, recording
from jobs.plots import figure
from jobs.settings import Settings
from jobs.steps.evaluate import CHALLENGER, CHAMPION, PREDICTIONS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NO_CHAMPION = "There is no champion yet."

SETTINGS = chain.SETTINGS
FORMAT = 1
SPARK = False
FACTS = (
    Fact("champion_before", "training day of the champion that was tested; empty for none"),
    Fact("challenger", "training day of the challenger that was tested; empty for none"),
    Fact(
        "champion_after", "training day of the champion from now on; empty for none", headline=True
    ),
    Fact("promoted", "1 where the challenger becomes champion, else 0", headline=True),
    Fact("why", "the reason for the decision, with its figures"),
    Fact(
        "difference",
        "AUC of the challenger minus AUC of the champion, primary label",
        "AUC",
        better="higher",
        headline=True,
    ),
    Fact(
        "difference_low",
        "lower end of its 95 % interval",
        "AUC",
        better="higher",
        headline=True,
    ),
    Fact(
        "difference_high",
        "upper end of its 95 % interval",
        "AUC",
        better="higher",
        headline=True,
    ),
)


@dataclass(frozen=True)
class Contest:
    """The models that met a day, each by the day up to which it was trained; '' for none.

    A model that could not be tested on the day is in `untested_champion` or `untested_challenger`;
    why: the reason. older_vectors: which were tested with an older version. label: the primary
    label.
    """

    day: date
    label: str
    champion: str = ""
    challenger: str = ""
    untested_champion: str = ""
    untested_challenger: str = ""
    why: str = ""
    older_vectors: str = ""

    @classmethod
    def of(cls, test: Partition, label: str) -> Contest:
        """The contest that a partition of `evaluate` describes."""
        untested = (f"untested_{CHAMPION}", f"untested_{CHALLENGER}")
        entries = (CHAMPION, CHALLENGER, *untested, "why", "older_vectors")
        return cls(test.day, label, *[test.facts.get(name, "") for name in entries])


@dataclass(frozen=True)
class Decision:
    """The champion from now on, as its training day ('' for none), and the reason in words."""

    champion: str
    why: str


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    """The day's test."""
    return [("evaluate", day)]


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Decide, and commit the decision with its reason."""
    read = reads(settings, "gate", day)
    test = read["evaluate", day]
    contest = Contest.of(test, settings.ranker.primary_label)
    interval = None
    if contest.champion and contest.challenger:
        interval = compare(settings, test)
    decision = decide(contest, interval)
    promoted = decision.champion != "" and decision.champion == contest.challenger
    with recording(settings, "gate", day, read.values()) as staging:
        staging.facts |= {
            "champion_before": contest.champion,
            "challenger": contest.challenger,
            "champion_after": decision.champion,
            "promoted": int(promoted),
            "why": decision.why,
        }
        if interval:
            staging.facts |= interval_facts(interval)
    # Where every resample has one outcome only, there is no value to draw.
    if interval and len(interval.resamples):
        draw(settings.report("gate", day) / "bootstrap.png", interval, decision, day)


def compare(settings: Settings, test: Partition) -> Estimate:
    """AUC of the challenger minus AUC of the champion on the tested day, primary label."""
    table = pq.read_table(test.path / PREDICTIONS)
    return difference(table, settings.ranker.bootstrap, chain.seed(settings, "gate", test.day))


def difference(predictions: pa.Table, resamples: int, seed: int) -> Estimate:
    """AUC of the challenger minus AUC of the champion; NaN unless both outcomes occur."""
    users = predictions["consumer_id"].to_numpy()
    labels = predictions["label"].to_numpy()
    aucs = {}
    for role in (CHAMPION, CHALLENGER):
        aucs[role] = partial(auc, labels, predictions[role].to_numpy())
    # One bootstrap for both models: they are compared on the same resampled users.
    estimates = user_bootstrap(users, aucs, resamples, seed)
    return estimates[CHALLENGER] - estimates[CHAMPION]


def decide(contest: Contest, interval: Estimate | None) -> Decision:
    """The champion after the day, with the reason and who read an older version.

    interval: that of the difference, where champion and challenger were tested.
    """
    decision = decide_by_table(contest, interval)
    if contest.older_vectors:
        return replace(decision, why=f"{decision.why} {contest.older_vectors}")
    return decision


def decide_by_table(contest: Contest, interval: Estimate | None) -> Decision:
    """The champion after the day: the table at the top of this file."""
    if contest.champion and contest.challenger and interval is not None:
        return decide_by_interval(contest, interval)
    if contest.challenger:
        promotion = f"The model of {contest.challenger} is promoted unopposed."
        return Decision(contest.challenger, f"{promotion} {contest.why or NO_CHAMPION}")
    champion = contest.champion or contest.untested_champion
    if champion:
        stays = f"The model of {champion} stays: no challenger was tested."
        return Decision(champion, f"{stays} {contest.why}")
    return Decision("", f"{NO_CHAMPION} {contest.why}")


def decide_by_interval(contest: Contest, interval: Estimate) -> Decision:
    """The champion where both models were tested."""
    champion, challenger = contest.champion, contest.challenger
    promotion = f"The model of {challenger} is promoted"
    # AUC needs both outcomes; such a day shows nothing against the newer model.
    if np.isnan(interval.value):
        without = f"on {contest.day} '{contest.label}' did not have both outcomes"
        return Decision(challenger, f"{promotion}: {without}.")
    figures = (
        f"AUC of '{contest.label}' on {contest.day} {interval.value:+.4f} "
        f"[{interval.low:+.4f}, {interval.high:+.4f}]"
    )
    # A tie promotes: requiring a gain would keep a stale model for days (docs/decisions/0008).
    if interval.high < 0:
        loser = f"that of {challenger} is significantly worse"
        return Decision(champion, f"The model of {champion} stays: {loser}, {figures}.")
    verdict = "significantly better" if interval.low > 0 else "not worse"
    return Decision(challenger, f"{promotion} over that of {champion}: {verdict}, {figures}.")


def interval_facts(interval: Estimate) -> dict[str, Any]:
    """The figures of the comparison; an undefined one (NaN) is left out."""
    figures = {
        "difference": interval.value,
        "difference_low": interval.low,
        "difference_high": interval.high,
    }
    return {name: value for name, value in figures.items() if not np.isnan(value)}


def draw(path: Path, interval: Estimate, decision: Decision, day: date) -> None:
    """Histogram of the resampled differences, with zero and the interval."""
    color = "tab:green" if interval.high >= 0 else "tab:red"
    with figure(path, f"{day}: challenger - champion, resampled users") as axes:
        axes.hist(interval.resamples, bins=30, color=color, alpha=0.7)
        axes.axvline(0, color="black", linewidth=1)
        for edge in (interval.low, interval.high):
            axes.axvline(edge, color="grey", linestyle="--", linewidth=1)
        axes.set(
            xlabel=f"difference in AUC (champion from now on: the model of {decision.champion})",
            ylabel="resamples",
        )
