"""Begin a study, run one of its trials, end it. Commands and DAGs call the same three."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.trial import TrialState

from jobs.errors import EvergreenError, SettingsError
from jobs.settings import Settings
from jobs.tuning import pictures, study
from jobs.tuning.objectives import METRIC, Judge, days_to_judge, judge_of
from jobs.tuning.records import Records
from jobs.tuning.space import as_toml, changed, chosen, current, rounded, space_of
from jobs.tuning.study import ERROR, RUN, SLOT, Plan

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Trial
    from optuna.trial import FrozenTrial

FIRST = 0  # the slot that is tried with the settings as they are
# What options can cause, such as rates that diverge: the trial fails, and the study goes on.
BAD_OPTIONS = (SettingsError, ValueError, ArithmeticError, np.linalg.LinAlgError)


@dataclass(frozen=True)
class Result:
    """value, options: of the best trial; current: the value of the settings as they are, or None.

    toml: the options as a piece of the settings file. folder: of the pictures. outcomes: how many
    trials ended in each way.
    """

    study: str
    days: list[str]
    metric: str
    value: float
    options: dict[str, Any]
    current: float | None
    toml: str
    importances: dict[str, float]
    outcomes: dict[str, int]
    folder: Path


def begin(settings: Settings, kind: str) -> Plan:
    """Plan a study, and create it where it does not exist. Raises EvergreenError, SettingsError."""
    space_of(settings, kind)
    plan = Plan.of(settings, kind, days_to_judge(settings, kind))
    study.open_study(settings, plan)
    Records(settings, plan.name).parent()
    return plan


def run_trial(settings: Settings, plan: Plan, slot: int, judge: Judge | None = None) -> str:
    """Run the trial of a slot; nothing to do where it has ended. Returns a line about it.

    judge: of the plan's kind by default. Raises EvergreenError where another process is at it.
    """
    require_same(settings, plan)
    opened = study.open_study(settings, plan)
    ended = study.ended_trial(opened, slot)
    if ended is not None:
        return line_of(ended, METRIC[plan.kind])
    records = Records(settings, plan.name)
    close_killed(opened, slot, records)
    space = space_of(settings, plan.kind)
    first = current(settings, plan.kind, space) if slot == FIRST else None
    trial = study.ask(opened, slot, plan.seed, first)
    options = chosen(trial, space)
    run = records.start(records.parent(), slot, options)
    trial.set_user_attr(RUN, run)
    judged = judge or judge_of(plan.kind)
    try:
        values = day_by_day(changed(settings, plan.kind, options), plan, trial, judged, records)
    except BAD_OPTIONS as error:
        trial.set_user_attr(ERROR, str(error))
        opened.tell(trial, state=TrialState.FAIL)
        records.end(run, "FAILED", str(error)[:500])
        return f"trial {slot}: failed, {error}"
    pruned = len(values) < len(plan.days)
    if pruned:
        opened.tell(trial, state=TrialState.PRUNED)
    else:
        opened.tell(trial, float(np.mean(values)))
    records.end(run, "FINISHED", f"pruned after {len(values)} days" if pruned else "")
    return line_of(opened.trials[trial.number], METRIC[plan.kind])


def require_same(settings: Settings, plan: Plan) -> None:
    """Raises EvergreenError where the settings have changed since the plan was made."""
    if Plan.of(settings, plan.kind, plan.days) != plan:
        raise EvergreenError(
            f"The settings have changed since '{plan.name}' began: its trials would not compare. "
            "Start the study again."
        )


def day_by_day(
    settings: Settings, plan: Plan, trial: Trial, judge: Judge, records: Records
) -> list[float]:
    """The value of each day, up to the one after which the trial is pruned."""
    values: list[float] = []
    for number, day in enumerate(plan.days):
        value = judge(settings, day)
        if not np.isfinite(value):
            raise ValueError(f"{day} gives no value: {METRIC[plan.kind]} is {value}")
        values.append(value)
        mean = float(np.mean(values))
        trial.report(mean, number)
        records.log(trial.user_attrs[RUN], METRIC[plan.kind], mean, number)
        if number + 1 < len(plan.days) and trial.should_prune():
            break
    return values


def close_killed(opened: Any, slot: int, records: Records) -> None:
    """End the MLflow runs of trials of this slot that were killed."""
    for trial in opened.trials:
        if trial.user_attrs.get(SLOT) == slot and trial.state == TrialState.RUNNING:
            records.end(trial.user_attrs.get(RUN, ""), "KILLED", "killed; repeated")


def line_of(trial: FrozenTrial, metric: str) -> str:
    """What became of a trial, in a line."""
    options = ", ".join(f"{name} {shown(value)}" for name, value in trial.params.items())
    days = len(trial.intermediate_values)
    value = trial.intermediate_values[days - 1]
    ending = f", pruned after {days} days" if trial.state == TrialState.PRUNED else ""
    return f"trial {trial.user_attrs[SLOT]}: {metric} {value:.4f}{ending}, {options}"


def shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def finish(settings: Settings, plan: Plan) -> Result:
    """The best options of all trials that have ended, with pictures. Raises EvergreenError."""
    opened = study.open_study(settings, plan)
    study.bury(opened)
    done = study.with_values(opened)
    if not done:
        raise EvergreenError(
            f"No trial of '{plan.name}' has reached its last day. {failures(opened.trials)}"
            "Run the same command again, or change the ranges in [tuning]."
        )
    best = max(done, key=lambda trial: trial.values[0])  # of equal ones the first
    options = rounded(best.params)
    now = [trial.value for trial in done if trial.user_attrs[SLOT] == FIRST]
    is_current = current(settings, plan.kind, space_of(settings, plan.kind)) is not None
    folder = settings.home / "tuning" / plan.name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    metric = METRIC[plan.kind]
    toml = as_toml(settings, plan.kind, options)
    (folder / "best.toml").write_text(toml + "\n")
    result = Result(
        study=plan.name,
        days=[str(day) for day in plan.days],
        metric=metric,
        value=float(best.values[0]),
        options=options,
        current=now[0] if now and is_current else None,
        toml=toml,
        importances=pictures.draw(opened, folder, metric),
        outcomes=outcomes(opened.trials),
        folder=folder,
    )
    records = Records(settings, plan.name)
    facts = {"days": ", ".join(result.days), f"best_{metric}": result.value, "best": toml}
    records.finish(records.parent(), facts, folder)
    return result


def failures(trials: list[FrozenTrial]) -> str:
    """The reason of the first trial that has failed, as a sentence."""
    for trial in trials:
        if ERROR in trial.user_attrs:
            return f"Trial {trial.user_attrs[SLOT]} failed: {trial.user_attrs[ERROR]} "
    return ""


def outcomes(trials: list[FrozenTrial]) -> dict[str, int]:
    found: dict[str, int] = {}
    for trial in trials:
        name = trial.state.name.lower()
        found[name] = found.get(name, 0) + 1
    return found


def lines(result: Result) -> list[str]:
    """The result for a terminal and for the log of a task."""
    counts = ", ".join(f"{count} {name}" for name, count in sorted(result.outcomes.items()))
    days = result.days[0] if len(result.days) == 1 else f"{result.days[0]} to {result.days[-1]}"
    best = f"Best {result.metric} on {days}: {result.value:.4f}"
    if result.current is not None:
        best += f"; with the settings as they are {result.current:.4f}"
    found = [f"{result.study}: trials {counts}.", f"{best}."]
    if result.importances:
        weights = ", ".join(f"{name} {share:.2f}" for name, share in result.importances.items())
        found.append(f"What explains it: {weights}.")
    found += [f"Pictures are in {result.folder}. To adopt it, put this into the settings file:", ""]
    return found + result.toml.splitlines()
