"""One way to draw: small, readable, without a display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def figure(path: Path, title: str, size: tuple[float, float] = (6.4, 3.6)) -> Iterator:
    """Axes to draw on; saved as a PNG when the block ends."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=size, layout="constrained")
    axes = picture.subplots()
    axes.set_title(title)
    axes.grid(alpha=0.3)
    yield axes
    picture.savefig(path, dpi=110, metadata={"Software": None})
