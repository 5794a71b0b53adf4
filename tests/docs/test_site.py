"""The site builds without a warning, and its pages load nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ELSEWHERE = re.compile(r"(\w+:)?//")
LOADED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=[\"']?([^\"'\s>]+)")
IN_STYLES = re.compile(r"url\([\"']?([^\"')]+)|@import\s+[\"']([^\"']+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


def test_no_page_loads_anything_from_another_host(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    foreign = []
    for page in pages:
        addresses = LOADED.findall(page.read_text())
        assert addresses, page
        foreign += filter(ELSEWHERE.match, addresses)
    assert foreign == []


def test_no_style_loads_anything_from_another_host(site):
    foreign = []
    for style in site.rglob("*.css"):
        for address, imported in IN_STYLES.findall(style.read_text()):
            foreign += filter(ELSEWHERE.match, [address, imported])
    assert foreign == []


def test_every_decision_is_listed(site):
    page = (site / "decisions" / "index.html").read_text()
    for file in (ROOT / "docs" / "decisions").glob("*.md"):
        assert f'href="{file.stem}.html"' in page
