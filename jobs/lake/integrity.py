"""Are the files of a partition those that were committed?

Reading all of them at every use would cost as much as using them. So the tag of every file (its
size and times, or in a bucket its size and ETag) is remembered when its content has been compared
with its digest, and the content is compared again only where the tag has changed, as it does with
every write.
`evergreen verify` compares the content of all files, and finds what a failing disk has changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from embeddings.durable import replace_text
from embeddings.storage.objects import StoreError, Tag
from embeddings.storage.place import Place

if TYPE_CHECKING:
    from jobs.lake.store import Partition


def damage(partition: Partition, thorough: bool = False) -> list[str]:
    """The files of a partition that are missing or changed, each with what is wrong with it."""
    known = partition.stored.get("tags", {})
    return damage_at(partition.place, partition.folder, partition.files, thorough, known)


def damage_at(
    place: Place,
    folder: Path,
    files: dict[str, str],
    thorough: bool = False,
    committed: Mapping[str, Tag] = MappingProxyType({}),
) -> list[str]:
    """Those of these files that are missing at an address, or do not have their digest.

    thorough: compare the content of every file, also where its tag is as remembered. committed: the
    tags that they were committed with, where a tag means the same on every machine.
    """
    seen = {} if thorough else {**committed, **remembered(folder)}
    # Before the content is read: a file that is written to meanwhile is not vouched for.
    now = place.tags(folder, files)
    faults = []
    for name, digest in files.items():
        try:
            if name not in now:
                faults.append(f"{name} is missing")
            elif seen.get(name) != now[name] and place.digest(folder, name) != digest:
                faults.append(f"{name} has changed")
        except FileNotFoundError:
            faults.append(f"{name} is missing")
        except StoreError:  # a server that is gone says nothing about the file
            raise
        except OSError as error:
            faults.append(f"{name} cannot be read ({error.strerror})")
    if not faults and now != seen:
        remember(folder, now)
    return faults


def remember(folder: Path, tags: Mapping[str, Tag]) -> None:
    """Remember that files with these tags have their digests."""
    try:
        seen_file(folder).parent.mkdir(parents=True, exist_ok=True)
        replace_text(seen_file(folder), json.dumps(tags))
    except OSError:
        return  # a lake that this user may not write: compared again the next time


def remembered(folder: Path) -> dict[str, Tag]:
    """The tags of the files when they were last compared; empty where that is not known."""
    try:
        return json.loads(seen_file(folder).read_text())
    except (OSError, ValueError):
        return {}


def seen_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.seen")
