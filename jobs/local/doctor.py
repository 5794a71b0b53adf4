"""`evergreen doctor`: can this machine run Evergreen? Each finding with its remedy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.local.services import ROOT, services
from jobs.local.supervisor import taken_ports
from jobs.settings import Settings
from jobs.sources import open_source

JAVA = 17  # the oldest that Spark 4 runs on
PYTHON = (3, 11)
MEMORY_GB = 8.0  # what all processes of the demo take at most
DISK_GB = 2.0
MARKS = {"good": "[green]✓[/]", "missing": "[bold red]✗[/]", "note": "[yellow]![/]"}


@dataclass(frozen=True)
class Finding:
    """state: "good"; "missing", it will not run; "note", it will run, but."""

    what: str
    found: str
    state: str = "good"
    remedy: str = ""

    @property
    def missing(self) -> bool:
        return self.state == "missing"


def examine(settings: Settings) -> list[Finding]:
    """Everything that the services and steps need of this machine."""
    return [
        python(),
        java(),
        packages(ROOT / "infra" / "constraints.txt"),
        memory(),
        disk(settings.home),
        gpu(),
        log(settings),
        *ports(settings),
    ]


def show(findings: list[Finding]) -> None:
    table = Table("", "what", "found", "remedy", header_style="bold", box=None)
    for finding in findings:
        table.add_row(
            MARKS[finding.state], *map(escape, (finding.what, finding.found, finding.remedy))
        )
    Console().print(table)


def python() -> Finding:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    if sys.version_info[:2] == PYTHON:
        return Finding("Python", found)
    return Finding(
        "Python",
        found,
        "missing",
        "Install Python 3.11 and make again: rm -r .venv, then make PYTHON=python3.11 install",
    )


def java() -> Finding:
    """The Java that Spark would start: of JAVA_HOME, else the one on the path."""
    home = os.environ.get("JAVA_HOME")
    command = str(Path(home) / "bin" / "java") if home else "java"
    remedy = f"Install Java {JAVA} or newer (Debian: apt-get install openjdk-17-jre-headless), or set JAVA_HOME to one."
    try:
        told = subprocess.run(
            [command, "-version"], capture_output=True, text=True, timeout=30
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        return Finding("Java", f"{command} does not run", "missing", remedy)
    major = java_major(told)
    if major is None:
        return Finding("Java", f"no version in: {told.strip()[:60]!r}", "missing", remedy)
    return (
        Finding("Java", str(major))
        if major >= JAVA
        else Finding("Java", str(major), "missing", remedy)
    )


def java_major(told: str) -> int | None:
    """The major version in what `java -version` prints: 17 in "17.0.15", 8 in "1.8.0_392"."""
    match = re.search(r'version "(?:1\.)?(\d+)', told)
    return int(match.group(1)) if match else None


def packages(constraints: Path) -> Finding:
    """Are the installed packages those of the pinned set?"""
    others = list(unlike(constraints))
    if not others:
        return Finding("packages", "as pinned")
    remedy = "rm .venv/.installed && make install, for the set that was tested"
    return Finding(
        "packages", f"{len(others)} unlike the pinned set: {', '.join(others[:4])}", "note", remedy
    )


def unlike(constraints: Path) -> Iterator[str]:
    """Each pinned package that is installed in another version, or not at all."""
    for line in constraints.read_text().splitlines():
        if line.startswith("#") or "==" not in line:
            continue
        name, pinned = line.split("==")
        try:
            found = version(name).split("+")[0]
        except PackageNotFoundError:
            found = "not installed"
        if found != pinned:
            yield f"{name} {found} (pinned {pinned})"


def memory() -> Finding:
    free_gb = psutil.virtual_memory().available / 2**30
    if free_gb >= MEMORY_GB:
        return Finding("memory", f"{free_gb:.0f} GiB available")
    remedy = (
        f"The demo takes up to {MEMORY_GB:.0f} GiB: close something, or lower spark.driver_memory."
    )
    return Finding("memory", f"{free_gb:.1f} GiB available", "note", remedy)


def disk(home: Path) -> Finding:
    there = next(folder for folder in [home, *home.parents] if folder.exists())
    free_gb = shutil.disk_usage(there).free / 2**30
    if free_gb >= DISK_GB:
        return Finding("disk", f"{free_gb:.0f} GiB free below {home}")
    remedy = f"Free {DISK_GB:.0f} GiB there, or set EVERGREEN_HOME to a larger disk."
    return Finding("disk", f"{free_gb:.1f} GiB free below {home}", "missing", remedy)


def gpu() -> Finding:
    """The GPU that torch would use; asked of the driver, since importing torch takes seconds."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return Finding("GPU", "none; the ranker trains on the CPU")
    asked = [tool, "--query-gpu=name", "--format=csv,noheader"]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=30)
    if told.returncode != 0:
        return Finding(
            "GPU",
            "the driver does not answer; the ranker trains on the CPU",
            "note",
            "Run nvidia-smi to see why.",
        )
    return Finding("GPU", ", ".join(told.stdout.split("\n")).strip(", "))


def log(settings: Settings) -> Finding:
    """The log that the settings point at, and the days it spans."""
    path = settings.source.path
    if "*" not in str(path) and not path.exists():
        return Finding(
            "log", f"nothing at {path}", "missing", "Correct source.path in the settings file."
        )
    first, last = open_source(settings).span()
    return Finding("log", f"{settings.source.kind}, {first} to {last}")


def ports(settings: Settings) -> Iterator[Finding]:
    """The ports of the services: free, or by whom they are taken."""
    wanted = services(settings)
    taken = taken_ports(wanted)
    if not taken:
        yield Finding(
            "ports", "free: " + ", ".join(f"{s.port} ({s.name})" for s in wanted if s.port)
        )
    for sentence in taken:
        found, remedy = sentence.split(". ", 1)
        yield Finding("ports", found, "missing", remedy)
