"""Each finding of the doctor, good and bad."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.local import doctor
from jobs.local.services import ROOT
from jobs.settings import ServiceSettings


@pytest.mark.parametrize(
    ("told", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "21" 2023', 21),
        ("?", None),
    ],
)
def test_the_java_version_is_read_in_its_old_and_new_spelling(told, major):
    assert doctor.java_major(told) == major


def test_a_missing_java_is_told_with_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    finding = doctor.java()
    assert finding.missing
    assert "apt-get install" in finding.remedy


def test_a_java_that_is_too_old_is_told(monkeypatch, tmp_path):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert (doctor.java().found, doctor.java().missing) == ("11", True)


def test_a_package_unlike_the_pinned_set_is_named(tmp_path):
    file = tmp_path / "constraints.txt"
    file.write_text("# pinned\nrich==0.0.1\nno-such-package==1.0\n")
    named = list(doctor.unlike(file))
    assert named[0].startswith("rich ")
    assert named[1] == "no-such-package not installed (pinned 1.0)"


def test_the_pinned_set_names_no_host_and_no_path():
    lines = (ROOT / "infra" / "constraints.txt").read_text().splitlines()
    assert all(
        "==" in line and "/" not in line and "@" not in line
        for line in lines
        if not line.startswith("#")
    )


def test_a_taken_port_is_a_finding_with_the_setting_that_changes_it(settings):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        taken = settings.model_copy(update={"services": ServiceSettings(mlflow_port=port)})
        (finding,) = [f for f in doctor.ports(taken) if str(port) in f.found]
    assert finding.missing
    assert "EVERGREEN_SERVICES__MLFLOW_PORT" in finding.remedy


def test_whatever_is_not_good_has_a_remedy(settings, monkeypatch):
    monkeypatch.setattr(doctor, "MEMORY_GB", 1e6)
    monkeypatch.setattr(doctor, "DISK_GB", 1e6)
    monkeypatch.setattr(doctor, "PYTHON", (3, 99))
    bad = [f for f in doctor.examine(settings) if f.state != "good"]
    assert {"memory", "disk", "Python"} <= {f.what for f in bad}
    assert all(f.remedy for f in bad)


def test_the_command_ends_with_1_when_something_needed_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "Java" in result.output


def test_an_error_of_ours_is_one_paragraph(monkeypatch, tmp_path):
    monkeypatch.setenv(
        "EVERGREEN_SETTINGS", ""
    )  # what --settings sets is taken back after the test
    result = CliRunner().invoke(app, ["--settings", str(tmp_path / "none.toml"), "doctor"])
    assert result.exit_code == 1
    assert "No settings file at" in result.output
    assert "Traceback" not in result.output


def test_help_needs_no_heavy_import():
    """`evergreen --help` and `evergreen doctor` answer at once."""
    code = "import sys, jobs.cli, jobs.local.doctor; print({'torch', 'pyspark', 'mlflow', 'airflow'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"


def test_a_remedy_with_brackets_is_shown_whole(capsys):
    """'[services]' is a section of the settings, not a style."""
    doctor.show([doctor.Finding("ports", "taken", "missing", "airflow_port under [services]")])
    assert "airflow_port under [services]" in capsys.readouterr().out
