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

Three rules stand above the table. A challenger whose log loss is significantly more than
`ranker.max_log_loss_rise` above the champion's is worse as well, whatever its AUC: its
probabilities are wrong. One that breaks a guardrail (jobs.pipeline.guardrails) is not promoted over
a tested champion. And with `ranker.promotion = "by hand"`, a champion that was tested stays until a
person promotes another model. A person's ruling on the day (jobs.pipeline.rulings) is the
decision; what the gate itself would have decided stays in the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.benchmarks.intervals import Estimate
from embeddings.facts import Fact
from jobs.judging.resampled import Batches, resampled
from jobs.lake.store import Partition
from jobs.pipeline import chain, guardrails
from jobs.pipeline.guardrails import Guardrail
from jobs.pipeline.needs import Need, if_there
from jobs.pipeline.plan import RULING, reads, recording
from jobs.plots import figure
from jobs.settings import RankerSettings, Settings
from jobs.steps.evaluate import CHALLENGER, CHAMPION, PREDICTIONS
from models.scratch import Scratch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NO_CHAMPION = "There is no champion yet."

SETTINGS = (*chain.SETTINGS, "guardrails")
FORMAT = 5
SPARK = False
FACTS = (
    Fact("champion_before", "training day of the champion that was tested; empty for none"),
    Fact("challenger", "training day of the challenger that was tested; empty for none"),
    Fact(
        "champion_after", "training day of the champion from now on; empty for none", headline=True
    ),
    Fact("promoted", "1 where the challenger becomes champion, else 0", headline=True),
    Fact("why", "the reason for the decision, with its figures"),
    Fact("proposed", "training day of the challenger that waits for a person; empty for none"),
    Fact("ruled_by", "the person who made the decision; empty where the gate made it"),
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
    Fact(
        "log_loss_rise",
        "log loss of the challenger over that of the champion, less 1",
        "share",
        better="lower",
    ),
    Fact("log_loss_rise_low", "lower end of its 95 % interval", "share", better="lower"),
    Fact("log_loss_rise_high", "upper end of its 95 % interval", "share", better="lower"),
    *guardrails.FACTS,
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
class Comparison:
    """The challenger beside the champion on the same resampled users.

    auc: its AUC less the champion's. log_loss_rise: its log loss over the champion's, less 1.
    """

    auc: Estimate
    log_loss_rise: Estimate


@dataclass(frozen=True)
class Decision:
    """The champion from now on, as its training day ('' for none), and the reason in words.

    proposed: the challenger that would be champion, had the gate the last word; '' for none.
    """

    champion: str
    why: str
    proposed: str = ""


def needs(settings: Settings, day: date) -> list[Need]:
    """The day's test, and what a person has decided about the day."""
    return [("evaluate", day), if_there(RULING, day)]


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Decide, and commit the decision with its reason."""
    read = reads(settings, "gate", day)
    test = read["evaluate", day]
    contest = Contest.of(test, settings.ranker.primary_label)
    with recording(settings, "gate", day, read.values()) as staging:
        compared = None
        judged: list[Guardrail] = []
        if contest.champion and contest.challenger:
            compared = compare(settings, test, staging.path)
            judged = guardrails.guardrails(settings.guardrails, test.facts, compared.auc.low)
        decision = decide(contest, compared, settings.ranker, judged)
        ruling = read.get((RULING, day))
        if ruling is not None:
            decision = decide_by_person(decision, ruling)
        promoted = decision.champion != "" and decision.champion == contest.challenger
        staging.facts |= {
            "champion_before": contest.champion,
            "challenger": contest.challenger,
            "champion_after": decision.champion,
            "promoted": int(promoted),
            "why": decision.why,
            "proposed": decision.proposed,
            "ruled_by": ruling.facts["by"] if ruling else "",
        }
        if compared:
            staging.facts |= interval_facts("difference", compared.auc)
            staging.facts |= interval_facts("log_loss_rise", compared.log_loss_rise)
        staging.facts |= {each.name: each.value for each in judged}
        broken = [each.name for each in judged if not each.holds]
        staging.facts[guardrails.BROKEN] = ", ".join(broken)
    # Where every resample has one outcome only, there is no value to draw.
    if compared and len(compared.auc.resamples):
        draw(settings.report("gate", day) / "bootstrap.png", compared.auc, decision, day)


def compare(settings: Settings, test: Partition, folder: Path | None = None) -> Comparison:
    """The challenger beside the champion on the tested day, primary label.

    folder: for what is too long for memory; by default that of temporary files.
    """
    seed = chain.seed(settings, "gate", test.day)
    with pq.ParquetFile(test.path / PREDICTIONS) as file, Scratch(folder) as scratch:
        batches = partial(file.iter_batches, scratch.piece)
        rows = file.metadata.num_rows
        return compared_in(batches, rows, settings.ranker.bootstrap, seed, scratch)


def comparison(predictions: pa.Table, resamples: int, seed: int) -> Comparison:
    """As `compared_in`, of predictions in memory."""
    with Scratch() as scratch:
        batches = partial(predictions.to_batches, scratch.piece)
        return compared_in(batches, predictions.num_rows, resamples, seed, scratch)


def compared_in(
    batches: Batches, rows: int, resamples: int, seed: int, scratch: Scratch
) -> Comparison:
    """Both differences; that of AUC is NaN unless both outcomes occur, and without rows both are.

    batches: of all rows, with the columns consumer_id, label, champion, challenger.
    """
    # One bootstrap for both models: they are compared on the same resampled users.
    found = resampled(batches, rows, (CHAMPION, CHALLENGER), resamples, seed, scratch)
    champion, challenger = found[CHAMPION], found[CHALLENGER]
    ratio = challenger.log_loss / champion.log_loss
    return Comparison(
        auc=challenger.auc - champion.auc,
        log_loss_rise=Estimate.from_draws(ratio.value - 1, ratio.draws - 1),
    )


def decide(
    contest: Contest,
    compared: Comparison | None,
    ranker: RankerSettings,
    judged: Sequence[Guardrail] = (),
) -> Decision:
    """The champion after the day, with the reason and who read an older version.

    compared, judged: the figures and the guardrails, where champion and challenger were tested.
    """
    decision = decide_by_table(contest, compared, ranker, judged)
    if contest.older_vectors:
        return replace(decision, why=f"{decision.why} {contest.older_vectors}")
    return decision


def decide_by_person(own: Decision, ruling: Partition) -> Decision:
    """The person's champion. own: what the gate would have decided."""
    champion = ruling.facts["champion"]
    said = f": {ruling.facts['why']}" if ruling.facts["why"] else ""
    why = f"{ruling.facts['by']} has decided that the model of {champion} serves{said}."
    return Decision(champion, f"{why} Of itself, the gate decides: {own.why}")


def decide_by_table(
    contest: Contest,
    compared: Comparison | None,
    ranker: RankerSettings,
    judged: Sequence[Guardrail] = (),
) -> Decision:
    """The champion after the day: the table at the top of this file, and the rules above it."""
    if contest.champion and contest.challenger and compared is not None:
        decision = decide_by_comparison(contest, compared, ranker.max_log_loss_rise)
        broken = [each for each in judged if not each.holds]
        if broken and decision.champion == contest.challenger:
            decision = kept_by_guardrails(contest, decision, broken)
        if ranker.promotion == "by hand" and decision.champion == contest.challenger:
            return left_to_a_person(contest, decision)
        return decision
    if contest.challenger:
        promotion = f"The model of {contest.challenger} is promoted unopposed."
        return Decision(contest.challenger, f"{promotion} {contest.why or NO_CHAMPION}")
    champion = contest.champion or contest.untested_champion
    if champion:
        stays = f"The model of {champion} stays: no challenger was tested."
        return Decision(champion, f"{stays} {contest.why}")
    return Decision("", f"{NO_CHAMPION} {contest.why}")


def kept_by_guardrails(contest: Contest, decision: Decision, broken: list[Guardrail]) -> Decision:
    """The champion stays, and a person reads which guardrails the challenger has broken."""
    stays = (
        f"The model of {contest.champion} stays: that of {contest.challenger} breaks a guardrail"
    )
    reasons = "; ".join(each.refusal for each in broken)
    return Decision(
        contest.champion,
        f"{stays}: {reasons}. Without guardrails, the gate decides: {decision.why} "
        f"To promote it: evergreen ranker promote {contest.challenger}",
    )


def left_to_a_person(contest: Contest, decision: Decision) -> Decision:
    """The champion stays, and a person reads what the gate would have decided."""
    stays = f"The model of {contest.champion} stays until a person promotes another one"
    return Decision(
        contest.champion,
        f"{stays} (ranker.promotion is 'by hand'). Of itself, the gate decides: {decision.why} "
        f"To promote it: evergreen ranker promote {contest.challenger}",
        proposed=contest.challenger,
    )


def decide_by_comparison(contest: Contest, compared: Comparison, max_rise: float) -> Decision:
    """The champion where both models were tested. max_rise: see `ranker.max_log_loss_rise`."""
    champion, challenger = contest.champion, contest.challenger
    interval, rise = compared.auc, compared.log_loss_rise
    promotion = f"The model of {challenger} is promoted"
    if rise.low > max_rise:
        loser = f"the log loss of that of {challenger} is too high"
        figures = f"{rise.value:+.1%} [{rise.low:+.1%}, {rise.high:+.1%}] on {contest.day}"
        return Decision(champion, f"The model of {champion} stays: {loser}, {figures}.")
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


def interval_facts(name: str, interval: Estimate) -> dict[str, float]:
    """NAME, NAME_low and NAME_high; an undefined one (NaN or infinite) is left out."""
    return {key: value for key, value in interval.fields(name).items() if np.isfinite(value)}


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
