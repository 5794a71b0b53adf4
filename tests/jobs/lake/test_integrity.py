"""Damage to committed files is noticed when a partition is opened, and healed by a commit."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path

import pytest

from jobs.errors import DamagedPartition
from jobs.lake import Lake
from jobs.lake.integrity import damage, seen_file

DAY = date(2024, 3, 1)


@pytest.fixture
def lake(tmp_path) -> Lake:
    lake = Lake(tmp_path / "lake")
    commit(lake)
    return lake


def commit(lake: Lake) -> None:
    with lake.writing("matrix", DAY, recipe="s") as staging:
        (staging.path / "rows").mkdir()
        for name in ("one", "two"):
            (staging.path / "rows" / name).write_text(name * 1000)


def file_of(lake: Lake) -> Path:
    partition = lake.find("matrix", DAY)
    assert partition is not None
    return partition.path / "rows" / "one"


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[500] ^= 1
    file.write_bytes(data)


def flipped_with_its_old_time(file: Path) -> None:
    before = file.stat()
    flipped(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncated(file: Path) -> None:
    os.truncate(file, 10)


def deleted(file: Path) -> None:
    file.unlink()


def a_folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES = {
    flipped: "rows/one has changed",
    flipped_with_its_old_time: "rows/one has changed",
    truncated: "rows/one has changed",
    deleted: "rows/one is missing",
    a_folder_instead: "rows/one cannot be read",
}


@pytest.mark.parametrize("harm", DAMAGES)
def test_damage_is_named_with_the_remedy(lake, harm):
    harm(file_of(lake))
    remedy = f"Compute it again: evergreen step matrix --day {DAY}"
    with pytest.raises(DamagedPartition, match=rf"{DAMAGES[harm]}.*{remedy}"):
        lake.get("matrix", DAY)


@pytest.mark.parametrize("harm", DAMAGES)
def test_committing_the_same_content_heals(lake, harm):
    """Its address is taken by the damaged files."""
    before = lake.get("matrix", DAY)
    harm(file_of(lake))
    commit(lake)
    assert lake.get("matrix", DAY) == before
    assert file_of(lake).read_text() == "one" * 1000


def test_whole_files_are_read_once(lake, monkeypatch):
    """A commit has digested them; a copy with other times is digested at its first use."""
    reads = []
    from embeddings.storage import folder

    digest = folder.file_digest

    def counted(path):
        reads.append(path.name)
        return digest(path)

    monkeypatch.setattr(folder, "file_digest", counted)
    for _ in range(3):
        lake.get("matrix", DAY)
    assert reads == []
    file_of(lake).write_text("one" * 1000)
    for _ in range(3):
        lake.get("matrix", DAY)
    assert reads == ["one"]


def test_a_thorough_check_reads_every_byte(lake):
    """A failing disk changes content without a trace in size and times."""
    partition = lake.get("matrix", DAY)
    flipped(file_of(lake))
    stat = file_of(lake).stat()
    seen = json.loads(seen_file(partition.path).read_text())
    seen["rows/one"] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    seen_file(partition.path).write_text(json.dumps(seen))
    assert damage(partition) == []
    assert damage(partition, thorough=True) == ["rows/one has changed"]


@pytest.mark.parametrize("harm", [flipped, truncated, lambda file: file.write_text("[]")])
def test_a_damaged_manifest_is_as_good_as_none(lake, harm):
    manifest = lake.home("matrix", DAY) / "_manifest.json"
    manifest.write_text(manifest.read_text() + " " * 600)  # long enough to be harmed
    harm(manifest)
    assert lake.find("matrix", DAY) is None
    commit(lake)
    assert lake.get("matrix", DAY)


def test_a_changed_manifest_is_refused(lake):
    """What is not part of the content, such as the inputs, is sealed as well."""
    manifest = lake.home("matrix", DAY) / "_manifest.json"
    content = json.loads(manifest.read_text())
    content["inputs"] = {f"land/{DAY}": "0123456789abcdef"}
    manifest.write_text(json.dumps(content))
    assert lake.find("matrix", DAY) is None


def test_a_lake_that_may_not_be_written_is_read(lake, monkeypatch):
    """Nothing is remembered then, and nothing fails."""
    partition = lake.get("matrix", DAY)
    seen_file(partition.path).unlink()

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("jobs.lake.integrity.replace_text", refuse)
    assert lake.get("matrix", DAY) == partition


def test_a_file_that_is_written_to_while_it_is_read_is_not_vouched_for(lake, monkeypatch):
    from embeddings.storage import folder

    partition = lake.get("matrix", DAY)
    seen_file(partition.path).unlink()
    digest = folder.file_digest

    def then_harmed(path):
        found = digest(path)
        flipped(path)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(folder, "file_digest", then_harmed)
        assert damage(partition) == []
    assert damage(partition) == ["rows/one has changed", "rows/two has changed"]
