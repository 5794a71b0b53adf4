"""What nothing needs any more, and how it is deleted.

Kept are the newest days of every step, the partitions that these were computed from, the champion's
model, the versions that an alias or a kept partition names, and registered models with an alias.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from embeddings.durable import locked
from embeddings.registry.client import Version
from embeddings.registry.versions import removable
from jobs.errors import EvergreenError
from jobs.lake.store import Partition
from jobs.parts import ALL_STEPS, LANDING, LEARNING_STEPS
from jobs.pipeline.freshness import pair
from jobs.pipeline.plan import beside
from jobs.pipeline.tracking.garbage import old_runs, purge
from jobs.pipeline.tracking.runs import Tracker
from jobs.settings import Settings
from jobs.sources import open_source
from jobs.sources.base import Source
from jobs.sources.file_log import FileLog

REMOVALS = "removals.lock"  # below home: held while something is deleted, and by a backup
KEPT_SINCE = "_kept_since"  # in the lake: the first day that has not been deleted
ORPHAN_AGE_S = 24 * 3600.0  # a publisher records its files long before


@dataclass(frozen=True)
class Garbage:
    """cutoff: the first day that is kept. lost: days whose rows the log does not have any more."""

    cutoff: date
    partitions: list[Partition]
    versions: list[Version]
    folders: list[Path]
    runs: list[str]
    lost: list[date]

    def __bool__(self) -> bool:
        return bool(self.partitions or self.versions or self.folders or self.runs)


def find(settings: Settings, keep: int) -> Garbage:
    """What may go if the newest `keep` days stay. Raises EvergreenError for an empty lake."""
    landed = settings.lake.days(LANDING)
    if not landed:
        raise EvergreenError(f"{settings.lake.root} has no day yet: there is nothing to delete.")
    cutoff = landed[-1] - timedelta(days=keep - 1)
    needed = needed_homes(settings, cutoff)
    old = [partition for partition in partitions(settings) if partition.day < cutoff]
    source = open_source(settings)
    tracker = Tracker(settings)
    return Garbage(
        cutoff=cutoff,
        partitions=[partition for partition in old if partition.home not in needed],
        versions=old_versions(settings, keep, needed),
        folders=[*old_reports(settings, cutoff), *old_logs(settings, keep), *unread(source)],
        runs=old_runs(tracker, cutoff) if tracker.enabled else [],
        lost=[day for day in landed if day < cutoff and not source.files(day)],
    )


def partitions(settings: Settings) -> Iterator[Partition]:
    """Every committed partition of every embedding."""
    for each in settings.of_each_embedding():
        for partition in partitions_of(each):
            if each.is_first or partition.step in LEARNING_STEPS:
                yield partition


def partitions_of(settings: Settings) -> Iterator[Partition]:
    """Those that one embedding has or shares with others."""
    lake = settings.looking().lake
    for step in lake.steps():
        for day in lake.days(step):
            found = lake.find(step, day)
            if found is not None:
                yield found


def needed_homes(settings: Settings, cutoff: date) -> set[Path]:
    """The folders of partitions that days from `cutoff` on are, or were computed from."""
    needed = set()
    for each in settings.of_each_embedding():
        for partition in partitions_of(each):
            if partition.day >= cutoff:
                needed |= {each.lake.home(*pair(key)) for key in needed_keys(partition)}
    return needed


def needed_keys(partition: Partition) -> set[str]:
    """The keys of a partition that is kept, and of those that it was computed from."""
    needed = {partition.key, *partition.inputs}
    for key in partition.inputs:
        step, _, day = key.partition("/")
        needed |= {f"{name}/{day}" for name in beside(step)}
    if champion := partition.facts.get("champion_after"):
        needed.add(f"train/{champion}")
    return needed


def old_versions(settings: Settings, keep: int, needed: set[Path]) -> list[Version]:
    """The versions that no alias, no kept day and no kept partition needs."""
    used = versions_used(settings, needed)
    found = []
    with settings.open_registry() as registry:
        for name in registry.names():
            versions = registry.versions(name)
            # Partitions name a version by its content, as in author/2022-04-25@0123456789ab.
            ids = {version.id for version in versions if names_it(used, version)}
            found += removable(versions, registry.aliases(name), keep, ids)
    return found


def versions_used(settings: Settings, needed: set[Path]) -> set[str]:
    """The versions that the needed partitions point into, by their contents."""
    used = set()
    for partition in partitions(settings):
        if partition.home in needed:
            used |= {partition.facts.get("version", ""), partition.facts.get("embedding", "")}
    return used - {""}


def names_it(used: set[str], version: Version) -> bool:
    for content_id in used:
        name_and_day, _, digest = content_id.partition("@")
        if name_and_day == f"{version.name}/{version.day}" and version.digest.startswith(digest):
            return True
    return False


def old_reports(settings: Settings, cutoff: date) -> list[Path]:
    """The folders of reports on days before the cutoff."""
    folders = []
    for step in sorted(folders_of_steps(settings)):
        for folder in sorted((settings.home / "reports" / step).glob("day=*")):
            if date.fromisoformat(folder.name.removeprefix("day=")) < cutoff:
                folders.append(folder)
    return folders


def folders_of_steps(settings: Settings) -> set[str]:
    """The names of the folders in which the steps of all embeddings leave something."""
    steps = (*ALL_STEPS, "quarantine")
    return {each.lake.folder(step) for each in settings.of_each_embedding() for step in steps}


def old_logs(settings: Settings, keep: int) -> list[Path]:
    """The logs of Airflow runs whose last task ended more than `keep` days ago."""
    oldest = datetime.now().timestamp() - timedelta(days=keep).total_seconds()
    folders = []
    for folder in sorted((settings.home / "logs" / "tasks").glob("dag_id=*/run_id=*")):
        if folder.stat().st_mtime < oldest:
            folders.append(folder)
    return folders


def unread(source: Source) -> list[Path]:
    """What was read of files that have left the log, or have changed since."""
    return source.unused() if isinstance(source, FileLog) else []


def delete(settings: Settings, garbage: Garbage) -> None:
    """Delete it; waits for a backup. A kill leaves nothing broken: the next call finds the rest."""
    with locked(settings.home / REMOVALS):
        delete_now(settings, garbage)


def delete_now(settings: Settings, garbage: Garbage) -> None:
    # Never back: what an earlier call has deleted does not return when more days are to be kept.
    first = max(garbage.cutoff, kept_since(settings) or date.min)
    lake = settings.lake
    lake.place.write(lake.root / KEPT_SINCE, str(first).encode())
    for partition in garbage.partitions:
        lake.remove(partition)
    with settings.open_registry() as registry:
        for version in garbage.versions:
            registry.remove(version)
        registry.sweep_orphans(ORPHAN_AGE_S)
    for folder in garbage.folders:
        shutil.rmtree(folder, ignore_errors=True)
    if garbage.runs:
        purge(Tracker(settings), garbage.runs)


def kept_since(settings: Settings) -> date | None:
    """The first day that `delete` has kept; None where nothing was deleted."""
    lake = settings.lake
    try:
        text, _ = lake.place.read(lake.root / KEPT_SINCE)
    except FileNotFoundError:
        return None
    return date.fromisoformat(text.decode())


def lines(garbage: Garbage) -> Iterator[str]:
    """The garbage for a terminal, a line per kind."""
    size = sum(each.place.size_bytes(each.folder) for each in garbage.partitions)
    size += sum(each.place.size_bytes(each.folder) for each in garbage.versions)
    size += sum(size_of(folder) for folder in garbage.folders)
    yield f"Kept: {garbage.cutoff} and later, and what these days were computed from."
    yield f"  {len(garbage.partitions):>6} partitions of the lake"
    yield f"  {len(garbage.versions):>6} versions of the registry without an alias"
    yield f"  {len(garbage.folders):>6} folders of reports and of task logs"
    yield f"  {len(garbage.runs):>6} MLflow runs without a registered model that is kept"
    yield f"To delete: {size / 1e6:,.1f} MB without the artifacts of the runs."
    if garbage.lost:
        yield (
            f"{len(garbage.lost)} of these days cannot be landed again, because their files have "
            f"left the log: {garbage.lost[0]} to {garbage.lost[-1]}."
        )


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
