"""train, evaluate, gate and promote on small days: decisions, refusals, and kills."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ranker_lake import (
    DAYS,
    commit_validated,
    copied,
    impressions,
    publish_version,
    ranker_settings,
)

from embeddings.benchmarks.auc import auc
from embeddings.benchmarks.intervals import Estimate
from embeddings.facts import declaration
from embeddings.registry.errors import SpaceMismatch
from jobs.errors import NotCommitted, SettingsError, Skip
from jobs.parts import RANKER_STEPS
from jobs.pipeline import chain
from jobs.pipeline.needs import available
from jobs.pipeline.plan import module
from jobs.pipeline.published import content_id, published_version
from jobs.settings import RankerSettings, Settings
from jobs.steps import evaluate, examples, gate, promote, train
from jobs.steps.gate import Comparison, Contest, decide
from models.store import load
from models.training import predict
from models.training import train as fit


@pytest.fixture
def settings(four_days, tmp_path):
    """A copy of the four days, free to be changed."""
    return copied(four_days, tmp_path / "home")


def run_chain(settings: Settings, days: list[date]) -> None:
    for day in days:
        for step in (evaluate, train, gate, promote):
            step.run(None, settings, day)


def with_options(settings: Settings, **ranker) -> Settings:
    """The settings with other options of the section `ranker`."""
    section = settings.ranker.model_copy(update=ranker)
    return settings.model_copy(update={"ranker": section})


# The chain


def test_models_are_tested_on_the_day_before_they_see_it(settings):
    """No model on the first day, then yesterday's model alone, then champion and challenger."""
    run_chain(settings, DAYS[:4])
    tested = [settings.lake.get("evaluate", day).facts for day in DAYS[:4]]
    roles = [(facts.get("champion"), facts.get("challenger")) for facts in tested]
    first, second, third = map(str, DAYS[:3])
    assert roles[:3] == [(None, None), (None, first), (first, second)]
    assert roles[3][1] == third
    assert "first day of the chain" in tested[0]["why"]


@pytest.fixture(scope="module")
def opened(spark, four_days, tmp_path_factory) -> Settings:
    """Five days of the chain; the vectors of the fourth and the fifth are in a new space."""
    settings = copied(four_days, tmp_path_factory.mktemp("opened") / "home")
    run_chain(settings, DAYS[:3])
    for day in DAYS[2:4]:
        publish_version(settings, day, space="author-new")
    commit_validated(settings, DAYS[4], impressions(DAYS[4], 200))
    for day in DAYS[3:5]:
        shutil.rmtree(settings.lake.root / "examples" / f"day={day}", ignore_errors=True)
        examples.run(spark, settings, day)
    run_chain(settings, DAYS[3:5])
    return settings


def test_no_day_is_without_a_tested_model_when_a_space_opens(opened):
    """Models of the older space meet the days of the new one with their own version."""
    first, second = (opened.lake.get("evaluate", day).facts for day in DAYS[3:5])
    spaces = "reads vectors of space 'author-s', those of the day are in space 'author-new'"
    for role in ("champion", "challenger"):
        model = opened.lake.get("train", date.fromisoformat(first[role]))
        words = f"The {role} of {first[role]} was tested with the vectors of"
        assert f"{words} {model.facts['embedding']}: it {spaces}." in first["older_vectors"]
    assert (second["challenger"], second["older_vectors"].count(spaces)) == (str(DAYS[3]), 1)
    assert second["older_vectors"].startswith("The champion of")
    for day, test in zip(DAYS[3:5], (first, second), strict=True):
        decision = opened.lake.get("gate", day).facts
        assert "difference" in decision
        assert decision["why"].endswith(test["older_vectors"])


def test_a_model_of_an_older_space_is_scored_with_its_own_newest_vectors(opened):
    """Those that it was trained on last, looked up one id at a time."""
    test = opened.lake.get("evaluate", DAYS[3])
    scores = pq.read_table(test.path / "predictions.parquet")["challenger"].to_numpy()
    partition = opened.lake.get("train", DAYS[2])
    version = published_version(opened, partition.facts["embedding"])
    assert (version.day, version.space) == (DAYS[1], "author-s")
    table = pq.read_table(opened.lake.get("examples", DAYS[3]).path / "examples")
    rows = train.load_day(opened, opened.lake.get("examples", DAYS[3]))
    vectors = {}
    for entity, found in opened.open_registry().load(version).entities.items():
        vector_of = dict(zip(found.ids[:].tolist(), np.asarray(found.vectors), strict=True))
        unknown = np.zeros(4, np.float32)
        ids = [name.encode() for name in table[f"{entity}_id"].to_pylist()]
        vectors[entity] = np.stack([vector_of.get(name, unknown) for name in ids])
    own = dataclasses.replace(
        rows,
        space="author-s",
        consumer_rows=np.arange(len(rows)),
        producer_rows=np.arange(len(rows)),
        consumer_vectors=vectors["consumer"],
        producer_vectors=vectors["producer"],
    )
    np.testing.assert_array_equal(
        scores, predict(load(partition.path).model, own, "author-s")[:, 0]
    )


@pytest.mark.parametrize("day", [DAYS[2], DAYS[3]])
def test_a_day_is_scored_piece_by_piece_as_it_is_whole(opened, tmp_path, monkeypatch, day):
    """With the day's vectors, and on the second day with those of an older space."""
    whole = opened.lake.get("evaluate", day)
    settings = copied(opened, tmp_path / "home")
    monkeypatch.setattr(evaluate, "PIECE", 64)
    evaluate.run(None, settings, day)
    in_pieces = settings.lake.get("evaluate", day)
    for file in ("predictions.parquet", "metrics.parquet"):
        expected, found = (pd.read_parquet(one.path / file) for one in (whole, in_pieces))
        # A batch of other rows is added up in another order.
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5)


def test_a_version_that_was_removed_keeps_no_day_from_being_tested(opened, tmp_path):
    """The model is tested without vectors, and the facts say so."""
    settings = copied(opened, tmp_path / "home")
    model = settings.lake.get("train", DAYS[2])
    registry = settings.open_registry()
    for alias in registry.aliases("author"):
        if alias != "latest":
            registry.delete_alias("author", alias)
    registry.remove(published_version(settings, model.facts["embedding"]))
    rows = train.load_day(settings, settings.lake.get("examples", DAYS[3]))
    evaluate.run(None, settings, DAYS[3])
    gate.run(None, settings, DAYS[3])
    test = settings.lake.get("evaluate", DAYS[3])
    scores = pq.read_table(test.path / "predictions.parquet")["challenger"].to_numpy()
    unknown = predict(load(model.path).model, rows.masked(), "author-s")[:, 0]
    np.testing.assert_array_equal(scores, unknown)
    words = f"without vectors, because the registry has {model.facts['embedding']} no longer"
    assert words in settings.lake.get("gate", DAYS[3]).facts["why"]


def test_the_metrics_are_those_of_the_stored_predictions(settings):
    """One prediction per example, in their order; its AUC is the fact, and above chance."""
    run_chain(settings, DAYS[:3])
    test = settings.lake.get("evaluate", DAYS[2])
    table = pq.read_table(test.path / "predictions.parquet")
    for role in ("champion", "challenger"):
        assert test.facts[f"{role}_auc_click"] == auc(
            table["label"].to_numpy(), table[role].to_numpy()
        )
    shown = pq.read_table(settings.lake.get("examples", DAYS[2]).path / "examples")
    assert table["consumer_id"].to_pylist() == shown["consumer_id"].to_pylist()
    assert test.facts["challenger_auc_click"] > 0.6  # the small days are learnable


def test_the_previous_day_is_the_newest_trusted_one(tmp_path):
    """A refused day and a day without impressions are skipped; the first day has none before it."""
    settings = ranker_settings(tmp_path)
    commit_validated(settings, DAYS[0], impressions(DAYS[0], 5))
    commit_validated(settings, DAYS[1], None)
    with settings.lake.writing("validate", DAYS[2], recipe="") as staging:
        staging.facts |= {"trusted": True, "reason": ""}
    with settings.lake.writing("gate", DAYS[0], recipe=""):
        pass

    def named(day: date) -> list:
        needs = chain.needs_of_previous(settings, day)
        return list(available(needs, lambda need: settings.lake.find(*need) is not None))

    verdicts = [("validate", day) for day in reversed(DAYS[:3])]
    assert named(DAYS[3]) == [*verdicts, ("gate", DAYS[0])]
    assert named(DAYS[0]) == []


def test_every_draw_has_its_own_seed(settings):
    """Another step, day or seed in the settings gives another seed; the same gives the same."""
    seeds = set()
    for chosen in (settings, with_options(settings, seed=1)):
        for step in ("train", "gate"):
            for day in DAYS[:2]:
                seeds.add(chain.seed(chosen, step, day))
    assert len(seeds) == 8
    assert chain.seed(settings, "train", DAYS[0]) in seeds


def test_every_fact_is_declared_by_its_step(spark, opened, tmp_path):
    """Days without a model, of a new space, and with a new column: no fact lacks a meaning."""
    settings = copied(opened, tmp_path / "home")
    shown = impressions(DAYS[5], 60)
    commit_validated(settings, DAYS[5], shown.append_column("ctx_new", shown["ctx_tab"]))
    examples.run(spark, settings, DAYS[5])
    run_chain(settings, DAYS[5:])
    undeclared = []
    used = set()
    for step in RANKER_STEPS:
        for day in DAYS:
            for name in settings.lake.get(step, day).facts:
                fact = declaration(module(step).FACTS, name)
                undeclared += [f"{step}: {name}"] if fact is None else []
                used.add((step, fact))
    assert undeclared == []
    declared = {(step, fact) for step in RANKER_STEPS for fact in module(step).FACTS}
    # So few ids have no neighbours to compare: tests/jobs/judging/test_guardrails.py does that.
    unused = {fact.name for _, fact in declared - used}
    assert unused == {"neighbour_overlap_consumers", "neighbour_overlap_producers"}


def test_headlines_are_the_figures_of_the_decision():
    """Headlines are also logged to the day's run, beside those of the other steps."""
    headlines = {
        step: [fact.name for fact in module(step).FACTS if fact.headline] for step in RANKER_STEPS
    }
    assert headlines == {
        "examples": ["version", "space"],
        "evaluate": ["champion_auc_<label>", "challenger_auc_<label>"],
        "train": ["space", "loss"],
        "gate": [
            *("champion_after", "promoted"),
            *("difference", "difference_low", "difference_high"),
        ],
        "promote": [],
    }


# Training


def test_training_takes_the_window_and_nothing_newer(settings):
    """From the window's first day to the day itself."""
    short = with_options(settings, window_days=2)
    assert train.training_window(short, DAYS[2]) == DAYS[1:3]
    train.run(None, settings, DAYS[2])
    partition = settings.lake.get("train", DAYS[2])
    read = [f"{step}/{day}" for step in ("examples", "validate") for day in DAYS[:3]]
    assert sorted(partition.inputs) == read
    assert (partition.facts["rows"], partition.facts["first_day"]) == (600, str(DAYS[0]))


def test_every_row_is_trained_on_or_counted_as_left_out(settings):
    """With a tenth of the negatives."""
    fewer = with_options(settings, negatives_kept=0.1)
    train.run(None, fewer, DAYS[0])
    trained = settings.lake.get("train", DAYS[0])
    rows, left_out = trained.facts["rows"], trained.facts["negatives_left_out"]
    day = train.load_day(settings, settings.lake.get("examples", DAYS[0]))
    positives = int(day.labels.any(axis=1).sum())
    assert rows + left_out == len(day) == 200
    assert positives < rows < positives + 0.3 * (200 - positives)
    assert declaration(train.chosen_facts(fewer), "negatives_left_out").unit == "rows"


def test_training_twice_is_the_same_partition(settings):
    train.run(None, settings, DAYS[2])
    first = settings.lake.get("train", DAYS[2])
    shutil.rmtree(settings.lake.root / "train")
    train.run(None, settings, DAYS[2])
    assert settings.lake.get("train", DAYS[2]) == first


def test_a_day_of_another_space_is_masked_and_named(opened):
    """Vectors of two spaces are never mixed: only the newest day's space is read."""
    facts = opened.lake.get("train", DAYS[3]).facts
    assert (facts["space"], facts["days"], facts["rows"]) == ("author-new", 4, 800)
    why = f"its vectors are in space 'author-s', those of {DAYS[3]} in 'author-new'"
    # The first day has no vectors and no space: nothing is masked.
    assert facts["masked"] == "; ".join(f"{day}: {why}" for day in DAYS[1:3])
    assert facts["left_out"] == "none"
    assert opened.lake.get("train", DAYS[2]).facts["masked"] == "none"


def test_masked_days_teach_what_days_of_unknown_ids_teach(opened):
    """The same bytes as training on these days with every row number set to -1."""
    days = []
    for day in DAYS[:4]:
        rows = train.load_day(opened, opened.lake.get("examples", day))
        if day in DAYS[1:3]:
            unknown = np.full(len(rows), -1)
            rows = dataclasses.replace(
                rows, space="author-new", consumer_rows=unknown, producer_rows=unknown
            )
        days.append(rows)
    cfg = train.training_config(opened.ranker, chain.seed(opened, "train", DAYS[3]))
    spec = examples.spec_of(opened.lake.get("examples", DAYS[3]))
    expected = fit(days, spec, opened.ranker.kind, opened.ranker.options, cfg).model.state_dict()
    found = load(opened.lake.get("train", DAYS[3]).path).model.state_dict()
    assert found.keys() == expected.keys()
    for name, weights in expected.items():
        np.testing.assert_array_equal(found[name].numpy(), weights.numpy())


def test_the_version_of_a_masked_day_is_not_needed(opened):
    """Its space may be so old that the registry has no version of it any more."""
    day = opened.lake.get("examples", DAYS[2])
    removed = dataclasses.replace(day, facts=day.facts | {"version": "author/2023-01-01@0"})
    with pytest.raises(NotCommitted, match="no version author/2023-01-01@0"):
        train.load_day(opened, removed)
    assert len(train.load_day(opened, removed, masked=True)) == 200


def test_vectors_of_another_space_than_the_examples_are_refused(settings):
    """The registry's guard: examples that claim another space than their version has."""
    partition = settings.lake.get("examples", DAYS[2])
    wrong = dataclasses.replace(partition, facts=partition.facts | {"space": "author-other"})
    with pytest.raises(SpaceMismatch, match="in space 'author-s' .*against space 'author-other'"):
        train.load_day(settings, wrong)


def test_a_newest_day_without_vectors_is_trained_with_the_newest_space(settings):
    """Days of two spaces and then one of none: the older space is masked, nothing is mixed."""
    days = [settings.lake.get("examples", day) for day in DAYS[1:4]]
    spaced = []
    for partition, space in zip(days, ("author-r", "author-s", ""), strict=True):
        spaced.append(dataclasses.replace(partition, facts=partition.facts | {"space": space}))
    use = train.usable(spaced)
    why = f"its vectors are in space 'author-r', those of {DAYS[2]} in 'author-s'"
    assert use == train.Usable(kept=spaced, masked={str(DAYS[1]): why}, left_out={})


def test_a_day_that_is_left_out_masks_no_other(settings, tmp_path):
    """The space is the newest of the days that are trained on: the last day has no vectors."""
    days = [settings.lake.get("examples", day) for day in DAYS[1:4]]
    spec = examples.spec_of(days[1])
    other = tmp_path / "other"
    other.mkdir()
    (other / examples.SPEC).write_text(dataclasses.replace(spec, numeric=()).to_json())
    unlike = dataclasses.replace(days[1], folder=other, facts=days[1].facts | {"space": "author-r"})
    without = dataclasses.replace(days[2], facts=days[2].facts | {"space": ""})
    use = train.usable([days[0], unlike, without])
    assert (use.kept, use.masked) == ([days[0], without], {})
    assert use.left_out == {str(DAYS[2]): f"its features are not those of {DAYS[3]}"}


def test_a_day_without_examples_trains_nothing(settings):
    commit_validated(settings, DAYS[4], None)
    with pytest.raises(Skip, match="no trusted impressions"):
        train.run(None, settings, DAYS[4])


TRAIN = """
import os, signal, sys
from datetime import date
from jobs.lake.store import Lake
from jobs.settings import Settings
from jobs.steps import train
die = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
{sabotage}
train.run(None, Settings.model_validate_json(sys.argv[1]), date.fromisoformat(sys.argv[2]))
"""


KILLED_AT_THE_COMMIT = "Lake._commit = die"
OFTEN = "import models.checkpoint; models.checkpoint.EVERY = 5"
KILLED_IN_STEP_12 = "train.ProgressPrinter.__call__ = lambda p, d, done, *r: done > 330 and die()"
COUNTED = """
import atexit
from models.training import Trainer
step = Trainer.step
steps = []
Trainer.step = lambda *arguments: steps.append(1) or step(*arguments)
atexit.register(lambda: print(len(steps)))
"""
KILLS = {
    # sabotage of the first attempt, of the second one, and the steps that the second one takes
    "the commit": (KILLED_AT_THE_COMMIT, COUNTED, 28),
    "a step": (f"{OFTEN}\n{KILLED_IN_STEP_12}", COUNTED, 18),
}


@pytest.mark.parametrize("moment", ["the commit", pytest.param("a step", marks=pytest.mark.slow)])
def test_a_kill_leaves_nothing_and_a_retry_gives_the_same_bytes(
    four_days, settings, tmp_path, moment
):
    """No partition after kill -9; after a second attempt, the one of an undisturbed run.

    A training that has saved its state goes on from there, and leaves nothing of it.
    """

    def attempt(sabotage: str) -> subprocess.CompletedProcess:
        code = TRAIN.format(sabotage=sabotage)
        command = [sys.executable, "-c", code, settings.model_dump_json(), str(DAYS[3])]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ)

    sabotage, counted, steps = KILLS[moment]
    assert attempt(sabotage).returncode == -signal.SIGKILL
    assert settings.lake.find("train", DAYS[3]) is None
    retried = attempt(counted)
    assert (retried.returncode, retried.stdout) == (0, f"{steps}\n"), retried.stderr
    assert not settings.lake.scratch("train", DAYS[3]).exists()
    undisturbed = copied(four_days, tmp_path / "undisturbed")
    train.run(None, undisturbed, DAYS[3])
    found, expected = (s.lake.get("train", DAYS[3]) for s in (settings, undisturbed))
    assert found.digest == expected.digest


# Evaluation


def test_a_primary_label_that_does_not_exist_is_named(settings):
    wrong = with_options(settings, primary_label="buy")
    with pytest.raises(SettingsError, match=r"primary_label is 'buy'.*\['click', 'like'\]"):
        evaluate.run(None, wrong, DAYS[0])


# The gate


def interval(difference: float, low: float, high: float) -> Estimate:
    return Estimate(difference, low, high, np.array([low, difference, high]))


@pytest.mark.parametrize(
    ("found", "winner", "words"),
    [
        (interval(0.02, 0.01, 0.03), "B", "significantly better"),
        (interval(0.0, 0.0, 0.0), "B", "not worse"),
        (interval(-0.001, -0.01, 0.008), "B", "not worse"),
        (interval(-0.001, -0.002, 0.0), "B", "not worse"),
        (interval(-0.02, -0.03, -0.01), "A", "significantly worse"),
        (interval(np.nan, np.nan, np.nan), "B", "did not have both outcomes"),
    ],
)
def test_the_challenger_wins_unless_it_is_significantly_worse(found, winner, words):
    """Of a tested champion A and a tested challenger B."""
    compared = Comparison(found, log_loss_rise=interval(0.0, -0.01, 0.01))
    met = Contest(DAYS[2], "click", champion="A", challenger="B")
    decision = decide(met, compared, RankerSettings())
    assert decision.champion == winner
    assert words in decision.why


@pytest.mark.parametrize(("noise", "promoted"), [(0.0, 1), (3.0, 0)])
def test_the_gate_reads_the_predictions(settings, noise, promoted):
    """Equal scores are promoted, much noisier ones are not; the facts hold the figures."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600).astype(np.int8)
    champion = labels + rng.normal(size=600)
    table = {
        "consumer_id": [f"c{c}" for c in rng.integers(0, 60, 600)],
        "label": labels,
        "champion": champion,
    }
    with settings.lake.writing("evaluate", DAYS[2], recipe="") as staging:
        staging.facts |= {"champion": str(DAYS[0]), "challenger": str(DAYS[1]), "rows": 600}
        table["challenger"] = champion + noise * rng.normal(size=600)
        pq.write_table(pa.table(table), staging.path / "predictions.parquet")
    gate.run(None, settings, DAYS[2])
    facts = settings.lake.get("gate", DAYS[2]).facts
    assert facts["promoted"] == promoted
    assert facts["champion_after"] == str(DAYS[1] if promoted else DAYS[0])
    assert (facts["difference_high"] < 0) == (not promoted)
    assert (settings.report("gate", DAYS[2]) / "bootstrap.png").stat().st_size > 1000


# Promotion


def test_the_registry_alias_follows_the_champion_and_never_goes_back(settings):
    """It is the version that the champion was trained on; promoting an older day moves nothing."""
    run_chain(settings, DAYS[:4])
    champion = date.fromisoformat(settings.lake.get("gate", DAYS[3]).facts["champion_after"])
    expected = settings.lake.get("examples", champion).facts["version"]
    assert content_id(settings.open_registry().alias("author", "champion")) == expected
    promote.run(None, settings, DAYS[2])
    assert content_id(settings.open_registry().alias("author", "champion")) == expected


def test_the_receipt_is_the_same_every_time(settings):
    run_chain(settings, DAYS[:3])
    first = settings.lake.get("promote", DAYS[2])
    promote.run(None, settings, DAYS[2])
    assert settings.lake.get("promote", DAYS[2]) == first
    assert load(settings.lake.get("train", DAYS[2]).path).space == "author-s"
