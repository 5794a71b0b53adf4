"""The images: linted, what they contain, and how a container starts."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from manifests import DOCKERFILE, ROOT

from jobs.spark.executor import ARGUMENTS, BACKEND, command

IMAGES = ROOT / "infra" / "images"


def hadolint(file: Path) -> subprocess.CompletedProcess:
    program = Path(sys.executable).parent / "hadolint"
    line = [program, "--no-color", "--config", ROOT / ".hadolint.yaml", file]
    return subprocess.run(line, capture_output=True, text=True)


def test_the_linter_finds_nothing():
    found = hadolint(DOCKERFILE)
    assert (found.returncode, found.stdout) == (0, "")


def test_the_linter_would_find_something(tmp_path):
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(DOCKERFILE.read_text().replace("--no-cache-dir", ""))
    assert "DL3042" in hadolint(wrong).stdout


def test_no_stage_that_is_kept_runs_as_root():
    stages = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)[1:]
    kept = [stage for stage in stages if "ENTRYPOINT" in stage]
    assert [re.findall(r"^USER (\S+)", stage, re.MULTILINE) for stage in kept] == [["10001"]] * 2


def test_torch_is_of_the_version_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (torch,) = [name for name in project["dependencies"] if name.startswith("torch==")]
    assert f" {torch}\n" in DOCKERFILE.read_text()


def test_the_context_has_what_the_packages_need():
    """Every package of the wheel, and what `jobs.local` reads outside of them."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    included = {line[1:] for line in ignored if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.rstrip("*") for name in packages} <= included
    assert {"infra", "evergreen.toml", "pyproject.toml", "README.md"} <= included
    assert ignored[1] == "*"


def started(folder: Path, *line: str) -> subprocess.CompletedProcess:
    env = {"PATH": "/usr/bin:/bin", "SECRETS_DIR": str(folder)}
    entrypoint = IMAGES / "entrypoint.sh"
    return subprocess.run(["sh", entrypoint, *line], env=env, capture_output=True, text=True)


def test_a_secret_is_a_variable_of_the_service_alone(tmp_path):
    """Also with blanks, quotes and signs that a shell would read; folders are no secrets."""
    (tmp_path / "PGPASSWORD").write_text("it's $HOME *\n")
    (tmp_path / "kubernetes.io").mkdir()
    ran = started(tmp_path, "sh", "-c", 'printf %s "$PGPASSWORD"')
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "it's $HOME *", "")


def test_a_container_without_secrets_starts_and_ends_as_its_program(tmp_path):
    assert started(tmp_path / "none", "sh", "-c", "exit 7").returncode == 7


EXECUTOR = dict.fromkeys(ARGUMENTS.values(), "x") | {
    "SPARK_EXECUTOR_MEMORY": "1024m",
    "SPARK_JAVA_OPT_10": "-Dlast",
    "SPARK_JAVA_OPT_2": "-Dfirst",
    "JAVA_HOME": "/java",
}


def test_an_executor_is_started_as_its_driver_has_described():
    line = command(EXECUTOR | {"SPARK_EXECUTOR_ID": "3"}, Path("/spark"))
    assert line[:5] == ["/java/bin/java", "-Dfirst", "-Dlast", "-Xms1024m", "-Xmx1024m"]
    assert line[5:8] == ["-cp", "/spark/conf:/spark/jars/*", BACKEND]
    assert line[line.index("--executor-id") + 1] == "3"


def test_no_executor_starts_without_a_driver():
    with pytest.raises(KeyError, match="SPARK_EXECUTOR_MEMORY"):
        command({}, Path("/spark"))
