"""Studies: what is drawn, what is pruned, what a kill leaves, and what comes out."""

from __future__ import annotations

import multiprocessing
import os
import signal
from datetime import date, timedelta

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from jobs.errors import EvergreenError
from jobs.settings import EmbeddingSettings, MLflowSettings, Settings
from jobs.settings.tuning import TuningSettings
from jobs.sources.edgelist import EdgelistSettings
from jobs.tuning import pictures, run
from jobs.tuning.space import rounded
from jobs.tuning.study import ERROR, SLOT, Plan, open_study

DAYS = [date(2024, 1, 1) + timedelta(days=n) for n in range(3)]
SPACE = {
    "unobserved_weight": {"low": 0.01, "high": 10.0, "log": True},
    "dim": {"low": 4, "high": 64},
}
FORK = multiprocessing.get_context("fork")


def settings_of(home, **tuning) -> Settings:
    return Settings(
        home=home,
        source=EdgelistSettings(kind="edgelist", path=home / "log"),
        embedding=EmbeddingSettings(name="it", method="als"),
        tuning=TuningSettings(**{"embedding": SPACE, **tuning}),
        mlflow=MLflowSettings(uri="off"),
    )


@pytest.fixture
def settings(tmp_path) -> Settings:
    return settings_of(tmp_path)


def worth(settings: Settings, day: date) -> float:
    """A smooth surface: the weight matters, best at 1, the length hardly; days differ."""
    weight = np.log10(settings.embedding.options.unobserved_weight)
    return 1 - weight**2 / 4 + settings.embedding.dim / 10_000 + day.day / 100


def plan_of(settings: Settings) -> Plan:
    return Plan.of(settings, "embedding", DAYS)


def tried(settings: Settings, slots: range, judge=worth) -> list[dict]:
    """The options of the trials of these slots, run one after the other."""
    plan = plan_of(settings)
    for slot in slots:
        run.run_trial(settings, plan, slot, judge)
    return [trial.params for trial in open_study(settings, plan).trials]


def test_one_worker_repeats_a_study_however_often_it_is_started_again(tmp_path):
    """The same options in two homes; a slot that has ended is not run again."""
    one = settings_of(tmp_path / "one")
    tried(one, range(4))
    again = settings_of(tmp_path / "two")
    assert tried(one, range(7)) == tried(again, range(7))  # the last ones are not random
    other = settings_of(tmp_path, seed=1)
    assert tried(other, range(2))[1] != tried(again, range(2))[1]


def test_the_first_trial_has_the_settings_as_they_are(settings):
    (first,) = tried(settings, range(1))
    options = settings.embedding.options
    assert first == {"unobserved_weight": options.unobserved_weight, "dim": settings.embedding.dim}


def test_the_result_is_the_best_of_all_days(settings):
    """By a loop over all trials, with the mean of the days; adopting it is a piece of TOML."""
    tried(settings, range(6))
    plan = plan_of(settings)
    result = run.finish(settings, plan)
    found = []
    for trial in open_study(settings, plan).trials:
        if trial.state == TrialState.COMPLETE:
            own = run.changed(settings, "embedding", trial.params)
            found.append((np.mean([worth(own, day) for day in DAYS]), trial.params))
    value, options = max(found, key=lambda pair: pair[0])
    assert result.value == pytest.approx(value)
    assert result.options == rounded(options)
    assert result.current == pytest.approx(np.mean([worth(settings, day) for day in DAYS]))
    assert f"unobserved_weight = {options['unobserved_weight']:.6g}" in run.lines(result)


def test_a_trial_below_the_median_ends_after_its_first_day(settings):
    asked: list[date] = []

    def judge(of_trial: Settings, day: date) -> float:
        asked.append(day)
        return 0.0 if len(asked) > 5 * len(DAYS) else 1.0

    plan = plan_of(settings)
    for slot in range(6):
        line = run.run_trial(settings, plan, slot, judge)
    assert asked[-2:] == [DAYS[-1], DAYS[0]]
    assert line.startswith("trial 5: ndcg20 0.0000, pruned after 1 days")
    assert open_study(settings, plan).trials[-1].state == TrialState.PRUNED


def test_options_that_cannot_be_fitted_fail_their_trial_alone(settings):
    def judge(of_trial: Settings, day: date) -> float:
        if of_trial.embedding.dim % 2 == 0:
            raise np.linalg.LinAlgError("singular")
        return 1.0

    tried(settings, range(6), judge)
    trials = open_study(settings, plan_of(settings)).trials
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert failed
    assert all(trial.params["dim"] % 2 == 0 for trial in failed)
    assert {trial.user_attrs[ERROR] for trial in failed} == {"singular"}
    assert run.finish(settings, plan_of(settings)).options["dim"] % 2 == 1


def test_nothing_but_failures_is_an_error_with_their_reason(settings):
    def judge(of_trial: Settings, day: date) -> float:
        raise ValueError("the day is empty")

    tried(settings, range(2), judge)
    with pytest.raises(EvergreenError, match="No trial .* Trial 0 failed: the day is empty"):
        run.finish(settings, plan_of(settings))


# Kills


def killed_on(settings: Settings, slot: int, day: date) -> None:
    """Run a trial in a process of its own, and kill it when it comes to a day."""

    def judge(of_trial: Settings, asked: date) -> float:
        if asked == day:
            os.kill(os.getpid(), signal.SIGKILL)
        return worth(of_trial, asked)

    child = FORK.Process(target=run.run_trial, args=(settings, plan_of(settings), slot, judge))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("day", DAYS[:2])
def test_a_killed_trial_is_marked_failed_and_repeated(settings, day):
    """With the same options, and the study goes on; by then, it has not used up its slot."""
    tried(settings, range(1))
    killed_on(settings, 1, day)
    before = open_study(settings, plan_of(settings)).trials
    assert [trial.state for trial in before] == [TrialState.COMPLETE, TrialState.RUNNING]
    found = tried(settings, range(3))
    assert found[1] == found[2] == before[1].params
    trials = open_study(settings, plan_of(settings)).trials
    assert [trial.user_attrs[SLOT] for trial in trials] == [0, 1, 1, 2]
    assert trials[1].state == TrialState.FAIL
    assert trials[2].state == TrialState.COMPLETE


def test_a_trial_that_another_process_runs_is_left_alone(settings):
    """Two workers at one slot: the error of the second names the process of the first."""
    ready, go = FORK.Event(), FORK.Event()

    def judge(of_trial: Settings, day: date) -> float:
        ready.set()
        go.wait(60)
        return 1.0

    child = FORK.Process(target=run.run_trial, args=(settings, plan_of(settings), 0, judge))
    child.start()
    assert ready.wait(60)
    try:
        with pytest.raises(EvergreenError, match=rf"Trial 0 .* is being run by .*/{child.pid}/"):
            run.run_trial(settings, plan_of(settings), 0, worth)
    finally:
        go.set()
        child.join()
    assert [trial.value for trial in open_study(settings, plan_of(settings)).trials] == [1.0]


def test_other_settings_are_not_mixed_into_a_study(settings):
    plan = plan_of(settings)
    other = settings_of(settings.home, embedding={"dim": [4, 8]})
    with pytest.raises(EvergreenError, match="The settings have changed since"):
        run.run_trial(other, plan, 0, worth)


# What is left for people


def test_what_matters_is_found_and_drawn(tmp_path):
    """Of 30 trials whose value is one option, and not the other."""
    study = optuna.create_study()
    kinds = {"rate": FloatDistribution(0.0, 1.0), "dim": IntDistribution(4, 64)}
    rng = np.random.default_rng(0)
    for _ in range(30):
        chosen = {"rate": float(rng.random()), "dim": int(rng.integers(4, 65))}
        study.add_trial(
            optuna.create_trial(params=chosen, distributions=kinds, value=chosen["rate"])
        )
    shares = pictures.draw(study, tmp_path, "auc")
    assert shares["rate"] > 0.9
    for name in ("importance.png", "parallel.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_an_axis_has_the_ends_of_its_values():
    places, labels = pictures.axis([1.0, 10.0, 100.0])  # logarithmic
    np.testing.assert_allclose(places, [0, 0.5, 1])
    assert [text for _, text in labels] == ["1", "100"]
    places, labels = pictures.axis(["direct", "baskets", "direct"])
    np.testing.assert_allclose(places, [1, 0, 1])
    assert [text for _, text in labels] == ["baskets", "direct"]
    np.testing.assert_allclose(pictures.axis([3, 3])[0], [0, 0])
