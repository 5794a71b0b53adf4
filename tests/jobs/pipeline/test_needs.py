"""Needs that a step can do without: named where they are there, and judged as such."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from ranker_lake import DAYS, commit_validated, impressions, ranker_settings

from jobs.errors import BadInput
from jobs.lake import Lake
from jobs.pipeline import plan, running
from jobs.pipeline.freshness import Freshness, Plan
from jobs.pipeline.needs import available, if_there, optional
from jobs.pipeline.plan import module

DAY = date(2024, 3, 1)
EARLIER = DAY - timedelta(days=1)
A, B, C = ("land", DAY), ("land", EARLIER), ("align", EARLIER)


def answered():
    """B can be done without, and C instead of it; `yield from` a list of what is required works."""
    yield from [A]
    if not (yield optional(*B)):
        yield optional(*C)


@pytest.mark.parametrize(
    ("there", "named"),
    [({A, B, C}, [A, B]), ({A, C}, [A, C]), ({A}, [A]), (set(), [])],
)
def test_what_is_not_there_is_not_named_and_the_next_one_is(there, named):
    assert list(available(answered(), lambda need: need in there)) == named


def test_a_list_of_needs_is_walked_as_well():
    needs = [A, optional(*B), optional(*C)]
    assert list(available(needs, lambda need: need != B)) == [A, C]


def test_what_the_answer_raises_ends_the_walk():
    def there(need):
        raise BadInput("damaged")

    with pytest.raises(BadInput):
        list(available(answered(), there))


# Freshness


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake")


def commit(lake: Lake, need: tuple[str, date], *inputs, recipe="now", **facts):
    with lake.writing(*need, recipe=recipe, inputs=inputs) as staging:
        staging.facts |= facts
        (staging.path / "rows").write_text("rows")
    return lake.get(*need)


def look(lake: Lake) -> Freshness:
    """The alignment of a day reads what `answered` names; nothing else reads anything."""

    def needs(step: str, day: date):
        return answered() if (step, day) == ("align", DAY) else []

    return Freshness(lake, Plan(lambda step: "now", needs, lambda found: ""))


def why(lake: Lake) -> str:
    return look(lake).judge("align", DAY).why


def test_a_result_without_something_is_current_until_that_is_there(lake):
    commit(lake, ("align", DAY), commit(lake, A))
    assert why(lake) == ""
    commit(lake, C)
    assert why(lake) == f"it did not read align/{EARLIER}"
    commit(lake, ("align", DAY), lake.get(*A), lake.get(*C))
    assert why(lake) == ""
    commit(lake, B)
    assert why(lake) == f"it did not read land/{EARLIER}"


@pytest.mark.parametrize("trouble", ["stale", "damaged", "without what is committed beside it"])
def test_what_is_not_current_is_not_missed(lake, trouble):
    commit(lake, ("align", DAY), commit(lake, A))
    found = commit(lake, B, recipe="before" if trouble == "stale" else "now")
    if trouble == "damaged":
        (found.path / "rows").write_text("other rows")
    judged = look(lake)
    if trouble == "without what is committed beside it":
        beside = {"land": ("quarantine",)}
        judged = Freshness(lake, replace(judged.plan, beside=lambda step: beside.get(step, ())))
    assert judged.current(*B) is None
    assert judged.current("align", DAY)


def test_what_was_read_and_deleted_contradicts_nothing(lake):
    read = [commit(lake, A), commit(lake, B)]
    commit(lake, ("align", DAY), *read)
    for partition in read:
        lake.remove(partition)
    assert why(lake) == ""


def test_a_long_chain_that_goes_on_without_its_days_is_judged(lake):
    """Each day would follow any day before it; none of them is there. No recursion."""

    def needs(step: str, day: date):
        for n in range((day - DAY).days):
            if (yield optional(step, day - timedelta(days=n + 1))):
                return

    for n in (0, 1200):
        commit(lake, ("align", DAY + timedelta(days=n)))
    long = Freshness(lake, Plan(lambda step: "now", needs, lambda found: ""))
    last = DAY + timedelta(days=1200)
    assert long.judge("align", last).why == f"it did not read align/{DAY}"


# The plan


def refuse():
    raise AssertionError("a session was requested")


def committing(step: str):
    """A run of the step that commits an empty result."""

    def run(spark, settings, day):
        read = plan.reads(settings, step, day)
        with plan.recording(settings, step, day, read.values()):
            pass

    return run


def failing(attempts: list[date]):
    def run(spark, settings, day):
        attempts.append(day)
        raise BadInput(f"{day} cannot be decided")

    return run


def test_what_fails_is_tried_once_in_a_request(tmp_path, monkeypatch):
    """Each day's test falls back to any decision before it: exponential, were they tried again."""
    settings = ranker_settings(tmp_path / "home")
    for day in DAYS:
        commit_validated(settings, day, impressions(day, 5))
    for step in ("examples", "evaluate", "train"):
        monkeypatch.setattr(module(step), "run", committing(step))
        monkeypatch.setattr(module(step), "SPARK", False)
    attempts: list[date] = []
    monkeypatch.setattr(module("gate"), "run", failing(attempts))
    running.request(settings, "evaluate", DAYS[5], refuse)
    assert sorted(attempts) == DAYS[:5]
    tested = settings.lake.get("evaluate", DAYS[5])
    assert not [key for key in tested.inputs if key.startswith("gate/")]
    # What was computed without them is current: the next request tries nothing.
    assert running.request(settings, "evaluate", DAYS[5], refuse).reused
    assert len(attempts) == 5


def test_the_reason_of_what_is_indispensable_is_raised(tmp_path, monkeypatch):
    settings = ranker_settings(tmp_path / "home")
    commit_validated(settings, DAYS[0], impressions(DAYS[0], 5))
    monkeypatch.setattr(module("examples"), "run", failing([]))
    with pytest.raises(BadInput, match=f"{DAYS[0]} cannot be decided"):
        running.request(settings, "gate", DAYS[0], lambda: None)


def test_a_landed_day_whose_file_cannot_be_read_any_more_stays(tmp_path, monkeypatch):
    settings = ranker_settings(tmp_path / "home")
    commit_validated(settings, DAYS[0], impressions(DAYS[0], 5))

    def unreadable(settings, landed):
        raise BadInput("the disk of the log is gone")

    monkeypatch.setattr(plan, "contradiction", unreadable)
    assert plan.current(settings, "validate", DAYS[0])


def test_the_traceback_of_something_unexpected_is_logged(tmp_path, monkeypatch, caplog):
    """And the day that can do without it goes on."""
    settings = ranker_settings(tmp_path / "home")
    for day in DAYS[:2]:
        commit_validated(settings, day, impressions(day, 5))
    for step in ("evaluate", "examples"):
        monkeypatch.setattr(module(step), "run", committing(step))
        monkeypatch.setattr(module(step), "SPARK", False)

    def broken(spark, settings, day):
        return {}["gone"]

    monkeypatch.setattr(module("gate"), "run", broken)
    running.request(settings, "evaluate", DAYS[1], refuse)
    assert f"gate/{DAYS[0]} cannot be computed" in caplog.text
    assert 'return {}["gone"]' in caplog.text


def test_what_is_read_where_it_is_there_is_not_computed(tmp_path, monkeypatch):
    """As the alignment of 30 days ago, which may have been deleted; once it is there, it counts."""
    settings = ranker_settings(tmp_path / "home")
    for day in DAYS:
        commit_validated(settings, day, impressions(day, 5))
    attempts: list[date] = []
    monkeypatch.setattr(module("matrix"), "run", failing(attempts))
    monkeypatch.setattr(module("lookalike"), "needs", lambda *_: [if_there("matrix", DAYS[0])])
    monkeypatch.setattr(module("lookalike"), "run", committing("lookalike"))
    monkeypatch.setattr(module("lookalike"), "SPARK", False)
    found = running.request(settings, "lookalike", DAYS[1], refuse)
    assert (attempts, found.partition.inputs) == ([], {})
    assert running.request(settings, "lookalike", DAYS[1], refuse).reused
    committing("matrix")(None, settings, DAYS[0])
    found = running.request(settings, "lookalike", DAYS[1], refuse)
    assert list(found.partition.inputs) == [f"matrix/{DAYS[0]}"]
