"""The decay report from end to end on small days: its files, its page, and what it leaves out."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from ranker_lake import DAYS, commit_days_with_examples, ranker_settings
from typer.testing import CliRunner

from jobs.cli import app
from jobs.reports.daily_log import Log
from jobs.reports.decay import run as decay
from jobs.reports.decay.ages import TooFewDays
from jobs.reports.report import Report
from jobs.settings import Settings


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def decay_settings(tmp_path_factory) -> Settings:
    """Settings of six validated and published days with examples, and a fast ranker."""
    home = tmp_path_factory.mktemp("decay") / "home"
    settings = ranker_settings(home, kind="logistic", window_days=14)
    commit_days_with_examples(settings, DAYS)
    return settings


@pytest.fixture(scope="module")
def tracked() -> list[tuple]:
    """What the whole report gives to MLflow; tests/jobs/reports/test_experiments.py logs it."""
    return []


@pytest.fixture(scope="module")
def report(decay_settings, log, tracked, tmp_path_factory) -> Path:
    """The folder of a whole report. The log is read as the other tests do."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decay, "read_log", lambda settings, progress, days: log)
        patch.setattr(Report, "track", lambda self, *given: tracked.append(given))
        headlines, page = decay.run(decay_settings, DAYS[0], DAYS[-1], 2, folder)
    assert page == folder / "decay.html"
    assert len(headlines) == 3
    return folder


def test_every_way_and_age_has_a_figure_with_its_interval(report):
    """Six days: three tested days and ages up to two; the ranker's first day has no older one."""
    for name, group, column in (
        ("retrieval", "way", "ndcg_20"),
        ("ranker", "line", "auc"),
        ("refresh", "way", "auc"),
    ):
        rows = rows_of(report / f"decay-{name}.csv")
        ages = {int(row["age"]) for row in rows}
        assert ages == set(range(max(ages) + 1))
        assert max(ages) >= 1
        for row in rows:
            low, value, high = (float(row[f"{column}{end}"]) for end in ("_low", "", "_high"))
            assert low <= value <= high, row
            if row["age"] == "0" and row[group] in ("stale", "as old", "equal volume"):
                assert float(row[f"{column}_lost"]) == 0


def test_the_diagonals_of_the_matrix_are_the_curve(report):
    """The mean AUC of the tested days at an age is that of the cells that far from the diagonal."""
    cells = {}
    for row in rows_of(report / "decay-ranker-matrix.csv"):
        learned, tested = date.fromisoformat(row["learned"]), date.fromisoformat(row["tested"])
        age = (tested - learned).days - 1
        cells.setdefault(age, []).append((tested, float(row["auc"])))
    for row in rows_of(report / "decay-ranker.csv"):
        if row["line"] == "as old":
            newest = sorted(cells[int(row["age"])])[-3:]
            assert float(row["auc"]) == pytest.approx(sum(auc for _, auc in newest) / 3)


def test_the_page_loads_nothing_and_has_every_picture(report):
    page = (report / "decay.html").read_text()
    pictures = {file.stem for file in report.glob("*.png")}
    expected = ("retrieval", "retrieval-matrix", "ranker", "ranker-matrix", "refresh", "windows")
    assert pictures == {f"decay-{name}" for name in expected}
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == len(pictures)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    markdown = (report / "decay.md").read_text()
    assert set(re.findall(r"\]\((.*)\.png\)", markdown)) == pictures


def test_the_curves_are_logged_with_the_age_as_step(report, tracked):
    ((experiment, curves),) = tracked
    assert experiment == "decay"
    curve = {}
    for row in rows_of(report / "decay-retrieval.csv"):
        if row["way"] == "stale":
            curve[int(row["age"])] = float(row["ndcg_20"])
    assert curves["retrieval/ndcg_20 stale"] == curve
    for name in ("ranker/auc_click as old", "ranker/rce_click equal volume", "refresh/auc frozen"):
        assert set(curves[f"{name}_low"]) == set(curves[name]) >= {0, 1}


def test_every_gain_has_its_cost_beside_it(report):
    rows = json.loads((report / "decay-costs.json").read_text())["rows"]
    assert len(rows) == 5
    assert all(row["cpu_s"] > 0 and "wins_low" in row for row in rows)


def test_a_log_without_impressions_is_measured_by_retrieval_alone(
    decay_settings, log, monkeypatch, tmp_path, capsys
):
    """One of engagements only, and with a gap of a day."""
    kept = [replace(day, examples=None) for day in log.days if day.day != DAYS[2]]
    monkeypatch.setattr(decay, "read_log", lambda settings, progress, days: Log(kept, None))
    headlines, page = decay.run(decay_settings, None, None, 1, tmp_path)
    assert len(headlines) == 1
    assert "NDCG@20" in headlines[0]
    text = page.read_text()
    assert "Left out: the ranker. No day has impressions" in text
    assert "missing or not trusted" in text
    assert "Left out" in capsys.readouterr().err


@pytest.mark.parametrize("last", [DAYS[0], DAYS[1]])
def test_a_range_in_which_nothing_grows_old_is_refused(decay_settings, last, tmp_path):
    with pytest.raises(TooFewDays, match=r"one to learn from, one to miss and one to test"):
        decay.run(decay_settings, DAYS[0], last, 1, tmp_path)


def test_a_range_outside_of_the_log_names_the_days_of_the_log(decay_settings, tmp_path):
    with pytest.raises(TooFewDays, match=r"has 0 days of the log, which goes from 2024-01-01"):
        decay.run(decay_settings, date(2030, 1, 1), date(2030, 2, 1), 1, tmp_path)


def test_help_shows_a_runnable_example():
    shown = " ".join(CliRunner().invoke(app, ["decay", "--help"]).stdout.split())
    assert "Example: evergreen decay" in shown
