"""Where a landed day comes from: the log, and the files that held the day when it was read.

The log may grow, be corrected, receive late rows, move, lose its old files to rotation, or be
replaced by another log. A landed day stays as long as nothing in the log contradicts it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from embeddings.durable import file_digest, replace_text, signature
from jobs.errors import BadInput
from jobs.lake.store import Partition
from jobs.settings import Settings
from jobs.sources import open_source
from jobs.sources.files import naming

DIGESTS = "_log_digests.json"  # in the lake: the digest of every file of the log, and its signature


@dataclass(frozen=True)
class Origin:
    """log: the path of the log, relative to home, so that both may move together.

    files: each file that holds the day, relative to the log's folder -> digest of its content.
    """

    log: str
    files: dict[str, str]


def origin(settings: Settings, day: date) -> Origin:
    """Where the log has this day now. Raises BadInput for a file that cannot be read."""
    files = open_source(settings).files(day)
    digests = file_digests(settings, files)
    path = settings.source.path
    folder = path if path.is_dir() else path.parent  # of a single file, or of a glob's matches
    named = {os.path.relpath(file, folder): digest for file, digest in digests.items()}
    return Origin(log_of(settings), named)


def log_of(settings: Settings) -> str:
    return os.path.relpath(settings.source.path, settings.home)


def require_unchanged(settings: Settings, day: date, before: Origin) -> None:
    """Raises BadInput where a file of the day was written to since `before` was taken."""
    now = origin(settings, day)
    if now != before:
        changed = sorted(dict(now.files.items() ^ before.files.items()))
        raise BadInput(
            f"The log changed while {day} was landed: {', '.join(changed)}. "
            "Land the day again when its files are complete."
        )


def contradiction(settings: Settings, landed: Partition) -> str:
    """What the log says now against a landed day, in words; empty where nothing does."""
    now = origin(settings, landed.day)
    before = landed.sources
    if sorted(now.files.values()) == sorted(before.values()):
        return ""  # the same content, wherever it is now
    if now.log != landed.log:
        return f"it was read from another log, {landed.log}"
    gone = before.keys() - now.files.keys()
    if gone:
        # Rotated away. Landing again would lose the rows of these files.
        return ""
    for name in sorted(now.files):
        if name not in before:
            return f"{name} has rows of the day and was not read"
        if now.files[name] != before[name]:
            return f"{name} has changed"
    return ""


def text_sources(settings: Settings, files: list[Path]) -> dict[str, str]:
    """The digest of each file of texts, by its path from home, so that both may move together."""
    digests = file_digests(settings, files)
    return {os.path.relpath(file, settings.home): digest for file, digest in digests.items()}


def changed_texts(settings: Settings, collected: Partition) -> str:
    """The first file of a collected week whose content has changed, in words; "" for none.

    A file that is gone contradicts nothing: collecting again would lose its texts.
    """
    files = [settings.home / name for name in collected.sources]
    there = [file for file in files if file.exists()]
    now = text_sources(settings, there)
    changed = [name for name, digest in now.items() if collected.sources.get(name) != digest]
    return f"{min(changed)} has changed" if changed else ""


def file_digests(settings: Settings, files: list[Path]) -> dict[Path, str]:
    """The digest of each file's content, computed once for as long as the file is unchanged."""
    memory = settings.lake.root / DIGESTS
    known = remembered(memory)
    learned = {}
    digests = {}
    for file in files:
        with naming(file):
            now = signature(file)
            seen, digest = known.get(str(file), ([], ""))
            if seen != now:
                digest = file_digest(file)
                learned[str(file)] = (now, digest)
        digests[file] = digest
    if learned:
        remember(memory, learned)
    return digests


def remembered(memory: Path) -> dict[str, tuple[list[int], str]]:
    """Path of a file -> its signature, and the digest that it had with it."""
    try:
        return json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}


def remember(memory: Path, learned: dict[str, tuple[list[int], str]]) -> None:
    """Add these digests. What another process adds at the same moment may be forgotten again."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        replace_text(memory, json.dumps(remembered(memory) | learned))
    except OSError:
        return  # a lake that this user may not write
