"""Which files are the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.errors import BadInput
from jobs.sources.files import find_files


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")


def found(path: Path, folder: Path) -> list[str]:
    return [str(file.relative_to(folder)) for file in find_files(path)]


def test_what_is_hidden_is_no_data_nor_is_anything_below_it(tmp_path):
    touch(tmp_path, "a.csv", ".b.csv", "_SUCCESS", "day=1/a.csv", "_day=2/a.csv")
    touch(tmp_path, ".ipynb_checkpoints/a.csv", "_temporary/0/a.csv", ".Trash-1000/x/a.csv")
    touch(tmp_path, "_delta_log/00.json")
    assert found(tmp_path, tmp_path) == ["_day=2/a.csv", "a.csv", "day=1/a.csv"]


def test_links_are_followed_to_folders_and_files_and_never_in_circles(tmp_path):
    touch(tmp_path, "log/a.csv", "disk/2023/b.csv", "disk/c.csv")
    (tmp_path / "log" / "old").symlink_to(tmp_path / "disk")
    (tmp_path / "log" / "d.csv").symlink_to(tmp_path / "disk" / "c.csv")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "log")
    (tmp_path / "log" / "latest.csv").symlink_to(tmp_path / "log" / "a.csv")
    (tmp_path / "log" / "nowhere").symlink_to(tmp_path / "gone")
    # What is linked twice is read once; what a link does not find is named when it is read.
    names = ["log/a.csv", "log/nowhere", "log/old/2023/b.csv", "log/old/c.csv"]
    assert found(tmp_path / "log", tmp_path) == names


@pytest.mark.parametrize(
    "name",
    ["a[1].csv", "a{x,y}.csv", "a*.csv", "a?.csv", "2024-03-01T00:00:00.csv", "50%.csv", "ä#.csv"],
)
def test_a_path_that_exists_is_no_pattern(tmp_path, name):
    touch(tmp_path, name, "a1.csv", "ax.csv", f"folder-{name}/b.csv")
    assert found(tmp_path / name, tmp_path) == [name]
    assert found(tmp_path / f"folder-{name}", tmp_path) == [f"folder-{name}/b.csv"]


def test_a_pattern_finds_what_it_matches(tmp_path):
    touch(tmp_path, "a1.csv", "a2.csv", "b1.csv", ".a3.csv")
    assert found(tmp_path / "a[1-9].csv", tmp_path) == ["a1.csv", "a2.csv"]


@pytest.mark.parametrize("folder", ["x[1]", "*", "a?", "{a,b}", "[!a]"])
def test_a_folder_that_exists_is_no_pattern_before_one(tmp_path, folder):
    """The files of a folder that the name would match as a pattern are those of another log."""
    touch(
        tmp_path, f"{folder}/log/a1.csv", f"{folder}/log/b1.csv", "x1/log/a2.csv", "aa/log/a3.csv"
    )
    assert found(tmp_path / folder / "log" / "a*", tmp_path) == [f"{folder}/log/a1.csv"]


def test_a_pattern_may_name_folders(tmp_path):
    touch(tmp_path, "2023/a.csv", "2024/a.csv", "2024/b.csv")
    assert found(tmp_path / "20*" / "a.csv", tmp_path) == ["2023/a.csv", "2024/a.csv"]


def test_a_path_without_files_is_named_with_the_setting(tmp_path):
    with pytest.raises(BadInput, match=r"no file at .*nowhere\*\. Set source.path"):
        find_files(tmp_path / "nowhere*")
