"""How many CPUs a process may use: of its affinity, its cgroups, and as Java counts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import machine
from jobs.machine import cgroup_cpus, usable_cpus


@pytest.mark.parametrize(
    ("membership", "files", "cpus"),
    [
        ("0::/", {}, None),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1.0),
        ("0::/a/b", {"a/cpu.max": "800000 100000", "a/b/cpu.max": "300000 100000"}, 3.0),
        ("0::/../of/the/host", {"cpu.max": "200000 100000"}, 2.0),
        ("0::/of/the/host", {"cpu.max": "200000 100000"}, 2.0),
        ("4:memory:/m\n1:cpu:/c\n0::/", {"cpu/c/cpu.cfs_quota_us": "250000"}, 2.5),
        ("3:cpu,cpuacct:/c", {"cpu,cpuacct/c/cpu.cfs_quota_us": "250000"}, 2.5),
        ("3:cpu,cpuacct:/docker/id", {"cpu/cpu.cfs_quota_us": "50000"}, 0.5),
        ("1:cpu:/c", {"cpu/c/cpu.cfs_quota_us": "-1"}, None),
        ("2:cpuset:/c", {"cpuset/c/cpu.cfs_quota_us": "250000"}, None),
        ("1:cpu:/\n0::/u", {"unified/u/cpu.max": "400000 100000"}, 4.0),
    ],
)
def test_the_smallest_quota_of_a_cgroup_and_its_parents_counts(tmp_path, membership, files, cpus):
    own = tmp_path / "cgroup"
    own.write_text(membership + "\n")
    root = tmp_path / "mount"
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if name.endswith("quota_us"):
            file.with_name("cpu.cfs_period_us").write_text("100000")
    assert cgroup_cpus(own, root) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [(0.25, 1), (1.0, 1), (1.2, 2), (1000.0, None)])
def test_a_part_of_a_cpu_counts_as_one_and_no_quota_adds_cpus(monkeypatch, quota, cpus):
    monkeypatch.setattr(machine, "cgroup_cpus", lambda *_: quota)
    allowed = len(os.sched_getaffinity(0))
    assert usable_cpus() == min(cpus or allowed, allowed)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has it")
def test_a_process_bound_to_one_cpu_gets_defaults_that_fit_java():
    """`local[*]` has as many cores as Java counts; the default of spark.members fits them."""
    code = (
        "import os, subprocess; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from jobs.settings import SparkSettings; from jobs.machine import usable_cpus;"
        "print(usable_cpus(), SparkSettings().members)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["1", "1"]


def test_java_counts_the_same_cpus():
    """The parallel collector starts one thread per CPU, up to eight."""
    cpus = usable_cpus()
    if cpus > 8:
        pytest.skip("Java starts fewer threads than CPUs from nine on")
    command = ["java", "-XX:+UseParallelGC", "-XX:+PrintFlagsFinal", "-version"]
    for bound in ([], ["taskset", "-c", str(min(os.sched_getaffinity(0)))]):
        ran = subprocess.run([*bound, *command], capture_output=True, text=True, check=True)
        threads = re.search(r" ParallelGCThreads\s+= (\d+)", ran.stdout)
        assert threads
        assert int(threads[1]) == (1 if bound else cpus)


def test_no_code_asks_how_many_cpus_the_host_has():
    """Of a container's host, it would use all."""
    root = Path(__file__).parents[2]
    asking = []
    for folder in ("dags", "embeddings", "infra", "jobs", "models", "perf"):
        for file in (root / folder).rglob("*.py"):
            if "cpu_count" in file.read_text() and file.name != "machine.py":
                asking.append(file)
    assert asking == []
