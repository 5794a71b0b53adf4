"""The contents of a partition: the one that is committed, and those that it has replaced."""

from __future__ import annotations

from pathlib import Path

from embeddings.storage.place import Place
from jobs.lake.integrity import damage_at, remember, seen_file

REPLACED = ".replaced"  # suffix of the marker of content that the manifest no longer names
GRACE_S = 24 * 3600.0  # readers of replaced content have ended by then: no step takes a day


def keep_whole(place: Place, staging: Path, home: Path, files: dict[str, str]) -> None:
    """Put the staged content at its address; what lies there already stays only if it is whole."""
    if place.holds(home) and not damage_at(place, home, files):
        return
    place.put(staging, home)
    # They were digested when they were staged; moving them changed nothing of them.
    remember(home, place.tags(home, files))


def delete_replaced(place: Place, home: Path, current: str) -> None:
    """Delete the content of a partition that was replaced more than GRACE_S ago.

    A marker beside a folder remembers when it was replaced. current: digest of the content that the
    manifest names.
    """
    place.remove(home / f"{current}{REPLACED}")  # an earlier content may return
    for name in place.contents(home):
        if name == current:
            continue
        marker = home / f"{name}{REPLACED}"
        age_s = place.age_s(marker)
        if age_s is None:
            place.write(marker, b"")
        elif age_s > GRACE_S:
            place.discard(home / name)
            place.remove(marker)
            seen_file(home / name).unlink(missing_ok=True)
