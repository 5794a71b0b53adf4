"""Figures in one style: small, readable, drawn without a display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def figure(path: Path, title: str, size: tuple[float, float] = (6.4, 3.6)) -> Iterator:
    """Yields axes to draw on, and saves them as a PNG when the block ends. size: inches."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=size, layout="constrained")
    axes = picture.subplots()
    axes.set_title(title)
    axes.grid(alpha=0.3)
    yield axes
    # Without the name and version of the software, equal pictures are equal files.
    picture.savefig(path, dpi=110, metadata={"Software": None})
