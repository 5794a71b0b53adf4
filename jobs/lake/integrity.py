"""Are the files of a partition those that were committed?

Reading all of them at every use would cost as much as using them. So the size and times of every
file are remembered when its content has been compared with its digest, and the content is compared
again only where one of these has changed, as every write to a file changes them.
`evergreen verify` compares the content of all files, and finds what a failing disk has changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from embeddings.durable import file_digest, replace_text, signature

if TYPE_CHECKING:
    from jobs.lake.store import Partition


def damage(partition: Partition, thorough: bool = False) -> list[str]:
    """The files of a partition that are missing or changed, each with what is wrong with it."""
    return damage_at(partition.path, partition.files, thorough)


def damage_at(folder: Path, files: dict[str, str], thorough: bool = False) -> list[str]:
    """Those of these files that are missing below `folder`, or do not have their digest.

    thorough: compare the content of every file, also where its size and times are as remembered.
    """
    seen = {} if thorough else remembered(folder)
    whole = {}
    faults = []
    for name, digest in files.items():
        path = folder / name
        try:
            # Before the content is read: a file that is written to meanwhile is not vouched for.
            now = signature(path)
            if seen.get(name) != now and file_digest(path) != digest:
                faults.append(f"{name} has changed")
            whole[name] = now
        except FileNotFoundError:
            faults.append(f"{name} is missing")
        except OSError as error:
            faults.append(f"{name} cannot be read ({error.strerror})")
    if not faults and whole != seen:
        remember(folder, whole)
    return faults


def remember(folder: Path, signatures: dict[str, list[int]]) -> None:
    """Remember that files with these signatures have their digests."""
    try:
        replace_text(seen_file(folder), json.dumps(signatures))
    except OSError:
        return  # a lake that this user may not write: compared again the next time


def remembered(folder: Path) -> dict[str, list[int]]:
    """Signatures of the files when they were last compared; empty where that is not known."""
    try:
        return json.loads(seen_file(folder).read_text())
    except (OSError, ValueError):
        return {}


def seen_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.seen")


def digests_below(root: Path) -> dict[str, str]:
    """Path below `root` -> digest, of every file."""
    digests = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digests[str(path.relative_to(root))] = file_digest(path)
    return digests
