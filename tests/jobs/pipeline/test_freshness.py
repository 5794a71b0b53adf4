"""A partition is current when its recipe and all its inputs are what its step would use now."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from jobs.errors import NotCommitted
from jobs.lake import Lake, Partition
from jobs.pipeline.freshness import Freshness, Plan

DAY = date(2024, 3, 1)
NEEDS = {"land": [], "matrix": ["land"], "embed": ["matrix"], "gate": [], "retired": []}


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake")


def commit(
    lake: Lake, step: str, *inputs: Partition, day: date = DAY, recipe="now/1", **facts
) -> Partition:
    with lake.writing(step, day, recipe=recipe, inputs=inputs) as staging:
        staging.facts |= facts
    return lake.get(step, day)


def look(lake: Lake, needs=NEEDS, contradiction="") -> Freshness:
    """The plan of four steps, each of which needs the one before it."""
    return Freshness(
        lake,
        Plan(
            recipe=lambda step: None if step == "retired" else "now/1",
            needs=lambda step, day: [(needed, day) for needed in needs[step]],
            contradiction=lambda found: contradiction if found.step == "land" else "",
        ),
    )


def current_steps(look: Freshness, *steps: str) -> list[str]:
    """Those of these steps whose partition is current."""
    return [step for step in steps if look.current(step, DAY)]


def why(look: Freshness, step: str) -> tuple[str, str]:
    verdict = look.judge(step, DAY)
    return verdict.why, verdict.because


def test_a_chain_whose_inputs_are_committed_is_current(lake):
    commit(lake, "embed", commit(lake, "matrix", commit(lake, "land")))
    assert current_steps(look(lake), "land", "matrix", "embed") == ["land", "matrix", "embed"]


def test_everything_computed_from_a_replaced_partition_is_stale(lake):
    commit(lake, "embed", commit(lake, "matrix", commit(lake, "land")))
    commit(lake, "gate")
    commit(lake, "land", rows=7)
    assert current_steps(look(lake), "land", "matrix", "embed", "gate") == ["land", "gate"]
    assert why(look(lake), "matrix") == ("was computed again, with another result", f"land/{DAY}")
    assert why(look(lake), "embed") == why(look(lake), "matrix")


def test_the_same_content_again_leaves_everything_current(lake):
    commit(lake, "matrix", commit(lake, "land", rows=3))
    commit(lake, "land", rows=4)
    commit(lake, "land", rows=3)
    assert current_steps(look(lake), "land", "matrix") == ["land", "matrix"]


def test_another_way_to_the_same_content_leaves_what_follows_current(lake):
    """The settings and inputs of a partition are not part of its content."""
    matrix = commit(lake, "matrix", commit(lake, "land", rows=3), pairs=5)
    commit(lake, "embed", matrix)
    commit(lake, "matrix", commit(lake, "land", rows=4), pairs=5)
    assert current_steps(look(lake), "land", "matrix", "embed") == ["land", "matrix", "embed"]


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [("before/1", "its settings have changed"), ("now/0", "the code has changed")],
)
def test_another_recipe_makes_a_partition_and_its_results_stale(lake, recipe, reason):
    matrix = commit(lake, "matrix", commit(lake, "land"), recipe=recipe)
    commit(lake, "embed", matrix)
    assert current_steps(look(lake), "land", "matrix", "embed") == ["land"]
    assert why(look(lake), "matrix") == (reason, "")
    assert why(look(lake), "embed") == (reason, matrix.key)


def test_a_step_that_no_longer_exists_makes_its_results_stale(lake):
    commit(lake, "gate", commit(lake, "retired"))
    assert current_steps(look(lake), "gate") == []


def test_a_deleted_input_contradicts_nothing(lake, tmp_path):
    commit(lake, "matrix", commit(lake, "land"))
    (tmp_path / "lake" / "land" / f"day={DAY}" / "_manifest.json").unlink()
    assert current_steps(look(lake), "land", "matrix") == ["matrix"]


def test_an_input_that_the_step_would_read_now_makes_it_stale(lake):
    """As when a window grows at its start, or a refused day is trusted again."""
    commit(lake, "matrix", commit(lake, "land"))
    more = look(lake, NEEDS | {"matrix": ["land", "gate"]})
    assert why(more, "matrix") == (f"it did not read gate/{DAY}", "")
    fewer = look(lake, NEEDS | {"matrix": []})
    assert why(fewer, "matrix") == (f"it read land/{DAY}", "")


def test_needs_that_cannot_be_named_contradict_nothing(lake):
    """The partition that would name them was deleted."""
    commit(lake, "matrix", commit(lake, "land"))
    freshness = look(lake)

    def needs(step, day):
        if step == "matrix":
            raise NotCommitted("deleted")
        return []

    plan = Plan(freshness.plan.recipe, needs, freshness.plan.contradiction)
    assert Freshness(lake, plan).current("matrix", DAY)


def test_what_the_log_contradicts_makes_everything_stale(lake):
    commit(lake, "matrix", commit(lake, "land"))
    contradicted = look(lake, contradiction="d1.csv has changed")
    assert why(contradicted, "land") == ("d1.csv has changed", "")
    assert why(contradicted, "matrix") == ("d1.csv has changed", f"land/{DAY}")


@pytest.mark.slow
def test_a_chain_of_years_is_judged(lake):
    """Each day's alignment is an input of the next: longer than Python's stack."""

    def needs(step, day):
        return [("align", day - timedelta(days=1))] if day > DAY else []

    plan = Plan(lambda step: "now/1", needs, lambda found: "")
    previous = commit(lake, "align")
    for n in range(1, 1100):
        previous = commit(lake, "align", previous, day=DAY + timedelta(days=n))
    last = DAY + timedelta(days=1099)
    assert Freshness(lake, plan).current("align", last) == previous
    commit(lake, "align", rows=1)
    assert Freshness(lake, plan).current("align", last) is None
