"""A backup of a home at one moment, while its services and runs go on; and a home restored from it.

    FOLDER/backup.json             when it was made, and of which kind each database is
    FOLDER/databases/registry.db   a copy of the SQLite file, or registry.dump of pg_dump
    FOLDER/home/...                lake, published versions, artifacts, reports, secrets
    FOLDER/settings.toml           the settings file, to read: `restore` takes the current settings

What refers to something else is read before it. First the manifests of the lake, all at one moment;
then the registry's catalog, which has every version that a manifest names, because a version is
recorded before the partition that names it is committed; then MLflow's runs, which the lineage of a
version names, and the other databases; then the files, which were written before and never change.
Nothing may be deleted meanwhile: `evergreen gc`, and whoever removes a version, wait.

Not in it: `intake`, which is read from the log again, `logs`, `attempts`, and of a bucket its local
copies (`copy`) and a server of our own (`store`).
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from embeddings.durable import locked, signature, sync_tree
from embeddings.registry.files import content_folders
from embeddings.storage.objects import StoreError
from jobs.errors import DamagedPartition, EvergreenError
from jobs.lake.manifest import MANIFEST, parsed_manifest
from jobs.local.databases import own_databases
from jobs.local.dumps import dump, kind_of, require_empty, sqlite_file, undump
from jobs.local.services import database_server
from jobs.local.single import sole_runner
from jobs.pipeline.garbage import REMOVALS
from jobs.settings import Settings, settings_file

FORMAT = 1
FACTS = "backup.json"
TRIES = 100  # readings of the lake's manifests until nothing was committed during one
# Their files are named by their content, or belong to a row that was written before.
CHANGING = ("mlflow/artifacts", "reports", "tuning")
SECRETS = "secrets.json"
Report = Callable[[str], None]


class BackupError(EvergreenError):
    """A backup that cannot be made or restored; nothing of it was."""


def backup(settings: Settings, folder: Path, report: Report) -> None:
    """Write a backup of the home to a folder that does not exist yet, completely or not at all.

    report: receives a line for each part. Raises BackupError.
    """
    if folder.exists():
        raise BackupError(f"{folder} exists already. Name a folder that does not: its parent must.")
    if settings.storage.serve:
        raise BackupError("The bucket is home/store: stop the services and copy home.")
    staging = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        # Private, because it has the secrets and every id of the log.
        staging.mkdir(mode=0o700)
        with database_server(settings), nothing_removed(settings):
            kinds = write_backup(settings, staging, report)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        facts = {
            "format": FORMAT,
            "made": made,
            "databases": kinds,
            "storage": settings.storage.url,
        }
        (staging / FACTS).write_text(json.dumps(facts, indent=1) + "\n")
        sync_tree(staging)
        os.rename(staging, folder)
    except StoreError:  # of the bucket, which it names
        raise
    except OSError as error:
        raise BackupError(
            f"The backup cannot be written to {folder}: {error.strerror or error}"
            f"{f' ({error.filename})' if error.filename else ''}. Nothing of it is left."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_backup(settings: Settings, staging: Path, report: Report) -> dict[str, str]:
    """All parts, in the order that the top of this file explains. Returns kind by database."""
    home = staging / "home"
    home.mkdir()
    manifests = {} if settings.storage.url else manifests_at_one_moment(settings.home / "lake")
    kinds = {}
    (staging / "databases").mkdir()
    for name, address in own_databases(settings).items():
        kind = dump(address, staging / "databases" / name)
        report(f"{name:<10} {kind or 'has no database yet'}")
        if kind:
            kinds[name] = kind
    if settings.storage.url:
        report(f"{'lake':<10} and versions stay in {settings.storage.url}")
    else:
        copy_lake(settings.home / "lake", home / "lake", manifests)
        report(f"{'lake':<10} {len(manifests)} partitions")
        copied = copy_versions(settings, home / "registry" / "versions")
        report(f"{'versions':<10} {copied} published versions")
    for name in CHANGING:
        n_files = copy_changing(settings.home / name, home / name)
        report(f"{name:<10} {n_files} files")
    copy_private(settings.home / SECRETS, home / SECRETS)
    copy_private(settings_file(), staging / "settings.toml")
    return kinds


def copy_versions(settings: Settings, to: Path) -> int:
    """Copy the contents of all versions, and return how many there are."""
    versions = settings.registry_root / "versions"
    contents = content_folders(settings.registry_place)
    for content in sorted(contents):
        shutil.copytree(content, to / content.relative_to(versions))
    return len(contents)


@contextmanager
def nothing_removed(settings: Settings) -> Iterator[None]:
    """Let `evergreen gc`, and whoever removes a version, wait while the block runs."""
    with (
        locked(settings.home / REMOVALS),
        settings.open_registry() as registry,
        registry.nothing_removed(),
    ):
        yield


def manifests_at_one_moment(lake: Path) -> dict[Path, bytes]:
    """Every manifest of the lake, as all of them were at one moment.

    Two readings that agree enclose a moment at which the lake was so. Raises BackupError where a
    step commits during every one.
    """
    for _ in range(TRIES):
        before = signatures(lake)
        try:
            contents = {path: path.read_bytes() for path in before}
        except FileNotFoundError:
            continue
        if signatures(lake) == before:
            return contents
    raise BackupError(f"Steps commit to {lake} without a pause. Run the backup again later.")


def signatures(lake: Path) -> dict[Path, list[int]]:
    found = {}
    for path in sorted(lake.glob(f"[!._]*/day=*/{MANIFEST}")):
        try:
            found[path] = signature(path)
        except FileNotFoundError:  # removed between the two calls
            continue
    return found


def copy_lake(lake: Path, to: Path, manifests: dict[Path, bytes]) -> None:
    """The content that the manifests name: it stays for a day where another has replaced it since.

    A damaged manifest is left out: as for every reader, there is no partition.
    """
    to.mkdir(parents=True)
    for path, content in manifests.items():
        try:
            digest = parsed_manifest(path, content)["digest"]
        except DamagedPartition:
            continue
        home = to / path.parent.relative_to(lake)
        if not (path.parent / digest).is_dir():
            raise BackupError(
                f"{path.parent.relative_to(lake)} has lost its files, {path.parent / digest}. "
                "Compute it again with `evergreen verify --repair`, then make the backup."
            )
        shutil.copytree(path.parent / digest, home / digest)
        (home / MANIFEST).write_bytes(content)
    for path in sorted(lake.glob("_*")):
        if path.is_file():
            shutil.copy2(path, to / path.name)


def copy_changing(folder: Path, to: Path) -> int:
    """Copy what may be written to meanwhile, without databases and locks; returns the files."""
    copied = 0
    for path in sorted(folder.rglob("*")) if folder.exists() else ():
        if path.is_file() and path.suffix not in (".lock", ".db", ".db-wal", ".db-shm"):
            place = to / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copy2(path, place)
            except FileNotFoundError:  # such as a draft that was renamed
                continue
            copied += 1
    return copied


def copy_private(file: Path, to: Path) -> None:
    """A file that may hold a secret, if there is one."""
    if file.exists():
        shutil.copyfile(file, to)
        to.chmod(0o600)


def restore(settings: Settings, folder: Path, report: Report) -> None:
    """Make the home of the settings from a backup. It must not have a lake or a registry yet.

    Raises BackupError, ServiceError where services of this home run.
    """
    facts = read_facts(folder)
    require_same_bucket(settings, facts.get("storage", ""))
    have = own_databases(settings)
    restored = {name: kind for name, kind in facts["databases"].items() if name in have}
    parts = sorted(path for path in (folder / "home").iterdir())
    # Before a server starts, which draws secrets and makes folders of its own.
    for part in parts:
        require_missing(settings.home / part.name)
    with sole_runner(settings.home), database_server(settings):
        for name, kind in restored.items():
            require_empty(settings, name, have[name], kind)
        staging = settings.home / f".restoring-{uuid.uuid4().hex[:8]}"
        filled: list[str] = []  # addresses of databases
        try:
            shutil.copytree(folder / "home", staging)
            sync_tree(staging)
            for part in parts:
                os.rename(staging / part.name, settings.home / part.name)
            report(f"{'files':<10} {', '.join(part.name for part in parts)}")
            for name, kind in restored.items():
                undump(have[name], folder / "databases" / name, kind)
                filled.append(have[name])
                report(f"{name:<10} {kind}")
        except BaseException as error:
            for part in parts:
                delete(settings.home / part.name)
            to_drop = left_after_deletion(filled)
            if isinstance(error, OSError | EvergreenError):
                raise BackupError(
                    f"{folder} cannot be restored: {error}. Of its files nothing is left in "
                    f"{settings.home}.{to_drop}"
                ) from error
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def delete(path: Path) -> None:
    """A file, or a folder with everything in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def left_after_deletion(filled: list[str]) -> str:
    """Delete the SQLite files of these addresses; returns what to do about the other databases."""
    names = []
    for address in filled:
        if kind_of(address) == "sqlite":
            sqlite_file(address).unlink(missing_ok=True)
        else:
            names.append(make_url(address).database or "")
    return f" Drop the databases {', '.join(names)} before you restore again." if names else ""


def require_same_bucket(settings: Settings, url: str) -> None:
    """url: the `storage.url` that a backup was made with."""
    if url != settings.storage.url:
        raise BackupError(
            f"The backup was made with storage.url = '{url}', and the settings have "
            f"'{settings.storage.url}'. Its lake and versions are there: set it to the former."
        )


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts of a backup. Raises BackupError where it is none, or of a newer Evergreen."""
    try:
        facts = json.loads((folder / FACTS).read_text())
        written = facts["format"]
    except (OSError, ValueError, LookupError, TypeError):
        raise BackupError(
            f"{folder} is no backup: it has no {FACTS}. Name a folder that `evergreen backup` made."
        ) from None
    if written != FORMAT:
        raise BackupError(
            f"{folder} has the format {written}, expected {FORMAT}. Upgrade Evergreen."
        )
    return facts


def require_missing(path: Path) -> None:
    if path.exists():
        raise BackupError(
            f"{path} exists already. Restore into a home of its own (EVERGREEN_HOME), or move this "
            "one away first."
        )
