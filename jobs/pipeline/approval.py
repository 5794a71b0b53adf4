"""What a person is asked where `ranker.promotion = "by hand"`, and what follows from the answer.

The gate proposes a challenger and the champion stays. The question has the gate's comparison. An
approval is a ruling as that of `evergreen ranker promote`, unless another model has become champion
since: the comparison was with the one that served then.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date

from jobs.errors import EvergreenError
from jobs.lake.store import Partition
from jobs.pipeline import guardrails, running
from jobs.pipeline.rulings import GATE, newest_decision, rule
from jobs.settings import Settings

PROMOTE = "promote"  # the step


class Refused(EvergreenError):
    """An approval of something that is no longer the question."""


@dataclass(frozen=True)
class Question:
    """May the model of a day replace the champion? comparison: the gate's, as Markdown.

    run_id: the same for the same decision, so that nobody is asked twice.
    """

    day: str
    model: str
    champion: str
    comparison: str
    run_id: str

    def as_conf(self) -> dict[str, str]:
        return asdict(self)


def question(settings: Settings, day: date) -> Question | None:
    """What a person is asked about a decided day; None where the gate has the last word."""
    decision = settings.lake.get(GATE, day)
    model = decision.facts["proposed"]
    if not model:
        return None
    return Question(
        day=str(day),
        model=model,
        champion=decision.facts["champion_after"],
        comparison=comparison(decision),
        run_id=f"model-of-{model}.{decision.digest[:12]}",  # Airflow's ids have no blanks
    )


def comparison(decision: Partition) -> str:
    """The challenger beside the champion on the decided day, as Markdown."""
    facts = decision.facts
    lines = [
        f"Tested on {decision.day}, which neither model has seen. Difference of the model of "
        f"{facts['challenger']} to the champion, that of {facts['champion_before']}:",
        "",
        "| | difference | 95 % interval |",
        "| --- | --- | --- |",
    ]
    for name, meaning, form in (
        ("difference", "AUC", "+.4f"),
        ("log_loss_rise", "log loss", "+.2%"),
    ):
        if name in facts:
            ends = [format(facts[f"{name}_{end}"], form) for end in ("low", "high")]
            lines.append(f"| {meaning} | {format(facts[name], form)} | {' to '.join(ends)} |")
    for title, figure in guardrails.shown(facts).items():
        lines.append(f"| {title} | {figure} | |")
    return "\n".join([*lines, "", facts["why"]])


def approved(
    settings: Settings, conf: dict[str, str], person: str, make_spark: running.SparkMaker
) -> str:
    """Let the approved model serve from the newest decided day on; returns that as a sentence.

    conf: of the question. It goes on where an attempt before it was interrupted. Raises Refused
    where the champion is no longer the one that the person has compared with, EvergreenError where
    the model is gone.
    """
    decision = newest_decision(settings)
    serving = decision.facts["champion_after"]
    if serving == conf["model"]:  # ruled already: the aliases may still have to follow
        running.request(settings, PROMOTE, decision.day, make_spark)
        return f"From {decision.day} on, the ranker of {conf['model']} serves."
    if serving != conf["champion"]:
        raise Refused(
            f"The model of {serving} serves now; the approval compared with that of "
            f"{conf['champion']}. Answer the newer question, or name the model: "
            f"evergreen ranker promote {conf['model']}"
        )
    ruling = rule(settings, date.fromisoformat(conf["model"]), "approved in Airflow", person)
    running.request(settings, PROMOTE, ruling.day, make_spark)
    return f"From {ruling.day} on, the ranker of {conf['model']} serves."
