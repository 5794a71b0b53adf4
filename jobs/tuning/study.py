"""A study: its trials in a database of its own, each of which may be killed at any moment.

A study has slots, numbered from 0, and each slot ends with one trial that has a value. Whoever runs
a slot whose trial was killed marks that trial failed, and repeats it with the options that it had.
So any number of processes can share a study, and each of them may be started again.

What a slot draws depends on the seed, on the number of the slot and on the trials that have ended
by then: with one worker, a study is repeatable.

The database is not MLflow's: both keep the version of their schema in a table `alembic_version`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import optuna
from optuna.samplers import PartialFixedSampler, TPESampler
from optuna.trial import TrialState
from sqlalchemy.pool import NullPool

from embeddings.durable import locked
from jobs.errors import EvergreenError
from jobs.pipeline.tracking.history import process_is_alive, this_process
from jobs.settings import Settings
from jobs.tuning.space import KINDS, Options

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

PATIENCE_S = 60  # for the database, which another process may be writing to
FIRST_RANDOM = 5  # trials that are drawn at random, and before any is pruned
SLOT, PROCESS, RUN, ERROR, DAYS = "slot", "process", "mlflow_run", "error", "days"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)

logging.getLogger("optuna").setLevel(logging.WARNING)  # its lines have no day and no unit


@dataclass(frozen=True)
class Plan:
    """What a study is of. days: that every trial is judged on, ascending."""

    kind: str
    days: list[date]
    seed: int
    space: dict[str, Any]  # as JSON
    digest: str  # of the settings that shape the results

    @classmethod
    def of(cls, settings: Settings, kind: str, days: list[date]) -> Plan:
        given = settings.tuning.model_dump(mode="json")[kind]
        return cls(kind, days, settings.tuning.seed, given, settings.digest(*KINDS[kind]))

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Plan:
        """As `as_json` has made it; other keys are ignored."""
        days = [date.fromisoformat(day) for day in told["days"]]
        return cls(told["kind"], days, told["seed"], told["space"], told["digest"])

    def as_json(self) -> dict[str, Any]:
        """For the tasks of a DAG."""
        return asdict(self) | {"days": [str(day) for day in self.days]}

    @property
    def name(self) -> str:
        """Equal plans have one study, which goes on where it was."""
        days = [str(day) for day in self.days]
        text = json.dumps([days, self.seed, self.space, self.digest], sort_keys=True)
        own = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self.kind} {self.days[0]} to {self.days[-1]} {own}"


def open_storage(settings: Settings) -> RDBStorage:
    """The database of all studies of this home; its tables are created where they are missing."""
    given = settings.database_address("tuning")
    if given.startswith("sqlite"):
        options: dict[str, Any] = {"connect_args": {"timeout": PATIENCE_S}}
    else:
        options = {"poolclass": NullPool}  # a trial takes minutes, and asks a few times
    # Optuna takes the address for a template.
    address = given.replace("{", "{{").replace("}", "}}")
    # Two processes that create the tables at once would break them.
    with locked(settings.home / "tuning" / "optuna.lock"):
        return optuna.storages.RDBStorage(address, engine_kwargs=options)


def open_study(settings: Settings, plan: Plan) -> Study:
    """The study of a plan, created where it is missing."""
    study = optuna.create_study(
        storage=open_storage(settings),
        study_name=plan.name,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST_RANDOM),
    )
    if DAYS not in study.user_attrs:
        study.set_user_attr(DAYS, [str(day) for day in plan.days])
    return study


def ended_trial(study: Study, slot: int) -> FrozenTrial | None:
    """The trial with which a slot has ended; None if it has not."""
    for trial in study.trials:
        if trial.user_attrs.get(SLOT) == slot and trial.state in ENDED:
            return trial
    return None


def ask(study: Study, slot: int, seed: int, first: Options | None = None) -> Trial:
    """A trial for a slot, with the options of the one that was killed there, if any.

    first: options to begin with. Raises EvergreenError where another process is at the slot.
    """
    fixed = dict(first or {})
    for trial in study.trials:
        if trial.user_attrs.get(SLOT) != slot:
            continue
        if trial.state == TrialState.FAIL and ERROR not in trial.user_attrs:
            fixed |= trial.params  # killed, and buried since
        if trial.state != TrialState.RUNNING:
            continue
        owner = trial.user_attrs.get(PROCESS, "")
        if owner != this_process() and process_is_alive(owner):
            raise EvergreenError(
                f"Trial {slot} of '{study.study_name}' is being run by process {owner}. Wait for "
                "it to end, or stop it; the trial is then repeated."
            )
        study.tell(trial.number, state=TrialState.FAIL)
        fixed |= trial.params  # those that it had drawn when it was killed
    study.sampler = sampler(mixed(seed, slot), fixed)
    asked = study.ask()
    asked.set_user_attr(SLOT, slot)
    asked.set_user_attr(PROCESS, this_process())
    return asked


def sampler(seed: int, fixed: Options) -> optuna.samplers.BaseSampler:
    """Draws by a tree of Parzen estimators, except for what is fixed."""
    free = TPESampler(n_startup_trials=FIRST_RANDOM, seed=seed)
    if not fixed:
        return free
    with warnings.catch_warnings():
        # It is "experimental" for years; the version is pinned.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return PartialFixedSampler(fixed, free)


def mixed(seed: int, slot: int) -> int:
    """A seed of its own for every slot."""
    digest = hashlib.sha256(f"{seed}/{slot}".encode()).digest()
    return int.from_bytes(digest[:4], "little")


def bury(study: Study) -> None:
    """Mark what was killed as failed, also a trial that was killed before it had a slot."""
    for trial in study.trials:
        killed = trial.state == TrialState.RUNNING
        if killed and not process_is_alive(trial.user_attrs.get(PROCESS, "")):
            study.tell(trial.number, state=TrialState.FAIL)


def with_values(study: Study) -> list[FrozenTrial]:
    """The trials that were judged on all days, in the order of their slots."""
    found = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    return sorted(found, key=lambda trial: trial.user_attrs.get(SLOT, 0))
