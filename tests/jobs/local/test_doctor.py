"""The findings of the doctor, good and bad."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from jobs.cli import app
from jobs.local import doctor
from jobs.local.environment import ROOT
from jobs.local.services import External
from jobs.local.supervisor import is_open
from jobs.settings import MLflowSettings, ServiceSettings, Settings, SparkSettings
from jobs.sources.edgelist import EdgelistSettings
from tests.ports import reserve_port


@pytest.mark.parametrize(
    ("output", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "21" 2023', 21),
        ("?", None),
    ],
)
def test_the_java_version_is_read_in_its_old_and_new_spelling(output, major):
    assert doctor.java_major(output) == major


def test_a_missing_java_is_reported_with_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    finding = doctor.java()
    assert finding.missing
    assert "apt-get install" in finding.remedy


def test_a_java_that_is_too_old_is_missing(monkeypatch, tmp_path):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    finding = doctor.java()
    assert (finding.found, finding.missing) == ("11", True)


@pytest.mark.parametrize(
    ("master", "members", "state"),
    [
        ("local[1]", 2, "missing"),
        ("local[2]", 2, "good"),
        ("local", 2, "missing"),
        ("local[*]", 1000, "missing"),
        ("spark://cluster:7077", 1000, "good"),
    ],
)
def test_more_members_than_cores_are_reported_before_a_day_fails(master, members, state):
    finding = doctor.spark_cores(SparkSettings(master=master, members=members))
    assert finding.state == state
    if state == "missing":
        assert "spark.members" in finding.remedy


def test_packages_that_differ_from_the_pinned_set_are_named(tmp_path, monkeypatch):
    """A local build satisfies its pin, and a line for another platform does not apply."""
    installed = {"rich": "15.0.0", "torch": "2.13.0+cpu", "numpy": "2.4.0"}

    def version(name: str) -> str:
        if name not in installed:
            raise doctor.PackageNotFoundError
        return installed[name]

    monkeypatch.setattr(doctor, "version", version)
    file = tmp_path / "constraints.txt"
    file.write_text(
        "# pinned\n"
        "rich==14.0.0\n"
        "torch==2.13.0\n"
        "numpy==2.4\n"
        "no-such-package==1.0\n"
        'pywin32==300; sys_platform == "win32"\n'
    )
    assert list(doctor.differing(file)) == [
        "rich 15.0.0 (pinned ==14.0.0)",
        "no-such-package is not installed (pinned ==1.0)",
    ]
    finding = doctor.packages(file)
    assert finding.state == "warning"
    assert finding.found.startswith("2 differ from the pinned set: rich 15.0.0")


def test_the_pinned_set_names_no_host_and_no_path():
    lines = (ROOT / "infra" / "constraints.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if not line.startswith("#")]
    assert len(pinned) > 100
    for requirement in pinned:
        assert requirement.url is None
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement


def test_a_taken_port_is_a_finding_with_the_setting_that_changes_it(settings):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        taken = settings.model_copy(update={"services": ServiceSettings(mlflow_port=port)})
        (finding,) = [f for f in doctor.ports(taken) if str(port) in f.found]
    assert finding.missing
    assert "EVERGREEN_SERVICES__MLFLOW_PORT" in finding.remedy


def test_every_finding_that_is_not_good_has_a_remedy(settings, monkeypatch):
    monkeypatch.setattr(doctor, "MEMORY_GB", 1e6)
    monkeypatch.setattr(doctor, "DISK_GB", 1e6)
    monkeypatch.setattr(doctor, "PYTHON", (3, 99))
    bad = [finding for finding in doctor.examine(settings) if finding.state != "good"]
    assert {"memory", "disk", "Python"} <= {finding.subject for finding in bad}
    assert all(finding.remedy for finding in bad)


def test_servers_of_the_user_are_checked_instead_of_ours(settings, monkeypatch):
    """Neither their ports nor a Java is needed here; a server that does not respond is named."""
    spark = f"sc://127.0.0.1:{reserve_port()}/;token=secret"
    mlflow = f"http://user:secret@127.0.0.1:{reserve_port()}"
    placed = settings.model_copy(
        update={"spark": SparkSettings(remote=spark), "mlflow": MLflowSettings(uri=mlflow)}
    )
    findings = {finding.subject: finding for finding in doctor.examine(placed)}
    assert "Java" not in findings
    assert "(spark)" not in findings["ports"].found
    assert "(mlflow)" not in findings["ports"].found
    for name, option in (("spark", "spark.remote"), ("mlflow", "mlflow.uri")):
        assert findings[name].missing
        assert option in findings[name].remedy
        assert "secret" not in findings[name].found


def test_a_server_that_responds_is_good():
    """Any HTTP response counts, and for Spark Connect an open port."""
    port = reserve_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    mlflow = External("mlflow", f"http://127.0.0.1:{port}/no-such-page", "mlflow.uri")
    spark = External("spark", f"sc://127.0.0.1:{port}", "spark.remote")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            while not is_open(port):
                assert server.poll() is None
            assert doctor.external_service(mlflow).state == "good"
            assert doctor.external_service(spark).state == "good"
        finally:
            server.kill()


@pytest.mark.parametrize("address", ["local[2]", "sc://", "sc://127.0.0.1:port"])
def test_an_address_that_is_not_one_of_spark_connect_does_not_respond(address):
    assert not doctor.connect_responds(address)


def test_tracking_that_is_off_is_good():
    finding = doctor.external_service(External("mlflow", "off", "mlflow.uri"))
    assert (finding.state, finding.found) == ("good", "off (mlflow.uri)")


def test_the_command_exits_with_1_when_something_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "Java" in result.output


def test_an_error_of_ours_is_printed_without_a_traceback(monkeypatch, tmp_path):
    # --settings sets this variable; set here, it is restored after the test.
    monkeypatch.setenv("EVERGREEN_SETTINGS", "")
    result = CliRunner().invoke(app, ["--settings", str(tmp_path / "none.toml"), "doctor"])
    assert result.exit_code == 1
    assert "No settings file at" in result.output
    assert "Traceback" not in result.output


def test_help_and_doctor_import_no_slow_package():
    slow = {"torch", "pyspark", "mlflow", "airflow", "great_expectations"}
    code = f"import sys, jobs.cli, jobs.local.doctor; print({slow!r} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_brackets_in_a_remedy_are_shown(capsys):
    """'[services]' is a section of the settings, not a style."""
    doctor.show([doctor.Finding("ports", "taken", "missing", "airflow_port under [services]")])
    assert "airflow_port under [services]" in capsys.readouterr().out


def test_a_file_of_the_log_that_cannot_be_read_is_named_with_what_to_do(tmp_path):
    (tmp_path / "good.txt").write_text("1 2 1709251200\n")
    (tmp_path / "bad.txt").write_bytes(b"PAR1 damaged")
    source = EdgelistSettings(kind="edgelist", path=tmp_path)
    finding = doctor.source_log(Settings(home=tmp_path / "home", source=source))
    assert finding.found == "edgelist, 2024-03-01 to 2024-03-01; 1 of 2 files cannot be read"
    assert "bad.txt" in finding.remedy
