"""How much of this machine a process may use.

A container or a batch system often grants a few cores of a large host. Java counts those it may
use, and so must we: a step that asks Spark for more tasks at once than it has cores fails.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """The CPUs that this process may use, at least 1: of its affinity and its cgroups' quota."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has it
        allowed = os.cpu_count() or 1
    quota = cgroup_cpus(MEMBERSHIP, CGROUPS)
    # Rounded up, as Java does: half a CPU is one that is often idle.
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cgroup_cpus(membership: Path, root: Path) -> float | None:
    """The smallest CPU quota of the process's cgroups and their parents; None without any.

    membership: its cgroups, one per line as `number:controllers:path`, as /proc/self/cgroup lists
    them. root: where the cgroups are mounted; version 1 has one folder per controller.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2; beside version 1 it is mounted as "unified"
            mounts = [root, root / "unified"]
        elif "cpu" in controllers.split(","):
            mounts = [root / controllers, root / "cpu"]
        else:
            continue
        for mount in mounts:
            for folder in folder_and_parents(mount, path):
                quotas += quota_of(folder)
    return min(quotas, default=None)


def folder_and_parents(mount: Path, path: str) -> Iterator[Path]:
    """The folders of a cgroup and its parents, up to the mount: each may limit it.

    In a container the path may be the host's, of which only the mount itself is visible.
    """
    relative = PurePosixPath(path.lstrip("/"))
    if ".." in relative.parts:  # above what a cgroup namespace shows
        relative = PurePosixPath()
    for part in [relative, *relative.parents]:
        yield mount / part


def quota_of(folder: Path) -> list[float]:
    """The quota of one cgroup in CPUs, if it has one."""
    # A file is missing where the kernel has the other version, or no limit is supported.
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()  # version 2: "max" is no limit
        return [] if quota == "max" else [int(quota) / int(period)]
    with suppress(OSError, ValueError):
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())  # version 1: -1 is no limit
        period_us = int((folder / "cpu.cfs_period_us").read_text())
        return [quota_us / period_us] if quota_us > 0 and period_us > 0 else []
    return []
