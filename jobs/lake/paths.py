"""Paths for Spark, which reads them as patterns."""

from __future__ import annotations

import re
from pathlib import Path

PATTERN = re.compile(r"([\[\]{}*?\\])")


def spark_path(path: Path | str) -> str:
    """The path of exactly this file or folder, whatever characters its name has."""
    return PATTERN.sub(r"\\\1", str(path))
