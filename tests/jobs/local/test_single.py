"""The services of a home run once. The other process of these tests is a real one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.local.environment import ROOT
from jobs.local.single import LOCK, sole_runner
from jobs.local.supervisor import ServiceError
from tests.ports import reserve_port

HOLD = """
import sys, time
from pathlib import Path
from jobs.local.single import sole_runner
with sole_runner(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
SETTINGS = """
home = "home"
[source]
kind = "kuairand"
path = "{}"
[services]
"""


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def runner(home):
    """Another process that holds the home's lock."""
    command = [sys.executable, "-c", HOLD, str(home)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_runner_is_told_who_runs_the_services_and_how_to_stop_them(home, runner):
    started = time.monotonic()
    with pytest.raises(ServiceError) as refused, sole_runner(home):
        pass
    assert time.monotonic() - started < 10  # it does not wait for the runner, which goes on for 60
    message = str(refused.value)
    assert f"services of {home} run already" in message
    assert re.search(rf"by process {runner.pid} on 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\+", message)
    assert f"kill {runner.pid}" in message


def test_the_services_can_start_after_the_runner_was_killed(home, runner):
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    with sole_runner(home):
        assert str(os.getpid()) in (home / LOCK).read_text()
    with sole_runner(home):  # and after an ordinary end
        pass


def test_a_program_that_the_runner_started_does_not_keep_the_lock(home):
    """A service that survives its supervisor keeps its port, which is reported by name."""
    with sole_runner(home):
        left = subprocess.Popen(["sleep", "60"])
    try:
        with sole_runner(home):
            assert left.poll() is None  # it still runs, and has not kept the lock
            assert str(os.getpid()) in (home / LOCK).read_text()
    finally:
        left.kill()
        left.wait()


@pytest.mark.parametrize("record", ["", "{", '{"pid": 1}', "[]"])
def test_a_runner_without_a_record_yet_is_reported_too(home, runner, record):
    (home / LOCK).write_text(record)
    with pytest.raises(ServiceError, match="run already. Another process"), sole_runner(home):
        pass


def test_two_homes_run_side_by_side(home, runner, tmp_path):
    with sole_runner(tmp_path / "other"):
        assert str(os.getpid()) in (tmp_path / "other" / LOCK).read_text()
        assert runner.poll() is None


@pytest.mark.parametrize("command", [["up"], ["demo", "--days", "1"]])
def test_both_commands_refuse_before_anything_starts(home, runner, tmp_path, command):
    file = tmp_path / "my.toml"
    text = SETTINGS.format(ROOT / "data" / "kuairand-pure")
    for option in ("airflow_port", "mlflow_port", "registry_port", "spark_port"):
        text += f"{option} = {reserve_port()}\n"
    file.write_text(text)
    arguments = [sys.executable, "-m", "jobs.cli", "--settings", str(file), *command]
    ran = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert f"The services of {home} run already" in ran.stderr
    # No secrets, no logs, no databases; a demo has looked which days the log has.
    assert {path.name for path in home.iterdir()} - {"intake"} == {LOCK}
