"""From a log to neighbours with what `evergreen init` writes, without editing it."""

from __future__ import annotations

import json
import random

import pytest
from typer.testing import CliRunner

from jobs.cli import app

START_S = 1_341_100_800  # 2012-07-01 00:00:00
DAYS = 2


def log_lines(form: str) -> list[str]:
    """Twenty groups of three consumers, each with two producers of their own."""
    draw = random.Random(0)
    rows = []
    for day in range(DAYS):
        for _ in range(400):
            consumer = draw.randrange(60)
            producer = 1000 + consumer % 20 + 20 * draw.randrange(2)
            at = START_S + 86_400 * day + draw.randrange(86_400)
            kind, rating = draw.choice(["RT", "MT", "RE"]), draw.randint(1, 5)
            rows.append((at, form.format(u=consumer, p=producer, s=at, k=kind, r=rating)))
    return [line for _, line in sorted(rows)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("higgs-activity_time.txt", "{u} {p} {s} {k}"),
        pytest.param("ratings.dat", "{u}::{p}::{r}::{s}", marks=pytest.mark.slow),
    ],
)
def test_init_check_run_neighbours(spark, tmp_path, monkeypatch, name, form):
    """The nearest producer is the other one of the same group."""
    monkeypatch.setenv("EVERGREEN_SETTINGS", "")
    monkeypatch.setenv("EVERGREEN_MLFLOW__URI", "off")
    monkeypatch.setenv("EVERGREEN_SPARK__MASTER", "local[2]")
    (tmp_path / name).write_text("\n".join(log_lines(form)) + "\n")
    settings = tmp_path / "my.toml"

    def evergreen(*command: str) -> str:
        result = CliRunner().invoke(app, list(command))
        assert result.exit_code == 0, result.output
        return result.stdout

    evergreen("init", str(tmp_path / name), "--output", str(settings))
    mine = ("--settings", str(settings))
    report = json.loads(evergreen(*mine, "check", "--json"))
    assert report["landed"] == DAYS * 400
    evergreen(*mine, "run", "--from", report["first"], "--to", report["last"])
    nearest = evergreen(*mine, "registry", "neighbours", "producer", "producer:1003", "--k", "1")
    assert "producer:1023" in nearest
