"""Sizes as people read them."""

from __future__ import annotations


def readable(size_bytes: int) -> str:
    """A size as people read it: 3.1 MB."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
