"""gate: does yesterday's challenger replace the champion? Judged on the day that neither has seen.

It does unless it is worse beyond doubt: the paired user bootstrap's 95 % interval of the difference in AUC lies wholly
below zero. A fresh model that is as good is preferred, since it has seen more of the present.
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
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.chain import SETTINGS
from jobs.plots import figure
from jobs.settings import Settings
from jobs.steps.evaluate import PREDICTIONS
from models.metrics import auc

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class Decision:
    """Who is champion now ('' for nobody), and why, in words."""

    champion: str
    why: str


def needs(settings: Settings, day: date) -> Iterator[tuple[str, date]]:
    yield ("evaluate", day)
    yield from chain.needs_of_previous(settings, day, ("gate",))


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Decide, and write down the decision with its reason."""
    test = settings.lake.get("evaluate", day)
    champion, challenger = test.facts.get("champion", ""), test.facts.get("challenger", "")
    interval = compare(settings, test) if champion else None
    if not challenger and (stays := test.facts.get("untested_champion", "")):
        decision = Decision(
            stays, test.facts["why"]
        )  # of another space; it serves until a model of this one is tested
    else:
        decision = decide(champion, challenger, interval, settings.ranker.primary_label, day)
    with settings.lake.writing(
        "gate", day, settings=settings.digest(*SETTINGS), inputs=[test]
    ) as staging:
        staging.facts |= {
            "champion_before": champion,
            "challenger": challenger,
            "champion_after": decision.champion,
            "promoted": int(bool(challenger) and decision.champion == challenger),
            "why": decision.why,
            **(interval_facts(interval) if interval else {}),
        }
    if interval and len(interval.resamples):
        draw(settings.report("gate", day) / "bootstrap.png", interval, decision, day)


def compare(settings: Settings, test: Partition) -> Estimate:
    """AUC of the challenger minus AUC of the champion on the tested day."""
    table = pq.read_table(test.path / PREDICTIONS)
    users = table["consumer_id"].to_numpy()
    labels = table["label"].to_numpy()
    aucs = {
        name: partial(auc, labels, table[name].to_numpy()) for name in ("champion", "challenger")
    }
    seed = chain.seed(settings, "gate", test.day)
    estimates = user_bootstrap(users, aucs, settings.ranker.bootstrap, seed)
    return estimates["challenger"] - estimates["champion"]


def decide(
    champion: str, challenger: str, interval: Estimate | None, label: str, day: date
) -> Decision:
    """Who is champion after `day`. champion, challenger: the days up to which they were trained, '' for nobody."""
    if not challenger:
        return Decision(
            "", f"{day} is the first day of the chain: there is no model yet to be champion."
        )
    if not champion or interval is None:
        return Decision(
            challenger,
            f"The model of {challenger} is promoted unopposed: there is no champion in its space.",
        )
    if np.isnan(interval.value):
        return Decision(
            challenger,
            f"The model of {challenger} is promoted: on {day} '{label}' had one outcome only.",
        )
    figures = f"AUC of '{label}' on {day} {interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
    if interval.high < 0:
        return Decision(
            champion,
            f"The model of {champion} stays: that of {challenger} is worse beyond doubt, {figures}.",
        )
    verdict = "better beyond doubt" if interval.low > 0 else "not worse"
    return Decision(
        challenger,
        f"The model of {challenger} is promoted over that of {champion}: {verdict}, {figures}.",
    )


def interval_facts(interval: Estimate) -> dict[str, Any]:
    """The figures of the comparison; what is not defined is left out."""
    found = {
        "difference": interval.value,
        "difference_low": interval.low,
        "difference_high": interval.high,
    }
    return {name: value for name, value in found.items() if not np.isnan(value)}


def draw(path: Path, interval: Estimate, decision: Decision, day: date) -> None:
    """The resampled differences, with zero and the interval."""
    with figure(path, f"{day}: challenger - champion, resampled users") as axes:
        axes.hist(
            interval.resamples,
            bins=30,
            color="tab:green" if interval.high >= 0 else "tab:red",
            alpha=0.7,
        )
        axes.axvline(0, color="black", linewidth=1)
        for edge in (interval.low, interval.high):
            axes.axvline(edge, color="grey", linestyle="--", linewidth=1)
        axes.set(
            xlabel=f"difference in AUC (champion from now on: the model of {decision.champion})",
            ylabel="resamples",
        )
