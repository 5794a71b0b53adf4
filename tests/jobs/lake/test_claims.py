"""One runner computes a step of a day; a runner that was thought dead commits nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from datetime import date

import pytest

from jobs.errors import Superseded
from jobs.lake import Lake, claims

DAY = date(2024, 3, 1)
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake")


def commit(lake: Lake, text: str) -> None:
    with lake.writing("land", DAY, recipe="s") as staging:
        staging.facts["text"] = text


def text_of(lake: Lake) -> str:
    return lake.get("land", DAY).facts["text"]


def hold(lake: Lake, started, ended, fate: str) -> None:
    """A runner that holds the claim, and then dies or commits."""
    with lake.claimed("land", DAY):
        started.set()
        ended.wait()
        if fate == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        commit(lake, "first runner")


@pytest.mark.parametrize("fate", ["killed", "commits"])
def test_a_runner_waits_for_the_one_before_it(lake, fate):
    started, ended = FORK.Event(), FORK.Event()
    first = FORK.Process(target=hold, args=(lake, started, ended, fate))
    first.start()
    started.wait()
    second = FORK.Process(target=claim_and_commit, args=(lake,))
    second.start()
    time.sleep(0.3)
    assert lake.find("land", DAY) is None, "the second runner did not wait"
    ended.set()
    first.join()
    second.join()
    assert text_of(lake) == ("second runner, alone" if fate == "killed" else "second runner, after")


def claim_and_commit(lake: Lake) -> None:
    with lake.claimed("land", DAY):
        seen = "alone" if lake.find("land", DAY) is None else "after"
        commit(lake, f"second runner, {seen}")


def test_a_runner_thought_dead_commits_nothing_after_its_successor(lake, monkeypatch):
    """It is stopped, not dead: its claim is taken over, and then it goes on."""
    started, ended = FORK.Event(), FORK.Event()
    silent = FORK.Process(target=hold, args=(lake, started, ended, "commits"))
    silent.start()
    started.wait()
    monkeypatch.setattr(claims, "PATIENCE_S", 0.2)
    claim_and_commit(lake)
    ended.set()
    silent.join()
    assert silent.exitcode == 1
    assert text_of(lake) == "second runner, alone"


def test_what_a_step_writes_elsewhere_is_fenced_as_well(lake, monkeypatch):
    """Such as a version of the registry."""
    monkeypatch.setattr(claims, "PATIENCE_S", 0.2)
    published = []
    with (
        lake.claimed("publish", DAY),
        pytest.raises(Superseded, match="taken over"),
        lake.writing("publish", DAY, recipe="s") as staging,
    ):
        successor = FORK.Process(target=take_over, args=(lake,))
        successor.start()
        successor.join()
        with staging.fenced():
            published.append("too late")
    assert published == []


def take_over(lake: Lake) -> None:
    with lake.claimed("publish", DAY):
        pass


def test_a_runner_whose_partition_was_deleted_commits_nothing(lake):
    with pytest.raises(Superseded), lake.claimed("land", DAY):
        commit(lake, "first")
        lake.remove(lake.get("land", DAY))
        commit(lake, "second")
    assert lake.find("land", DAY) is None


def test_runners_of_different_steps_and_days_do_not_wait(lake):
    tomorrow = date(2024, 3, 2)
    with lake.claimed("matrix", DAY), lake.claimed("land", tomorrow), lake.claimed("land", DAY):
        commit(lake, "free")
    assert text_of(lake) == "free"
