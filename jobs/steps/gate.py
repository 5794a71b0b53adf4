"""gate: does yesterday's challenger replace the champion? Judged on a day that neither has seen.

It does unless it is significantly worse: the 95 % interval of the difference in AUC (paired
bootstrap of users) is entirely below zero. Of two equally good models the newer one is preferred,
because it has seen more recent data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from embeddings.benchmarks.intervals import Estimate, user_bootstrap
from embeddings.facts import Fact
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.plan import writing
from jobs.plots import figure
from jobs.settings import Settings
from jobs.steps.evaluate import CHALLENGER, CHAMPION, PREDICTIONS
from models.metrics import auc

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


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
class Decision:
    """The champion from now on, as its training day ('' for none), and the reason in words."""

    champion: str
    why: str


def needs(settings: Settings, day: date) -> Iterator[tuple[str, date]]:
    """The day's test, and the decision of the previous day of the chain."""
    yield ("evaluate", day)
    yield from chain.needs_of_previous(settings, day, ("gate",))


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Decide, and commit the decision with its reason."""
    test = settings.lake.get("evaluate", day)
    champion = test.facts.get(CHAMPION, "")
    challenger = test.facts.get(CHALLENGER, "")
    untested = test.facts.get("untested_champion", "")
    # Without a champion there is nothing to compare with: the challenger wins unopposed.
    interval = compare(settings, test) if champion else None
    if untested and not challenger:
        # The champion reads another space. It stays until a model of this space has been tested.
        decision = Decision(untested, test.facts["why"])
    else:
        decision = decide(champion, challenger, interval, settings.ranker.primary_label, day)
    promoted = challenger != "" and decision.champion == challenger
    with writing(settings, "gate", day) as staging:
        staging.facts |= {
            "champion_before": champion,
            "challenger": challenger,
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
    users = table["consumer_id"].to_numpy()
    labels = table["label"].to_numpy()
    aucs = {}
    for role in (CHAMPION, CHALLENGER):
        aucs[role] = partial(auc, labels, table[role].to_numpy())
    # One bootstrap for both models: they are compared on the same resampled users.
    seed = chain.seed(settings, "gate", test.day)
    estimates = user_bootstrap(users, aucs, settings.ranker.bootstrap, seed)
    return estimates[CHALLENGER] - estimates[CHAMPION]


def decide(
    champion: str, challenger: str, interval: Estimate | None, label: str, day: date
) -> Decision:
    """The champion after `day`.

    champion, challenger: the days up to which they were trained, '' for none.
    interval: that of their difference; None where there is no champion to compare with.
    """
    if not challenger:
        why = f"{day} is the first day of the chain: no model has been tested yet."
        return Decision("", why)
    promotion = f"The model of {challenger} is promoted"
    if not champion or interval is None:
        return Decision(challenger, f"{promotion} unopposed: there is no champion in its space.")
    # AUC needs both outcomes; such a day shows nothing against the newer model.
    if np.isnan(interval.value):
        return Decision(challenger, f"{promotion}: on {day} '{label}' had one outcome only.")
    figures = (
        f"AUC of '{label}' on {day} {interval.value:+.4f} "
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
