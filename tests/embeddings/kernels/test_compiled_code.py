"""Compiled code is never older than its source, also where another file was inlined into it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import embeddings
from embeddings.kernels import digest_of_sources


@pytest.mark.parametrize("change", ["other text", "other name", "one file more", "one file less"])
def test_every_change_of_the_sources_is_seen(tmp_path, change):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(f"# {name}")
    before = digest_of_sources(tmp_path)
    assert digest_of_sources(tmp_path) == before
    if change == "other text":
        (tmp_path / "a.py").write_text("# another")
    elif change == "other name":
        (tmp_path / "a.py").rename(tmp_path / "c.py")
    elif change == "one file more":
        (tmp_path / "c.py").write_text("")
    else:
        (tmp_path / "b.py").unlink()
    assert digest_of_sources(tmp_path) != before


COMPILED = """
from numba import njit
import embeddings.kernels
from embeddings.kernels.inner import inner

@njit(cache=True)
def outer(x):
    return inner(x) + 1

print(outer(2.0))
"""


def test_a_changed_file_that_was_inlined_is_compiled_again(tmp_path):
    """By three processes: the compiled code of the second comes from the first."""
    package = tmp_path / "embeddings"
    shutil.copytree(
        Path(embeddings.__file__).parent / "kernels",
        package / "kernels",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (package / "__init__.py").write_text("")
    (package / "outer.py").write_text(COMPILED)
    inner = "from numba import njit\n\n\n@njit(cache=True)\ndef inner(x):\n    return {} * x\n"

    def run(factor: int) -> str:
        (package / "kernels" / "inner.py").write_text(inner.format(factor))
        command = [sys.executable, "-m", "embeddings.outer"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    # Of another length: Python takes a file of the same second and size for unchanged.
    assert [run(10), run(10), run(200)] == ["21.0", "21.0", "401.0"]
