"""Who decides about promotion: the gate by its rules, or a person."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from ranker_lake import DAYS, copied, ranker_settings
from typer.testing import CliRunner

from jobs.cli import app
from jobs.errors import EvergreenError
from jobs.pipeline import plan, running
from jobs.pipeline.approval import Question, Refused, approved, question
from jobs.pipeline.rulings import decisions, newest_calibration, previous_champion, rule
from jobs.settings import RankerSettings, Settings
from jobs.steps.evaluate import CHALLENGER, CHAMPION
from jobs.steps.gate import Contest, comparison, decide
from models.calibration import FILE

NEWEST = DAYS[2]  # the newest decided day
MET = Contest(NEWEST, "click", champion="2024-01-01", challenger="2024-01-02")


@pytest.fixture
def settings(decided, tmp_path) -> Settings:
    """Three decided days and the examples of a fourth, free to be changed."""
    return copied(decided, tmp_path / "home")


def no_spark():
    raise AssertionError("a session was requested")


def promoted(settings: Settings, day: date) -> plan.Result:
    return running.request(settings, "promote", day, no_spark)


def other_model(settings: Settings) -> date:
    """The tested model that does not serve."""
    serving = settings.lake.get("gate", NEWEST).facts["champion_after"]
    return next(day for day in DAYS[:2] if str(day) != serving)


# A person


def test_a_ruled_champion_serves_with_its_embedding_and_its_calibration(settings):
    """Also one that was not tested on the day."""
    promoted(settings, DAYS[3])
    champion = DAYS[1]
    rule(settings, champion, "complaints", by="ada")
    assert not promoted(settings, DAYS[3]).reused
    decision = settings.lake.get("gate", DAYS[3]).facts
    assert decision["champion_after"] == str(champion)
    assert decision["ruled_by"] == "ada"
    assert re.search("ada has decided .* complaints. Of itself, the gate decides", decision["why"])

    embedding = settings.lake.get("train", champion).facts["embedding"]
    with settings.open_registry() as registry:
        day = registry.alias("author", "champion").day
        assert embedding.startswith(f"author/{day}@")
        assert registry.history("author", "champion")[0].moved_by == "ada"
    fitted = newest_calibration(settings, champion)
    receipt = settings.lake.get("promote", DAYS[3])
    assert fitted
    assert (receipt.path / FILE).read_text() == fitted


def test_the_days_after_a_ruling_go_on_from_its_champion(settings):
    champion = other_model(settings)
    rule(settings, champion)
    promoted(settings, DAYS[3])
    assert settings.lake.get("evaluate", DAYS[3]).facts[CHAMPION] == str(champion)


def test_a_ruled_day_that_is_run_again_leaves_the_aliases_to_the_days_after_it(settings):
    rule(settings, other_model(settings))
    promoted(settings, DAYS[3])
    with settings.open_registry() as registry:
        before = registry.history("author", "champion")
        running.execute(settings, "promote", NEWEST, no_spark)
        assert registry.history("author", "champion") == before


def test_a_second_ruling_replaces_the_first(settings):
    serving = date.fromisoformat(settings.lake.get("gate", NEWEST).facts["champion_after"])
    rule(settings, other_model(settings))
    promoted(settings, NEWEST)
    rule(settings, serving)
    promoted(settings, NEWEST)
    assert settings.lake.get("gate", NEWEST).facts["champion_after"] == str(serving)
    with settings.open_registry() as registry:
        embedding = settings.lake.get("train", serving).facts["embedding"]
        day = registry.alias("author", "champion").day
        assert embedding.startswith(f"author/{day}@")


@pytest.mark.parametrize(
    ("model", "reason", "words"),
    [
        (NEWEST, "", "no model of 2024-01-03 that was tested by 2024-01-03. Choose one of: 2024"),
        (date(2020, 1, 1), "", "no model of 2020-01-01"),
        (DAYS[0], "two\nlines", "use one line"),
    ],
)
def test_what_cannot_be_ruled_is_named(settings, model, reason, words):
    with pytest.raises(EvergreenError, match=words):
        rule(settings, model, reason)
    assert settings.lake.days("ruling") == []


def test_without_a_decided_day_there_is_nothing_to_rule_on(tmp_path):
    empty = ranker_settings(tmp_path / "home")
    for ask in (previous_champion, lambda settings: rule(settings, DAYS[0])):
        with pytest.raises(EvergreenError, match="No day has been decided yet"):
            ask(empty)


def test_rollback_on_the_command_line(settings, tmp_path, monkeypatch):
    """To the champion before, which the decisions then show."""
    file = tmp_path / "s.toml"
    file.write_text(
        f'home = "{settings.home}"\n[source]\nkind = "edgelist"\npath = "{settings.source.path}"\n'
        '[embedding]\nname = "author"\ndim = 4\n[ranker]\nstart_day = 2024-01-01\n'
        'window_days = 4\nbatch_size = 32\nlearning_rate = 0.005\n[mlflow]\nuri = "off"\n'
        "[spark]\npartitions = 2\n[guardrails]\nmax_coverage_loss = 1.0\n"
    )
    monkeypatch.setenv("EVERGREEN_SETTINGS", str(file))
    rule(settings, DAYS[1])
    promoted(settings, NEWEST)
    assert previous_champion(settings) == DAYS[0]
    done = CliRunner().invoke(app, ["ranker", "rollback", "--reason", "too slow"])
    assert done.exit_code == 0, done.output
    assert f"the ranker of {DAYS[0]} serves" in done.output
    assert decisions(settings)[-1].facts["champion_after"] == str(DAYS[0])
    shown = CliRunner().invoke(app, ["ranker", "decisions"])
    assert str(NEWEST) in shown.output


# The gate's rules


def predictions(challenger: np.ndarray, champion: np.ndarray, labels: np.ndarray) -> pa.Table:
    """Predictions of both models; every ten rows are of one user."""
    users = [f"c{row // 10}" for row in range(len(labels))]
    columns = {"consumer_id": users, "label": labels, CHAMPION: champion, CHALLENGER: challenger}
    return pa.table(columns)


def world(seed: int, n: int = 1500) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, their true log odds, and what a good model says about them."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(-1, 1.5, n)
    labels = (rng.random(n) < sigmoid(log_odds)).astype(np.int8)
    return labels, log_odds, log_odds + rng.normal(0, 0.3, n)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def winner(labels, champion, challenger, ranker: RankerSettings, seed: int = 0) -> str:
    compared = comparison(predictions(sigmoid(challenger), sigmoid(champion), labels), 100, seed)
    return decide(MET, compared, ranker).champion


FAULTS = {
    "shuffled": lambda odds, rng: rng.permutation(odds),
    "a broken feature": lambda odds, rng: odds + rng.normal(0, 3, len(odds)),
    "misaligned": lambda odds, rng: -odds,
    "a shift": lambda odds, rng: odds + 2,
    "too sure of itself": lambda odds, rng: 4 * odds,
}


MANY = pytest.param(100, marks=pytest.mark.slow)


@pytest.mark.parametrize("worlds", [10, MANY])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_challenger_is_refused_in_nearly_every_world(fault, worlds):
    """At most one in twenty is promoted; the last two have the order of a good model."""
    promotions = 0
    for seed in range(worlds):
        labels, _, good = world(seed)
        faulty = FAULTS[fault](good, np.random.default_rng(seed))
        promotions += winner(labels, good, faulty, RankerSettings(), seed) == MET.challenger
    assert promotions <= worlds // 20


@pytest.mark.parametrize("worlds", [20, MANY])
def test_a_better_or_equal_challenger_is_promoted_in_nearly_every_world(worlds):
    """An equally good one is refused by chance in 2.5 % of all worlds."""
    refused = {"better": 0, "equal": 0}
    for seed in range(worlds):
        labels, truth, good = world(seed)
        equal = truth + np.random.default_rng(1000 + seed).normal(0, 0.3, len(truth))
        for name, challenger in (("better", truth), ("equal", equal)):
            chosen = winner(labels, good, challenger, RankerSettings(), seed)
            refused[name] += chosen != MET.challenger
    assert refused["better"] == 0
    assert refused["equal"] <= max(2, 0.07 * worlds)


def test_by_hand_the_champion_stays_and_the_reason_says_how_to_promote():
    labels, truth, good = world(0)
    compared = comparison(predictions(sigmoid(truth), sigmoid(good), labels), 50, 0)
    decision = decide(MET, compared, RankerSettings(promotion="by hand"))
    assert decision.champion == MET.champion
    assert f"evergreen ranker promote {MET.challenger}" in decision.why
    assert decision.proposed == MET.challenger
    unopposed = Contest(NEWEST, "click", challenger=MET.challenger)
    first = decide(unopposed, None, RankerSettings(promotion="by hand"))
    assert (first.champion, first.proposed) == (MET.challenger, "")


# The question to a person


def proposing(settings: Settings) -> Question:
    """The question about the newest decided day, as if the gate had left it to a person."""
    decided = settings.lake.get("gate", NEWEST).facts
    left = {"champion_after": decided["champion_before"], "promoted": 0}
    with plan.writing(settings, "gate", NEWEST) as staging:
        staging.facts |= decided | left | {"proposed": decided["challenger"]}
    asked = question(settings, NEWEST)
    assert asked is not None
    return asked


def test_an_approved_challenger_serves(settings):
    asked = proposing(settings)
    assert settings.lake.get("gate", NEWEST).facts["champion_after"] == asked.champion
    assert re.search(r"\| AUC \| [+-]0\.\d{4} \| [+-]0\.\d{4} to", asked.comparison)
    said = approved(settings, asked.as_conf(), "ada", no_spark)
    assert said == f"From {NEWEST} on, the ranker of {asked.model} serves."
    decision = settings.lake.get("gate", NEWEST).facts
    assert (decision["champion_after"], decision["ruled_by"]) == (asked.model, "ada")
    assert question(settings, NEWEST) is None


def test_an_approval_is_refused_once_another_model_serves(settings):
    """The comparison that the person has read was with the one before."""
    asked = proposing(settings)
    older = replace(asked, champion="2023-12-31")
    with pytest.raises(Refused, match=rf"model of {asked.champion} serves now.*that of 2023-12-31"):
        approved(settings, older.as_conf(), "ada", no_spark)


def test_an_approval_goes_on_where_it_was_interrupted(settings):
    """The ruling was committed, and the aliases had not followed yet."""
    asked = proposing(settings)
    rule(settings, date.fromisoformat(asked.model), by="ada")
    plan_of_gate = running.request(settings, "gate", NEWEST, no_spark)
    assert plan_of_gate.partition.facts["champion_after"] == asked.model
    said = approved(settings, asked.as_conf(), "ada", no_spark)
    assert said == f"From {NEWEST} on, the ranker of {asked.model} serves."
    assert settings.lake.get("promote", NEWEST).facts["champion"] == asked.model


def test_where_the_gate_decides_nobody_is_asked(settings):
    promoted(settings, NEWEST)
    assert question(settings, NEWEST) is None


def test_the_rise_of_the_log_loss_is_that_of_the_formula():
    labels, truth, good = world(3, n=200)
    rise = comparison(predictions(sigmoid(truth), sigmoid(good), labels), 20, 0).log_loss_rise
    losses = []
    for odds in (truth, good):
        p = np.where(labels == 1, sigmoid(odds), 1 - sigmoid(odds))
        losses.append(-np.log(p).mean())
    assert rise.value == pytest.approx(losses[0] / losses[1] - 1)
    assert rise.low < rise.value < rise.high
