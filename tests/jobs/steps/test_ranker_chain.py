"""One day's trouble never stops later days: every state of champion, challenger, labels and day."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from prepared import validated
from ranker_lake import (
    DAYS,
    commit_days,
    commit_validated,
    copied,
    impressions,
    publish_version,
    ranker_settings,
)

from embeddings.registry.client import Version
from jobs.errors import BadInput, NotCommitted, Skip, UntrustedDay
from jobs.lake.store import Lake, Partition
from jobs.parts import RANKER_STEPS
from jobs.pipeline import plan, running
from jobs.pipeline.plan import module
from jobs.settings import RankerSettings, Settings
from jobs.steps import evaluate, examples, gate, promote, train
from jobs.steps.evaluate import entrant_of, entry_facts
from jobs.steps.examples import SPEC
from jobs.steps.gate import Contest, comparison, decide
from models.calibration import FILE
from models.features import Categorical, FeatureSpec
from models.rankers.base import build, read_options
from models.store import save

FEATURES = FeatureSpec((Categorical("hash_item", 8, "item"),), ("num_x",), ("label_click",), 4)
OTHER_FEATURES = replace(FEATURES, numeric=("num_x", "num_y"))

# The states of a model on a day in space "s" -> the words that say with which vectors it is tested
# instead of the day's, or why it is not tested.
OLDER = {
    "in another space": "with the vectors of author/v",
    "its version removed": "without vectors, because the registry has author/v no longer",
    "its newest day without": "without vectors, because the newest day that it was trained on had",
}
TESTED = {"without vectors": "", "in this space": ""} | OLDER
UNTESTED = {
    "other features": "reads other features",
    "no such kind": "saved by another Evergreen",
    "missing": "could not be trained again",
}
MODELS = {
    "without vectors": ("", FEATURES),
    "in this space": ("s", FEATURES),
    "in another space": ("r", FEATURES),
    "its version removed": ("r", FEATURES),
    "its newest day without": ("r", FEATURES),
    "other features": ("s", OTHER_FEATURES),
    "no such kind": ("s", FEATURES),
}
CHAMPION, CHALLENGER, TODAY = "2024-01-01", "2024-01-02", DAYS[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Partition | None]:
    """A model in each of the states; None for one that is missing."""
    home = tmp_path_factory.mktemp("models")
    found: dict[str, Partition | None] = {"missing": None}
    for state, (space, spec) in MODELS.items():
        folder = home / state
        save(folder, build("masknet", spec, read_options("masknet", {})).eval(), space)
        version = "" if state == "its newest day without" else "author/v"
        found[state] = partition("train", folder, space=space, embedding=version)
    description = home / "no such kind" / "model.json"
    description.write_text(description.read_text().replace('"masknet"', '"retired"'))
    return found


def partition(step: str, folder, **facts) -> Partition:
    return Partition(step, TODAY, folder, "digest", facts, files={}, recipe="", inputs={})


@pytest.fixture(scope="module")
def today(tmp_path_factory) -> Partition:
    """The examples of a day in space "s"."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / SPEC).write_text(FEATURES.to_json())
    return partition("examples", folder, space="s")


def predictions(labels: str) -> pa.Table:
    """Scores of 60 rows of 12 users, by two equal models; of no rows for "none"."""
    n = 0 if labels == "none" else 60
    outcome = np.arange(n) % 2 if labels == "both" else np.ones(n, int)
    scores = np.linspace(0.1, 0.9, n)
    users = [f"c{row % 12}" for row in range(n)]
    columns = {"consumer_id": pa.array(users, pa.string()), "label": outcome.astype(np.int8)}
    return pa.table(columns | {"champion": scores, "challenger": scores})


STATES = [*TESTED, *UNTESTED, "none"]
OWN = Version("author", DAYS[0], 1, "r", "v", 4, Path("v"), {}, {}, datetime(2024, 1, 1))


@pytest.mark.parametrize("labels", ["both", "one", "none"])
@pytest.mark.parametrize("challenger", STATES)
@pytest.mark.parametrize("champion", STATES)
def test_every_meeting_has_a_champion_and_a_reason(models, today, champion, challenger, labels):
    """The winner is one of the two that met, and the reason names who was not tested, or how.

    The winner is who was tested; of two that were, and are equal, the challenger; of none, the
    champion.
    """
    entrants = {}
    for role, state, day in (
        ("champion", champion, CHAMPION),
        ("challenger", challenger, CHALLENGER),
    ):
        if state != "none":
            entrant = entrant_of(date.fromisoformat(day), models[state], today)
            assert (entrant.obstacle == "") == (state in TESTED)
            assert (entrant.other_space != "") == (state in OLDER)
            own = OWN if state == "in another space" else None
            entrants[role] = replace(entrant, own=own)
    contest = Contest.of(partition("evaluate", None, **entry_facts(entrants, TODAY)), "click")
    compared = None
    if champion in TESTED and challenger in TESTED:
        compared = comparison(predictions(labels), resamples=20, seed=0)
    decision = decide(contest, compared, RankerSettings())

    kept = "" if champion == "none" else CHAMPION
    assert decision.champion == (CHALLENGER if challenger in TESTED else kept)
    for role, state, day in (
        ("champion", champion, CHAMPION),
        ("challenger", challenger, CHALLENGER),
    ):
        if state in UNTESTED:
            assert f"The {role} of {day} cannot be tested on {TODAY}" in decision.why
            assert UNTESTED[state] in decision.why
        older = f"The {role} of {day} was tested {OLDER.get(state, '')}"
        assert (older in decision.why) == (state in OLDER)
    spaces = "it reads vectors of space 'r', those of the day are in space 's'."
    assert decision.why.count(spaces) == (champion in OLDER) + (challenger in OLDER)
    if compared is not None:
        words = "not worse" if labels == "both" else "did not have both outcomes"
        assert words in decision.why
    elif challenger in TESTED:
        assert f"The model of {CHALLENGER} is promoted unopposed." in decision.why
    elif champion == "none":
        assert "There is no champion yet." in decision.why
    else:
        assert f"The model of {CHAMPION} stays" in decision.why


def test_a_worse_challenger_is_refused_only_by_a_tested_champion():
    worse = predictions("both").set_column(3, "challenger", pa.array(-np.arange(60.0)))
    better = worse.set_column(2, "champion", worse["label"].cast(pa.float64()))
    compared = comparison(better, resamples=50, seed=0)
    assert compared.auc.high < 0
    met = {"day": TODAY, "label": "click", "challenger": CHALLENGER}
    ranker = RankerSettings()
    assert decide(Contest(**met, champion=CHAMPION), compared, ranker).champion == CHAMPION
    untested = Contest(**met, untested_champion=CHAMPION)
    assert decide(untested, None, ranker).champion == CHALLENGER


# Days


@pytest.fixture
def settings(decided, tmp_path) -> Settings:
    """A copy, free to be changed."""
    return copied(decided, tmp_path / "home")


NO_ROWS = impressions(DAYS[2]).slice(0, 0)


def commit_kind(settings: Settings, day: date, kind: str) -> None:
    """A day of this kind, in place of the one that was there."""
    shutil.rmtree(settings.lake.home("validate", day))
    if kind == "no impressions":
        with validated(settings, day) as staging:
            staging.facts |= {"trusted": True, "reason": ""}
    elif kind != "missing":
        commit_validated(settings, day, NO_ROWS if kind == "no rows" else None)


def run_ranker(settings: Settings, day: date) -> None:
    """All steps but the first, whose result is there."""
    for job in (evaluate, train, gate, promote):
        job.run(None, settings, day)


@pytest.mark.parametrize(
    ("kind", "own_day"),
    [
        ("refused", UntrustedDay),
        ("no impressions", Skip),
        ("no rows", Skip),
        ("missing", NotCommitted),
    ],
)
def test_a_day_that_cannot_be_ranked_has_no_examples(settings, kind, own_day):
    commit_kind(settings, DAYS[2], kind)
    for job in (examples, evaluate):
        with pytest.raises(own_day):
            job.run(None, settings, DAYS[2])


@pytest.mark.parametrize("kind", ["refused", "no impressions", "no rows"])
def test_a_day_that_cannot_be_ranked_is_passed_over(settings, kind):
    """The next day is tested with the models of the day before, and trained without it."""
    commit_kind(settings, DAYS[2], kind)
    run_ranker(settings, DAYS[3])
    assert settings.lake.get("evaluate", DAYS[3]).facts["challenger"] == str(DAYS[1])
    assert settings.lake.get("train", DAYS[3]).facts["days"] == 3
    assert settings.lake.get("promote", DAYS[3]).facts["champion"] in map(str, DAYS[:2])


@pytest.mark.parametrize("kind", ["refused", "no rows"])
def test_another_verdict_about_an_earlier_day_makes_its_results_stale(settings, kind):
    """A day that was passed over is corrected: the results of the next day are stale."""
    good = settings.lake.get("validate", DAYS[2]).facts["rows_impressions"]
    commit_kind(settings, DAYS[2], kind)
    run_ranker(settings, DAYS[3])
    commit_validated(settings, DAYS[2], impressions(DAYS[2], good))
    for step in ("evaluate", "train"):
        assert plan.current(settings, step, DAYS[3]) is None


# What cannot be computed


def fail(monkeypatch, step: str, troubled: date) -> None:
    """The step of that day cannot be computed."""
    run = module(step).run

    def failing(spark, settings, day):
        if day == troubled:
            raise BadInput(f"{step} of {day} is damaged")
        run(spark, settings, day)

    monkeypatch.setattr(module(step), "run", failing)


def no_spark():
    raise AssertionError("a session was requested")


def promoted(settings: Settings, day: date) -> plan.Result:
    return running.request(settings, "promote", day, no_spark)


@pytest.mark.parametrize("missing", ["train", "gate"])
def test_the_chain_goes_on_without_a_partition_of_the_day_before_and_is_mended(
    settings, tmp_path, monkeypatch, missing
):
    """Without its model, the champion alone is tested; without its decision, the day is skipped."""
    untroubled = copied(settings, tmp_path / "untroubled")
    promoted(untroubled, DAYS[3])
    settings.lake.remove(settings.lake.get(missing, DAYS[2]))
    with monkeypatch.context() as trouble:
        fail(trouble, missing, DAYS[2])
        assert not promoted(settings, DAYS[3]).reused
        assert promoted(settings, DAYS[3]).reused
        test = settings.lake.get("evaluate", DAYS[3]).facts
        untested = f"The challenger of {DAYS[2]} cannot be tested on {DAYS[3]}: it is missing"
        assert (untested in test.get("why", "")) == (missing == "train")
        assert test.get("challenger") == (str(DAYS[1]) if missing == "gate" else None)
    running.request(settings, missing, DAYS[2], no_spark)
    promoted(settings, DAYS[3])
    for step in ("evaluate", "train", "gate", "promote"):
        repaired = settings.lake.get(step, DAYS[3])
        expected = untroubled.lake.get(step, DAYS[3])
        assert (repaired.digest, repaired.inputs) == (expected.digest, expected.inputs)


def test_examples_that_are_missing_are_named(settings, monkeypatch):
    settings.lake.remove(settings.lake.get("examples", DAYS[2]))
    fail(monkeypatch, "examples", DAYS[2])
    running.request(settings, "train", DAYS[3], lambda: None)
    left_out = settings.lake.get("train", DAYS[3]).facts["left_out"]
    assert f"{DAYS[2]}: its examples could not be computed" in left_out


def test_a_champion_that_is_missing_stays_until_a_model_has_been_tested(settings, monkeypatch):
    """Its aliases stay where they are; here the challenger takes over."""
    champion = date.fromisoformat(settings.lake.get("gate", DAYS[2]).facts["champion_after"])
    before = settings.open_registry().alias("author", "champion")
    settings.lake.remove(settings.lake.get("train", champion))
    settings.lake.remove(settings.lake.get("promote", DAYS[2]))
    fail(monkeypatch, "train", champion)
    promote.run(None, settings, DAYS[2])
    assert settings.open_registry().alias("author", "champion") == before
    assert settings.lake.get("promote", DAYS[2]).facts["embedding"] == ""
    evaluate.run(None, settings, DAYS[3])
    gate.run(None, settings, DAYS[3])
    assert settings.lake.get("evaluate", DAYS[3]).facts["untested_champion"] == str(champion)
    assert settings.lake.get("gate", DAYS[3]).facts["champion_after"] == str(DAYS[2])


def test_a_champion_that_cannot_be_tested_keeps_its_calibration(settings, monkeypatch):
    """That of the promotion before; also where the day is computed again."""
    before = settings.lake.get("promote", DAYS[2])
    monkeypatch.setattr(evaluate, "obstacle", lambda *_: "its features are others")
    after = promoted(settings, DAYS[3]).partition
    assert after.facts["champion"] == before.facts["champion"] != ""
    assert after.facts["calibrated"] == before.facts["calibrated"] != "none"
    assert (after.path / FILE).read_text() == (before.path / FILE).read_text()
    assert promoted(settings, DAYS[3]).reused


def test_without_the_version_of_the_day_before_an_older_one_is_used(spark, settings):
    """And once the newer version is there, the examples are stale."""
    settings.lake.remove(settings.lake.get("publish", DAYS[2]))
    examples.run(spark, settings, DAYS[3])
    version = settings.lake.get("publish", DAYS[1]).facts["version"]
    assert settings.lake.get("examples", DAYS[3]).facts["version"] == version
    assert plan.current(settings, "examples", DAYS[3])
    publish_version(settings, DAYS[2])
    assert plan.current(settings, "examples", DAYS[3]) is None


# Real days


@pytest.fixture
def opened(monkeypatch) -> set:
    """The partitions that a step looks up in the lake beside what `plan.reads` gives it."""
    seen: set = set()
    find = Lake.find

    def recorded(self, step, day):
        seen.add((step, day))
        return find(self, step, day)

    monkeypatch.setattr(Lake, "find", recorded)
    for place in (plan, *map(module, RANKER_STEPS)):
        monkeypatch.setattr(place, "reads", unrecorded(place.reads, seen))
    return seen


def unrecorded(function, seen: set):
    """The function, without a trace of what it reads."""

    def wrapped(*arguments):
        before = set(seen)
        result = function(*arguments)
        seen.intersection_update(before)
        return result

    return wrapped


def test_troubled_days_run_one_after_the_other(spark, tmp_path, opened):
    """An empty day, a refused day, a new column and a new space: each later day is promoted.

    A step reads nothing beside its inputs, and is current when it has run.
    """
    settings = ranker_settings(tmp_path / "home")
    commit_days(settings, DAYS[:1], n=60)
    commit_validated(settings, DAYS[1], NO_ROWS)
    publish_version(settings, DAYS[1])
    commit_validated(settings, DAYS[2], None)
    for day in DAYS[3:]:
        shown = impressions(day, 60)
        commit_validated(settings, day, shown.append_column("ctx_new", shown["ctx_tab"]))
        publish_version(settings, day, "author-s" if day < DAYS[4] else "author-t")
    promoted = {}
    for day in (DAYS[0], *DAYS[3:]):
        for step in RANKER_STEPS:
            opened.clear()
            module(step).run(spark, settings, day)
            assert (step, day, opened) == (step, day, set())
            assert plan.current(settings, step, day)
        promoted[day] = settings.lake.get("promote", day).facts

    # The fourth day's model is the first to read the new column, the sixth day is in a new space.
    champions = [facts["champion"] for facts in promoted.values()]
    assert champions[:3] == ["", "", str(DAYS[3])]
    assert champions[3] in map(str, DAYS[3:5])
    assert "reads other features" in promoted[DAYS[3]]["why"]
    assert "promoted unopposed" in promoted[DAYS[4]]["why"]
    assert "AUC of 'click' on 2024-01-06" in promoted[DAYS[5]]["why"]
    for role, day in (("champion", DAYS[3]), ("challenger", DAYS[4])):
        version = settings.lake.get("train", day).facts["embedding"]
        words = f"The {role} of {day} was tested with the vectors of {version}: it reads"
        assert words in promoted[DAYS[5]]["why"]
