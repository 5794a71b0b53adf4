"""The experiments from end to end on small days, their reports, and their commands."""

from __future__ import annotations

import ast
import csv
import json
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embeddings.benchmarks.intervals import Estimate
from embeddings.embedders.als import ALSConfig
from jobs.cli import app, experiments
from jobs.reports import alignment, folding_in, hidden_consumers, spaces
from jobs.reports.methods import ALS, SVD
from jobs.reports.readers import AGAIN, truth_rows
from jobs.reports.report import Report
from jobs.reports.streams import simulated_stream
from simulation.small_world import SmallWorld


@pytest.fixture
def small_experiments(monkeypatch) -> None:
    """Few and short trainings, which fit into six small days."""
    als = ALS(ALSConfig(dim=4, iterations=4))
    grids = {"als": [als], "svd": [SVD(4), SVD(2)]}
    monkeypatch.setattr(alignment, "STARTS", (2, 3))
    monkeypatch.setattr(hidden_consumers, "START", 3)
    monkeypatch.setattr(folding_in, "PERCENTS", (50, 100))
    monkeypatch.setattr(folding_in, "candidates", lambda: grids)
    for module in (folding_in, hidden_consumers):
        monkeypatch.setattr(module, "MIN_CONSUMERS", 5)
    for module in (alignment, hidden_consumers):
        monkeypatch.setattr(module, "compared_methods", lambda settings: [als, SVD(4)])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_alignment_from_end_to_end(small_settings, small_experiments, log, monkeypatch, tmp_path):
    """One row per method, start and age, one picture per method, and the same bytes every time.

    The second time on the log as the other tests have read it.
    """
    first = alignment.run(small_settings, 0, tmp_path / "first")
    monkeypatch.setattr(alignment, "read_log", lambda settings, progress: log)
    second = alignment.run(small_settings, 0, tmp_path / "second")
    rows = rows_of(first.folder / "alignment-ages.csv")
    expected = [("2", "1"), ("2", "2"), ("2", "3"), ("3", "1"), ("3", "2")]
    assert [(row["start"], row["age"]) for row in rows] == 2 * expected
    for row in rows:
        gain = float(row["gain aligned"])
        assert float(row["gain aligned_low"]) <= gain <= float(row["gain aligned_high"])
    starts = [row["start"] for row in rows_of(first.folder / "alignment-gains.csv")]
    assert starts == 2 * ["2", "3", "all"]
    assert {f.stem for f in first.folder.glob("*.png")} == {"alignment-als", "alignment-svd"}
    for file in sorted(first.folder.iterdir()):
        assert file.read_bytes() == (second.folder / file.name).read_bytes(), file.name


@pytest.mark.slow
def test_fold_in_from_end_to_end_without_public_data(
    small_settings, small_experiments, tmp_path, capsys
):
    """The log of the settings is still measured: all tables and pictures, and the headlines."""
    report = folding_in.run(small_settings, None, 0, tmp_path / "out")
    rows = rows_of(report.folder / "fold-in-curve.csv")
    points = [(row["method"], row["percent"]) for row in rows]
    assert points == [("als", "50"), ("als", "100"), ("svd", "50"), ("svd", "100")]
    for row in rows:
        if row["percent"] == "100":  # no consumer is left to fold in
            assert row["folded"] == ""
            assert row["fitted"] == row["everybody"]
        else:
            assert row["folded"] != ""
    by_auc = rows_of(report.folder / "fold-in-hidden-auc.csv")
    assert "all" in {row["engagements"] for row in by_auc}
    pictures = {file.name for file in report.folder.glob("*.png")}
    assert pictures == {"fold-in-edgelist.png", "fold-in-hidden.png"}
    assert {name for name in report.figures if name.startswith("als")} == {"als_auc_share"}
    assert report.figures["edgelist_svd_best_percent"] in (50, 100)
    assert "lastfm left out: no data folder is set" in capsys.readouterr().err


@pytest.fixture
def small_worlds(monkeypatch) -> None:
    """One seed, and few days of few entities."""
    world = SmallWorld(consumers=150, producers=60, topics=4, engagements=6.0)
    for name, value in {
        "SEEDS": 1,
        "DIM": 8,
        "OWN_WINDOW": 2,
        "BREAK": 6,
        "YEAR": world,
        "YEAR_DAYS": 40,
        "SIMULATED": {"stationary": (world, 40, 3)},
        "PICTURES": {"simulated": ("stationary",)},
    }.items():
        monkeypatch.setattr(spaces, name, value)


@pytest.mark.slow
def test_space_from_end_to_end_without_public_data(
    small_settings, small_worlds, log, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(spaces, "read_log", lambda settings, progress: log)
    report = spaces.run(small_settings, None, 0, tmp_path / "out")
    rows = {row["log"]: row for row in rows_of(report.folder / "space-spaces.csv")}
    assert rows["stationary"]["opened"] == "0"
    assert rows["simulated, other tastes from day 6 on"]["opened on day"] == "6"
    by_age = {row["age"]: row for row in rows_of(report.folder / "space-ages.csv")}
    assert {"1", "7", "30"} <= by_age.keys()
    for way in ("reference", "chain", "fixed day", "best rotation"):
        assert 0 < float(by_age["7"][way]) < 1
    prefixes = rows_of(report.folder / "space-prefixes.csv")
    whole = next(row for row in prefixes if (row["log"], row["columns"]) == ("stationary", "8"))
    assert float(whole["in the space"]) == pytest.approx(float(whole["own axes"]), abs=1e-3)
    readers = rows_of(report.folder / "space-readers.csv")
    week = next(row for row in readers if (row["log"], row["age"]) == ("stationary", "7"))
    assert min(float(week[way]) for way in ("fitted once", "fitted again", "old vectors")) > 0.5
    truth = rows_of(report.folder / "space-truth.csv")
    assert [row["day"] for row in truth] == ["20", "34"]
    pictures = {file.name for file in report.folder.glob("*.png")}
    assert pictures == {"space-simulated.png", "space-truth.png"}
    assert "CollegeMsg left out: no data folder is set" in capsys.readouterr().err


def test_a_report_is_a_run_in_mlflow(small_settings, tmp_path):
    """Figures and curves are metrics, files are artifacts, and the seed is a parameter."""
    from jobs.pipeline.tracking.runs import Tracker

    mlflow = small_settings.mlflow.model_copy(update={"uri": ""})
    tracked = small_settings.model_copy(update={"home": tmp_path, "mlflow": mlflow})
    report = Report(tracked, "alignment", 5, None)
    report.table("gains", [{"method": "als", **Estimate(0.1, 0.05, 0.2).fields("gain")}])
    report.figures["als_gain"] = 0.1
    report.track(curves={"gain by age": {1: 0.3, 7: 0.2}})
    client = Tracker(tracked).client
    run = client.search_runs([client.get_experiment_by_name("experiments").experiment_id])[0]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seed": "5"}
    assert run.data.metrics == {"als_gain": 0.1, "gain by age": 0.2}
    history = client.get_metric_history(run.info.run_id, "gain by age")
    assert {point.step: point.value for point in history} == {1: 0.3, 7: 0.2}
    files = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert files == {"alignment-gains.csv", "alignment-gains.json"}
    content = json.loads((report.folder / "alignment-gains.json").read_text())
    assert content["rows"][0]["gain_high"] == 0.2


def test_only_fractional_numbers_of_a_row_are_figures(small_settings, tmp_path):
    report = Report(small_settings, "alignment", 0, tmp_path)
    report.add_figures("als_from_3", {"method": "als", "start": 3, "gain": 0.5})
    assert report.figures == {"als_from_3_gain": 0.5}


@pytest.mark.parametrize("command", ["fold-in", "alignment", "space"])
def test_help_shows_a_runnable_example(command):
    shown = " ".join(CliRunner().invoke(app, ["experiment", command, "--help"]).stdout.split())
    assert f"Example: evergreen experiment {command}" in shown


@pytest.mark.parametrize("environment", [False, True])
def test_a_data_folder_that_does_not_exist_is_refused(environment, tmp_path):
    """Named on the command line or in EVERGREEN_DATA: an error, before anything is measured."""
    nowhere = str(tmp_path / "nowhere")
    arguments = [] if environment else ["--data", nowhere]
    variables = {"EVERGREEN_DATA": nowhere} if environment else {}
    result = CliRunner().invoke(app, ["experiment", "fold-in", *arguments], env=variables)
    assert result.exit_code == 2
    assert "Invalid value for '--data'" in result.output


@pytest.mark.slow
def test_the_bars_of_one_space_over_a_simulated_year():
    """A reader fitted once is within 0.02 R² of one fitted again, and a chain is not."""
    year = simulated_stream("year", spaces.YEAR, spaces.YEAR_DAYS, 0)
    rows = truth_rows(year, spaces.WAYS, 0)
    assert len(rows) > 20
    for row in rows:
        assert row[spaces.REFERENCE] > row[AGAIN] - 0.02
    assert rows[-1][spaces.CHAIN] < rows[-1][AGAIN] - 0.1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_bars_of_alignment_on_the_bundled_log(spark, settings, tmp_path):
    """Unaligned vectors cost 0.03 (ALS) and 0.02 (SVD); aligned ALS beats frozen.

    The aligned SVD keeps 99 % of the gain of the frozen one.
    """
    mlflow = settings.mlflow.model_copy(update={"uri": "off"})
    alignment.run(settings.model_copy(update={"mlflow": mlflow}), 0, tmp_path)
    rows = {}
    for row in rows_of(tmp_path / "alignment-gains.csv"):
        rows[row["method"], row["start"]] = row
    for start in ("3", "5", "8"):
        assert float(rows["als", start]["over unaligned"]) >= 0.03
        assert float(rows["als", start]["over frozen_low"]) > 0
        assert float(rows["svd", start]["over unaligned"]) >= 0.02
        assert float(rows["svd", start]["share of frozen gain"]) >= 0.99


def calls_of_run() -> list[ast.Call]:
    """What the commands pass to `run`, which imports a module by its name."""
    tree = ast.parse(Path(experiments.__file__).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "run"]


def test_every_command_calls_an_experiment_that_exists_with_arguments_that_it_takes():
    commands = [command.callback for command in experiments.app.registered_commands]
    assert len(calls_of_run()) == len(commands) > 10
    for call in calls_of_run():
        module, *arguments = call.args
        run = import_module(f"jobs.reports.{ast.literal_eval(module)}").run
        signature(run).bind("settings", *arguments)
