"""Do two homes hold the same? Compares the digests of all partitions and versions.

    python -m tests.digests HOME OTHER_HOME

Read from the files alone, without Evergreen's code: the manifests of the lake, and the folders of
published versions, which are named by the digests of their content. Exit code 1 where they differ.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def digests(home: Path) -> dict[str, str]:
    """'step/day=D' -> its digest, 'version NAME/day=D' -> those of its versions."""
    found = {}
    for manifest in sorted((home / "lake").glob("[!._]*/day=*/_manifest.json")):
        day = manifest.parent
        found[f"{day.parent.name}/{day.name}"] = json.loads(manifest.read_text())["digest"]
    for day in sorted((home / "registry" / "versions").glob("[!._]*/day=*")):
        contents = sorted(folder.name for folder in day.iterdir() if folder.is_dir())
        found[f"version {day.parent.name}/{day.name}"] = " ".join(contents)
    return found


def differences(home: Path, other: Path) -> list[str]:
    """One line for each partition and version that only one home has, or that differs."""
    ours, theirs = digests(home), digests(other)
    lines = []
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            lines.append(f"{key}: {ours.get(key)} and {theirs.get(key)}")
    return lines


def main(home: Path, other: Path) -> int:
    found = differences(home, other)
    for line in found:
        print(line)
    print(f"{len(digests(home))} digests in {home}, {len(found)} differ from those in {other}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
