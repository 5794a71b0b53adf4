"""The step `train` on two processes: one commits, and the model is that of one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from process_group import together
from ranker_lake import DAYS, commit_days_with_examples, copied, ranker_settings
from typer.testing import CliRunner

from jobs.cli import app
from jobs.pipeline.retraining import Outlook
from jobs.settings import Settings
from jobs.steps import train
from jobs.training.together import train_together
from models.processes import rank
from models.store import load


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Settings:
    settings = ranker_settings(tmp_path_factory.mktemp("together") / "home")
    commit_days_with_examples(settings, DAYS[:2])
    return settings


def no_spark():
    raise AssertionError("nothing is missing that needs Spark")


def in_two_processes(settings: Settings, folder: Path) -> None:
    """Train on DAYS[1], and note which process has been given a partition."""

    def work() -> None:
        partition = train_together(settings, DAYS[1], no_spark)
        (folder / ("first" if partition else "other")).write_text("")

    together(2, work, connect=False)


@pytest.mark.parametrize("tables", ["whole", "sharded"])
def test_two_processes_commit_one_model(lake, tmp_path, tables):
    """Its weights, facts and files are those of one process, but for rounding."""
    ranker = lake.ranker.model_copy(update={"tables": tables})
    settings = copied(lake, tmp_path / "home").model_copy(update={"ranker": ranker})
    in_two_processes(settings, tmp_path)
    assert (tmp_path / "first").exists()
    assert (tmp_path / "other").exists()
    train.run(None, lake, DAYS[1])
    found, expected = (one.lake.get("train", DAYS[1]) for one in (settings, lake))
    assert found.facts["loss"] == pytest.approx(expected.facts["loss"], rel=1e-4)
    assert {**found.facts, **dict.fromkeys(("loss", "loss_click", "loss_like"))} == {
        **expected.facts,
        **dict.fromkeys(("loss", "loss_click", "loss_like")),
    }
    weights = load(found.path).model.state_dict()
    for name, value in load(expected.path).model.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)


def test_a_day_that_is_worth_no_training_ends_all_processes(lake, tmp_path, monkeypatch):
    """The second one is not left waiting for inputs."""
    settings = copied(lake, tmp_path / "home")
    outlook = Outlook(DAYS[1], delta=1.0, newest=DAYS[0], expected=0.0, losses=[])
    monkeypatch.setattr("jobs.pipeline.retraining.outlook", lambda *_: outlook)
    in_two_processes(settings, tmp_path)
    assert (tmp_path / "other").exists()
    assert settings.lake.get("train", DAYS[1]).facts["skipped"]


def test_an_earlier_day_that_is_missing_is_trained_before_the_processes_meet(tmp_path):
    """`retrain` reads what was lost until then; inside the group its training would hang."""
    settings = ranker_settings(tmp_path / "home", retrain="when it pays")
    commit_days_with_examples(settings, DAYS[:2])
    in_two_processes(settings, tmp_path)
    assert (tmp_path / "other").exists()
    assert settings.lake.find("train", DAYS[0]) is not None
    assert settings.lake.get("train", DAYS[1]).facts["newest_model"] == str(DAYS[1])


def test_without_torchrun_it_is_the_step(lake, tmp_path):
    settings = copied(lake, tmp_path / "home")
    partition = train_together(settings, DAYS[1], no_spark)
    assert rank() == 0
    assert partition.digest == settings.lake.get("train", DAYS[1]).digest


def test_help_shows_a_runnable_example():
    shown = " ".join(CliRunner().invoke(app, ["ranker", "train", "--help"]).stdout.split())
    assert "torchrun --standalone --nproc-per-node 2 -m jobs.cli ranker train --day" in shown
