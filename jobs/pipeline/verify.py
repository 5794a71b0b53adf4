"""Is everything that was committed still there, to the last byte? If not, it is made again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

from rich.progress import track

from jobs.errors import EvergreenError, Skip, UntrustedDay
from jobs.lake.integrity import damage, seen_file
from jobs.lake.store import Partition
from jobs.parts import ALL_STEPS
from jobs.pipeline.garbage import partitions
from jobs.pipeline.running import ensure, execute
from jobs.settings import Settings
from jobs.spark.session import spark_session

PUBLISHING = ("publish", "words_publish")  # the steps that make files of the registry again


@dataclass(frozen=True)
class Damaged:
    """What is damaged, how, and the step that makes it again: of which embedding, "" the first."""

    name: str
    faults: list[str]
    step: str
    day: date
    embedding: str = ""

    def __str__(self) -> str:
        return f"{self.name} is damaged: {', '.join(self.faults)}"


def verify(settings: Settings) -> list[Damaged]:
    """Read every file of every partition and version; shows progress."""
    damaged = []
    for partition in track(list(partitions(settings)), "lake", transient=True):
        if faults := damage(partition, thorough=True):
            # Else its unchanged size and times would vouch for it at its next use.
            seen_file(partition.folder).unlink(missing_ok=True)
            damaged.append(damaged_partition(partition, faults))
    with settings.open_registry() as registry:
        n_versions = sum(len(registry.versions(name)) for name in registry.names())
        checks = track(registry.verify_all(), "registry", total=n_versions, transient=True)
        for version_id, faults in checks:
            if faults:
                damaged.append(damaged_version(settings, version_id, faults))
    return damaged


def verify_some(settings: Settings) -> tuple[int, list[Damaged]]:
    """Read the versions that were not read for longest, as many as the settings have for a day.

    Returns how many, and what is damaged. What is found is recorded in the registry.
    """
    most_bytes = int(settings.registry.verify_gb * 1e9)
    damaged = []
    verified = 0
    with settings.open_registry() as registry:
        for version_id, faults in registry.verify_next(most_bytes) if most_bytes else ():
            verified += 1
            if faults:
                damaged.append(damaged_version(settings, version_id, faults))
    return verified, damaged


def damaged_version(settings: Settings, version_id: str, faults: list[str]) -> Damaged:
    """version_id: NAME/DAY.rREVISION."""
    name, _, reference = version_id.rpartition("/")
    day = date.fromisoformat(reference.partition(".")[0])
    if settings.words is not None and name == settings.words.name:
        return Damaged(version_id, faults, "words_publish", day)
    further = name if name in settings.further else ""
    return Damaged(version_id, faults, "publish", day, further)


def damaged_partition(partition: Partition, faults: list[str]) -> Damaged:
    """What `verify` says of it. Its folder names the embedding, unless that is the first one."""
    folder = partition.home.parent.name
    name = f"{folder}/{partition.day}"
    return Damaged(name, faults, partition.step, partition.day, folder.partition("@")[2])


def repair(settings: Settings, damaged: list[Damaged]) -> list[Damaged]:
    """Compute again what is damaged, inputs first; returns what could not be repaired."""
    in_order = sorted(damaged, key=lambda fault: (fault.day, order(fault.step)))
    failed = []
    for fault in in_order:
        # In a bucket, the tags of the manifest would vouch for bytes that have rotten.
        again = fault.step in PUBLISHING or settings.storage.url
        run = execute if again else ensure
        # The rows that validation has put aside are written with its verdict.
        step = "validate" if fault.step == "quarantine" else fault.step
        try:
            of_embedding = settings.of_embedding(fault.embedding)
            run(of_embedding, step, fault.day, lambda: spark_session(settings))
        except (EvergreenError, Skip) as error:
            if isinstance(error, UntrustedDay) and step == "validate":
                continue  # its refusal is what it commits
            failed.append(replace(fault, faults=[str(error)]))
    return failed


def order(step: str) -> int:
    return ALL_STEPS.index(step) if step in ALL_STEPS else 0
