"""A partition is current when its settings and the digests of all its inputs are."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from jobs.lake import Lake, Partition
from jobs.pipeline.freshness import Freshness

DAY = date(2024, 3, 1)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake")


def commit(
    lake: Lake, step: str, *inputs: Partition, day: date = DAY, settings="now", **facts
) -> Partition:
    with lake.writing(step, day, settings=settings, inputs=inputs) as staging:
        staging.facts |= facts
    return lake.get(step, day)


def current_steps(lake: Lake, *steps: str) -> list[str]:
    """Those of these steps whose partition is current."""
    look = Freshness(lake, lambda step: None if step == "retired" else "now")
    return [step for step in steps if look.current(step, DAY)]


def test_a_chain_whose_inputs_are_committed_is_current(lake):
    land = commit(lake, "land")
    matrix = commit(lake, "matrix", land)
    commit(lake, "embed", matrix)
    assert current_steps(lake, "land", "matrix", "embed") == ["land", "matrix", "embed"]


def test_everything_computed_from_a_replaced_partition_is_stale(lake):
    land = commit(lake, "land")
    matrix = commit(lake, "matrix", land)
    commit(lake, "embed", matrix)
    commit(lake, "gate")
    commit(lake, "land", rows=7)
    assert current_steps(lake, "land", "matrix", "embed", "gate") == ["land", "gate"]


def test_the_same_bytes_again_leave_everything_current(lake):
    land = commit(lake, "land", rows=3)
    commit(lake, "matrix", land)
    commit(lake, "land", rows=4)
    commit(lake, "land", rows=3)
    assert current_steps(lake, "land", "matrix") == ["land", "matrix"]


def test_other_settings_make_a_partition_and_its_results_stale(lake):
    land = commit(lake, "land")
    matrix = commit(lake, "matrix", land, settings="before")
    commit(lake, "embed", matrix)
    assert current_steps(lake, "land", "matrix", "embed") == ["land"]


def test_a_step_that_no_longer_exists_makes_its_results_stale(lake):
    commit(lake, "gate", commit(lake, "retired"))
    assert current_steps(lake, "gate") == []


def test_a_deleted_input_contradicts_nothing(lake, tmp_path):
    land = commit(lake, "land")
    commit(lake, "matrix", land)
    (tmp_path / "lake" / "land" / f"day={DAY}" / "_manifest.json").unlink()
    assert current_steps(lake, "land", "matrix") == ["matrix"]


def test_a_chain_of_years_is_judged(lake):
    """Each day's alignment is an input of the next: longer than Python's stack."""
    previous = commit(lake, "align")
    for n in range(1, 1500):
        previous = commit(lake, "align", previous, day=DAY + timedelta(days=n))
    last = DAY + timedelta(days=1499)
    assert Freshness(lake, lambda step: "now").current("align", last) == previous
    commit(lake, "align", rows=1)
    assert Freshness(lake, lambda step: "now").current("align", last) is None
