"""The documentation names files and folders that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"])
FOLDERS = "configs|dags|docs|embeddings|infra|jobs|models|perf|simulation|tests"
# `jobs/steps/gate.py`, `embeddings/fold_in/`: a folder of the project, then a slash
NAMED = re.compile(rf"`((?:{FOLDERS})/[\w/.-]*)`")
IMAGINED = {"jobs/sources/shop.py", "embeddings/benchmarks/"}  # an example; not built yet


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_path_on_a_page_exists(page):
    named = set(NAMED.findall(page.read_text())) - IMAGINED
    missing = sorted(path for path in named if not (ROOT / path).exists())
    assert missing == []


def test_the_eleven_changes_name_a_place_each():
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("## Eleven changes")[2]
    places = [NAMED.findall(line) for line in table.splitlines() if line.startswith("| ")]
    assert len([place for place in places if place]) == 11
