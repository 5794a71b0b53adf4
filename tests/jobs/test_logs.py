"""Log lines as JSON: of the formatter, and of a command."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from jobs import logs


@pytest.fixture
def written():
    """A logger whose lines are JSON, and what it has written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    logger = logging.getLogger("jobs.for.a.test")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield logger, lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)


def test_a_line_has_what_is_bound_where_it_is_logged(written):
    logger, lines = written
    with logs.bound(step="land", day="2024-03-01", embedding="", run=""):
        logger.info("%d rows\nof é", 3)
        logs.bind(run="abc")
        logger.warning("more")
    logger.info("after")
    first, second, after = lines()
    assert (first["message"], first["level"], first["run"]) == ("3 rows\nof é", "info", "")
    assert (second["level"], second["run"], second["step"]) == ("warning", "abc", "land")
    assert after.keys() == {"time", "level", "logger", "message"}
    assert after["logger"] == "jobs.for.a.test"
    assert datetime.fromisoformat(after["time"]).utcoffset() == timedelta(0)


def test_a_traceback_is_part_of_its_line(written):
    logger, lines = written
    try:
        raise ValueError("the reason")
    except ValueError:
        logger.exception("it failed")
    (line,) = lines()
    assert line["message"] == "it failed"
    assert line["exception"].endswith("ValueError: the reason")


def test_every_line_of_a_command_is_json(tmp_path):
    """What it says of an error, too; the settings name the format."""
    file = tmp_path / "settings.toml"
    file.write_text(
        f'home = "home"\n[source]\nkind = "edgelist"\npath = "{tmp_path}/missing"\n'
        '[services]\nlog_format = "json"\n'
    )
    command = [sys.executable, "-P", "-m", "jobs.cli", "--settings", str(file), "status"]
    result = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert result.returncode == 1
    (line,) = map(json.loads, result.stderr.splitlines())
    assert (line["level"], line["logger"]) == ("error", "jobs.cli")
    assert "missing" in line["message"]
