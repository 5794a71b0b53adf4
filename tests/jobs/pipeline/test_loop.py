"""`evergreen run` and `evergreen step`: the daily loop without Airflow, on a small log of edges."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs import parts
from jobs.cli import app
from jobs.errors import EvergreenError
from jobs.pipeline import running
from jobs.pipeline.loop import run_days
from jobs.settings import Settings, load_settings
from jobs.spark.session import spark_session

FIRST = date(2024, 3, 1)
DAYS = [FIRST + timedelta(days=n) for n in range(3)]
SETTINGS = """
home = "home"

[source]
kind = "edgelist"
path = "edges"

[embedding]
dim = 4

[matrix]
producers = 30

[mlflow]
uri = "off"

[spark]
master = "local[2]"
"""


def write_day(folder: Path, day: date, lines: int = 200) -> None:
    """A file of edges within one UTC day."""
    midnight = (day - date(1970, 1, 1)).days * 86_400
    rows = []
    for n in range(lines):
        rows.append(f"u{n % 23} v{n * 7 % 31} {midnight + 60 * n}")
    (folder / f"{day}.txt").write_text("\n".join(rows) + "\n")


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    """A settings file beside a log of three days."""
    # A command exports the file that --settings names; monkeypatch takes it back.
    monkeypatch.setenv("EVERGREEN_SETTINGS", "")
    (tmp_path / "edges").mkdir()
    for day in DAYS:
        write_day(tmp_path / "edges", day)
    settings = tmp_path / "settings.toml"
    settings.write_text(SETTINGS)
    return settings


def states(board, day: date) -> dict[str, str]:
    return {step: board.cell(day, step).state for step in board.steps}


def test_every_day_is_published_and_a_log_without_impressions_has_no_ranker(spark, file):
    settings = load_settings(file)
    board, reasons = run_days(settings, DAYS[0], DAYS[1])
    for day in DAYS[:2]:
        assert {states(board, day)[step] for step in parts.EMBEDDING_STEPS} == {"done"}
        assert {states(board, day)[step] for step in parts.RANKER_STEPS} == {"skipped"}
        assert "no impressions" in reasons[day, "examples"]
    versions = settings.open_registry().versions("producer")
    assert [version.day for version in versions] == DAYS[:2]


def test_a_refused_day_does_not_stop_the_next(spark, file):
    """A third of the second day's rows are repeats; the third day is computed without it."""
    settings = load_settings(file)
    second = file.parent / "edges" / f"{DAYS[1]}.txt"
    lines = second.read_text().splitlines()
    second.write_text("\n".join(lines + lines[:100]) + "\n")
    board, reasons = run_days(settings, DAYS[0], DAYS[2])
    assert states(board, DAYS[1])["validate"] == "failed"
    after = states(board, DAYS[1])
    assert {after[step] for step in parts.EMBEDDING_STEPS[2:]} == {"skipped"}
    assert "not trusted" in reasons[DAYS[1], "validate"]
    assert "No examples" in reasons[DAYS[1], "examples"]
    assert states(board, DAYS[2])["publish"] == "done"
    assert board.failed() == [(DAYS[1], "validate"), (DAYS[1], "examples")]


@pytest.mark.slow
def test_a_day_without_rows_is_skipped_by_name_and_later_days_go_on(spark, file):
    settings = load_settings(file)
    (file.parent / "edges" / f"{DAYS[1]}.txt").unlink()
    board, reasons = run_days(settings, DAYS[0], DAYS[2])
    assert states(board, DAYS[1])["validate"] == "skipped"
    assert reasons[DAYS[1], "validate"].startswith(f"The log has no rows of {DAYS[1]}.")
    assert states(board, DAYS[2])["consistency"] == "done"
    assert board.failed() == []


def test_the_command_run_reports_why_a_step_did_not_run(spark, file):
    arguments = ["--settings", str(file), "run", "--from", str(DAYS[0]), "--to", str(DAYS[0])]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"{DAYS[0]} examples: " in result.output


def test_the_command_step_computes_missing_inputs_first(spark, file):
    arguments = ["--settings", str(file), "step", "matrix", "--day", str(DAYS[0])]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"matrix/{DAYS[0]} ")
    assert "  consumers_fitted: 23" in result.output
    lake = load_settings(file).lake
    assert [lake.days(step) for step in ("land", "validate", "matrix")] == [[DAYS[0]]] * 3


def test_an_unknown_step_is_answered_with_the_list(file):
    arguments = ["--settings", str(file), "step", "fit", "--day", str(DAYS[0])]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "no step 'fit'" in result.output
    assert "land, validate, drift" in result.output


def test_a_step_without_spark_starts_none(spark, file):
    """The session is created when the first step that needs one runs, and not before."""
    settings = load_settings(file)
    running.execute(settings, "embed", DAYS[0], lambda: spark_session(settings))

    def refuse():
        raise AssertionError("a session was requested")

    assert running.execute(settings, "align", DAYS[0], refuse).step == "align"


def test_what_is_current_is_not_computed_again(spark, file):
    settings: Settings = load_settings(file)
    first = running.ensure(settings, "land", DAYS[0], lambda: spark_session(settings))

    def refuse():
        raise AssertionError("a session was requested")

    again = running.ensure(settings, "land", DAYS[0], refuse)
    assert (again.partition, again.reused) == (first.partition, True)


def test_a_day_outside_the_log_is_named(spark, file):
    settings = load_settings(file)
    with pytest.raises(EvergreenError, match=r"2031-01-01.*2024-03-01 to 2024-03-03"):
        running.execute(settings, "land", date(2031, 1, 1), lambda: spark_session(settings))


def test_a_corrected_day_is_published_by_its_last_step_alone(spark, file):
    """The day is landed again with other rows: publish recomputes everything in between."""
    settings = load_settings(file)

    def execute(step: str):
        return running.execute(settings, step, DAYS[0], lambda: spark_session(settings))

    execute("publish")
    registry = settings.open_registry()
    first = registry.version("producer", DAYS[0])
    write_day(file.parent / "edges", DAYS[0], lines=150)
    published = execute("publish")
    second = registry.version("producer", DAYS[0])
    assert (second.revision, second.digest) == (2, published.facts["digest"])
    assert second.digest != first.digest
    assert settings.lake.get("land", DAYS[0]).facts["rows_engagements"] == 150
    matrix = settings.lake.get("matrix", DAYS[0])
    assert second.lineage["inputs"][matrix.key] == matrix.digest
    assert execute("publish") == published


def test_a_refused_day_that_was_corrected_is_trusted_again(spark, file):
    settings = load_settings(file)
    edges = file.parent / "edges" / f"{DAYS[0]}.txt"
    good = edges.read_text()
    lines = good.splitlines()
    edges.write_text("\n".join(lines + lines[:100]) + "\n")
    with pytest.raises(EvergreenError, match="100 of 300 rows"):
        running.execute(settings, "matrix", DAYS[0], lambda: spark_session(settings))
    edges.write_text(good)
    running.execute(settings, "matrix", DAYS[0], lambda: spark_session(settings))
    assert settings.lake.get("validate", DAYS[0]).facts["rows_engagements"] == len(lines)
