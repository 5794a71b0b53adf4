"""What a second execution does to the runs of the first: replaces, supersedes or joins them."""

from __future__ import annotations

import os
from datetime import date, timedelta
from pathlib import Path

import pytest
from ranker_lake import FIRST
from tracked_runs import (
    FORK,
    commit,
    execute,
    in_child,
    killed_at,
    runs,
    step_run,
    tag,
)

from jobs.errors import Skip
from jobs.pipeline import plan, running
from jobs.pipeline.tracking.runs import Tracker
from jobs.pipeline.tracking.step_run import StepRun
from jobs.settings import RankerSettings, Settings

DAY = date(2032, 1, 1)
LONG = "n" * 6100  # MLflow's limit of a parameter is 6000


@pytest.fixture
def settings(tracked_settings) -> Settings:
    return tracked_settings


@pytest.fixture
def day(request) -> date:
    """A day for each test."""
    number = request.session.items.index(request.node)
    return DAY + timedelta(days=number)


def fail(settings: Settings, step: str, day: date) -> None:
    with pytest.raises(ZeroDivisionError), step_run(settings, step, day):
        1 / 0  # noqa: B018


def skip(settings: Settings, step: str, day: date) -> None:
    with pytest.raises(Skip), step_run(settings, step, day):
        raise Skip("no impressions")


def kill(settings: Settings, step: str, day: date) -> None:
    def work():
        with step_run(settings, step, day):
            os.abort()

    killed_at(os, "abort", work)


ATTEMPTS = {"FAILED": fail, "FINISHED": skip, "RUNNING": kill}


@pytest.mark.parametrize("status", ATTEMPTS)
def test_a_retry_takes_the_place_of_an_attempt_without_a_result(settings, client, day, status):
    """Two attempts, then a success with its own start; the attempts are kept as deleted runs."""
    for _ in range(2):
        ATTEMPTS[status](settings, "gate", day)
    (parent,), (attempt,) = runs(client, "ranker", day)
    assert attempt.info.status == status
    partition = execute(settings, "gate", day, difference=0.25)
    (same_parent,), (step,) = runs(client, "ranker", day)
    assert same_parent.info.run_id == parent.info.run_id
    assert (same_parent.info.status, step.info.status) == ("RUNNING", "FINISHED")
    assert not {"evergreen.error", "evergreen.skipped"} & step.data.tags.keys()
    assert step.info.start_time >= (attempt.info.end_time or attempt.info.start_time)
    assert tag(step, "digest") == partition.digest
    assert tag(step, "retry_of") == attempt.info.run_id
    assert "evergreen.previous_run" not in step.data.tags
    _, deleted = runs(client, "ranker", day, deleted=True)
    assert [run.info.status for run in deleted] == [status] * 2
    following = [deleted[1].info.run_id, step.info.run_id]
    assert [tag(run, "superseded_by") for run in deleted] == following


def test_a_rerun_is_another_run_linked_with_the_first(settings, client, day):
    """The links skip an attempt that failed in between; each run has its own duration."""
    execute(settings, "gate", day)
    fail(settings, "gate", day)
    execute(settings, "gate", day)
    _, (first, second) = runs(client, "ranker", day)
    assert tag(second, "previous_run") == first.info.run_id
    assert tag(first, "superseded_by") == second.info.run_id
    for run in (first, second):
        seconds = run.data.metrics["duration_s"]
        assert 0 < seconds <= (run.info.end_time - run.info.start_time) / 1000 + 0.05


def test_the_duration_of_a_part_is_that_of_its_steps(settings, client, day):
    for step in ("examples", "gate"):
        execute(settings, step, day)
    (parent,), nested = runs(client, "ranker", day)
    seconds = sum(run.data.metrics["duration_s"] for run in nested)
    assert parent.data.metrics["duration_s"] == pytest.approx(seconds)


class NewerSettings(RankerSettings):
    """The section as a later Evergreen might have it."""

    patience: int = 3


def ranker(**options) -> RankerSettings:
    return RankerSettings(start_day=FIRST, **options)


def moved(settings: Settings, folder: Path) -> Settings:
    """The same settings with another home, tracked in the same database."""
    mlflow = settings.mlflow.model_copy(update={"uri": settings.mlflow_uri})
    return settings.model_copy(update={"home": folder, "mlflow": mlflow})


def with_ranker(settings: Settings, section: RankerSettings) -> Settings:
    return settings.model_copy(update={"ranker": section})


def with_log(settings: Settings, folder: Path) -> Settings:
    source = settings.source.model_copy(update={"path": folder / "moved.txt"})
    return settings.model_copy(update={"source": source})


# What differs between two executions: their settings, from the module's settings and a folder.
CHANGES = {
    "nothing": (lambda s, _: s, lambda s, _: s),
    "the place of the log": (lambda s, _: s, with_log),
    "the place of the home": (lambda s, _: s, moved),
    "an option": (lambda s, _: s, lambda s, _: with_ranker(s, ranker(bootstrap=7))),
    "an option of the plug-in": (
        lambda s, _: s,
        lambda s, _: with_ranker(s, ranker(masknet={"blocks": 2})),
    ),
    "the end of a long value": (
        lambda s, _: with_ranker(s, ranker(primary_label=LONG + "a")),
        lambda s, _: with_ranker(s, ranker(primary_label=LONG + "b")),
    ),
    "one more option in the code": (
        lambda s, _: with_ranker(s, ranker()),
        lambda s, _: with_ranker(s, NewerSettings(start_day=FIRST)),
    ),
}


@pytest.mark.parametrize("outcome", ["finished", "failed"])
@pytest.mark.parametrize("change", CHANGES)
def test_no_change_of_the_settings_makes_a_rerun_fail(
    settings, client, day, tmp_path, change, outcome
):
    """Whatever differs, the newest run is the second one and has its own parameters."""
    before, after = (make(settings, tmp_path) for make in CHANGES[change])
    first = execute if outcome == "finished" else fail
    first(before, "train", day)
    (_, (old,)) = runs(client, "ranker", day)
    execute(after, "train", day)
    parents, nested = runs(client, "ranker", day)
    assert len(parents) == 1
    new = nested[-1]
    assert new.data.params["ranker.bootstrap"] == str(after.ranker.bootstrap)
    same = before.digest("ranker") == after.digest("ranker")
    if outcome == "failed" and same:
        assert nested == [new]
        assert tag(new, "retry_of") == old.info.run_id
    else:
        assert len(nested) == 2
        assert tag(new, "previous_run") == old.info.run_id


def test_a_killed_attempt_with_other_settings_does_not_stay_running(settings, client, day):
    kill(settings, "gate", day)
    execute(with_ranker(settings, ranker(bootstrap=7)), "gate", day)
    _, (first, second) = runs(client, "ranker", day)
    assert first.info.status == "KILLED"
    assert tag(first, "superseded_by") == second.info.run_id


def test_a_finished_part_is_superseded_when_a_step_runs_again(settings, client, day):
    """And the steps that follow, in other processes, join the new parent."""
    for step in ("gate", "promote", "gate", "promote"):
        execute(settings, step, day)
    (first, second), nested = runs(client, "ranker", day)
    assert tag(second, "previous_run") == first.info.run_id
    assert tag(first, "superseded_by") == second.info.run_id
    assert [first.info.status, second.info.status] == ["FINISHED"] * 2
    below = [run.data.tags["mlflow.parentRunId"] for run in nested]
    assert below == [first.info.run_id] * 2 + [second.info.run_id] * 2


def test_a_leaf_that_runs_after_the_last_step_ends_the_days_run(settings, client):
    day = FIRST
    with step_run(settings, "consistency", day) as run:
        with plan.writing(settings, "consistency", day):
            pass
        run.record(settings.lake.get("consistency", day))
    running.ensure(settings, "drift", day, lambda: pytest.fail("a session was requested"))
    parents, nested = runs(client, "embeddings", day)
    assert nested[-1].data.tags["mlflow.runName"].startswith("drift")
    assert {run.info.status for run in (*parents, *nested)} == {"FINISHED"}


def test_a_skipped_step_does_not_end_its_part(settings, client, day):
    skip(settings, "examples", day)
    execute(settings, "gate", day)
    (parent,), _ = runs(client, "ranker", day)
    assert parent.info.status == "RUNNING"
    Tracker(settings).finish_part("ranker", day, {})
    (parent,), _ = runs(client, "ranker", day)
    assert parent.info.status == "FINISHED"


def test_processes_that_start_together_share_a_run(settings, client, day):
    """Four processes execute one step at once: one parent and one nested run, complete."""
    barrier = FORK.Barrier(4)

    def work():
        tracker = Tracker(settings)
        assert tracker.client  # opened first: processes open it one after the other
        barrier.wait()
        with tracker.step_run(plan.tracked(settings, "gate"), day) as run:
            barrier.wait()
            run.record(commit(settings, "gate", day, difference=0.5))

    children = []
    for _ in range(4):
        children.append(FORK.Process(target=in_child, args=(work,)))
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    (_,), (step,) = runs(client, "ranker", day)
    assert step.info.status == "FINISHED"
    assert step.data.metrics["difference"] == 0.5
    assert len(tag(step, "process").split()) == 4
    assert runs(client, "ranker", day, deleted=True) == ([], [])


def test_a_run_of_another_machine_is_joined(settings, client, day):
    """It cannot be known here whether it is alive. Its parameters stay as they are."""
    tracked = plan.tracked(settings, "gate")
    tags = {
        "evergreen.step": "gate",
        "evergreen.day": str(day),
        "evergreen.settings": settings.digest(*tracked.sections),
        "evergreen.process": "elsewhere/7/1.5",
        "mlflow.parentRunId": "elsewhere",
    }
    theirs = client.create_run(Tracker(settings).experiment_id("ranker"), tags=tags)
    client.log_param(theirs.info.run_id, "ranker.bootstrap", "in other words")
    execute(settings, "gate", day)
    _, (step,) = runs(client, "ranker", day)
    assert step.info.run_id == theirs.info.run_id
    assert step.data.params["ranker.bootstrap"] == "in other words"
    assert step.data.params["ranker.window_days"] == "4"


MOMENTS = ("record", "_log_inputs", "finish", "_log_duration_of_part")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_record_that_a_kill_cut_off_is_completed(settings, client, day, moment):
    """After the commit, at any moment of the recording; the repair is no execution."""
    tracker = Tracker(settings)
    step = "gate"
    killed_at(StepRun, moment, lambda: execute(settings, step, day, difference=0.25))
    partition = settings.lake.get(step, day)
    tracked = plan.tracked(settings, step)
    # The last moment is after the end of the nested run.
    assert tracker.recorded(tracked, partition) == (moment == MOMENTS[-1])
    for _ in range(2):
        if not tracker.recorded(tracked, partition):
            with step_run(settings, step, day, computes=False) as run:
                run.record(partition)
                run.record(partition)
    (_,), (nested,) = runs(client, "ranker", day)
    assert nested.info.status == "FINISHED"
    assert nested.data.metrics["difference"] == 0.25
    assert ("duration_s" in nested.data.metrics) == (moment == MOMENTS[-1])


def test_a_refusal_that_is_recorded_later_is_a_failed_run(settings, client, day):
    refusal = commit(settings, "validate", day, trusted=False, reason="6 % bad")
    with step_run(settings, "validate", day, computes=False) as run:
        run.record(refusal)
    (parent,), (step,) = runs(client, "embeddings", day)
    assert (parent.info.status, step.info.status) == ("FAILED", "FAILED")
    assert tag(step, "error") == "6 % bad"
    assert Tracker(settings).recorded(plan.tracked(settings, "validate"), refusal)


def test_another_content_is_not_recorded(settings, day):
    old = execute(settings, "gate", day, difference=0.25)
    new = commit(settings, "gate", day, difference=0.5)
    recorded = [Tracker(settings).recorded(plan.tracked(settings, "gate"), p) for p in (old, new)]
    assert recorded == [True, False]
