"""The manifest of a partition: a JSON file that states what it holds, and how it came about."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from embeddings.storage.objects import Tag
from embeddings.storage.place import Place
from jobs.errors import DamagedPartition

MANIFEST = "_manifest.json"

_parsed: dict[Path, tuple[Tag, dict[str, Any]]] = {}


def content_digest(content: dict[str, Any]) -> str:
    """The identity of a partition's content."""
    return hashlib.sha256(to_json(content).encode()).hexdigest()[:16]


def sealed(manifest: dict[str, Any]) -> bytes:
    """A manifest with the digest of all of it: `read_manifest` refuses one that was changed."""
    seal = hashlib.sha256(to_json(manifest).encode()).hexdigest()
    return to_json({**manifest, "seal": seal}).encode()


def read_manifest(place: Place, path: Path) -> dict[str, Any]:
    """The manifest in a file; nobody may change it. Raises DamagedPartition, FileNotFoundError.

    Parsed once per process and content: judging a day reads the manifests of all days before it.
    """
    known = _parsed.get(path)
    if known is None or known[0] != place.tag(path):
        data, tag = place.read(path)
        known = _parsed[path] = (tag, parsed_manifest(path, data))
    return known[1]


def tag_or_none(place: Place, path: Path) -> Tag | None:
    """The tag of a file; None where it is missing."""
    try:
        return place.tag(path)
    except FileNotFoundError:
        return None


def parsed_manifest(path: Path, data: bytes) -> dict[str, Any]:
    """The manifest in these bytes of a file. Raises DamagedPartition."""
    try:
        manifest = json.loads(data)
        seal = manifest.pop("seal")
    except (ValueError, LookupError, AttributeError, TypeError):
        raise DamagedPartition(f"{path} is not a manifest of this Evergreen: ignored.") from None
    if seal != hashlib.sha256(to_json(manifest).encode()).hexdigest():
        raise DamagedPartition(f"{path} was changed after it was committed: ignored.")
    return manifest


def to_json(content: dict) -> str:
    # Sorted, so that equal content has one text and one digest. NaN is not JSON.
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"
