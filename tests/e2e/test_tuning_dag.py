"""A study under the real Airflow: its tasks, its trials as mapped ones, and its result."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from jobs.pipeline.loop import run_days
from jobs.settings import load_settings
from jobs.tuning import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DAYS = [date(2024, 3, 1), date(2024, 3, 2)]
TRIALS = 3
SETTINGS = f"""
home = "home"
[source]
kind = "edgelist"
path = "edges"
[embedding]
name = "it"
dim = 4
[tuning]
trials = {TRIALS}
[tuning.embedding]
smoothing = {{ low = 0.0, high = 10.0 }}
dim = [2, 4, 8]
[mlflow]
uri = "off"
[spark]
master = "local[2]"
[services]
live = false
"""


def test_a_study_runs_to_its_result_and_goes_on_where_it_was(tmp_path, spark, monkeypatch):
    file = tmp_path / "settings.toml"
    file.write_text(SETTINGS)
    monkeypatch.setenv("EVERGREEN_SETTINGS", str(file))
    (tmp_path / "edges").mkdir()
    for day in DAYS:
        write_day(tmp_path / "edges", day)
    settings = load_settings(file)
    run_days(settings, *DAYS)
    airflow("db", "migrate")
    for _ in range(2):
        output = airflow("dags", "test", "embedding_tuning")
        assert "state=success" in output.lower().replace(" ", "")
        plan = run.begin(settings, "embedding")
        result = run.finish(settings, plan)
        assert sum(result.outcomes.values()) == TRIALS
        assert "[embedding" in result.toml
        assert result.days == [str(DAYS[1])]


def airflow(*arguments: str) -> str:
    """A command of Airflow in the home of the settings. Returns all that it prints."""
    command = [sys.executable, "-m", "jobs.cli", "airflow", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=400, env=os.environ)
    output = ran.stdout + ran.stderr
    assert ran.returncode == 0, output
    return output


def write_day(folder: Path, day: date) -> None:
    midnight = (day - date(1970, 1, 1)).days * 86_400
    rows = [f"u{n % 23} v{n * 7 % 31} {midnight + 60 * n}" for n in range(200)]
    (folder / f"{day}.txt").write_text("\n".join(rows) + "\n")
