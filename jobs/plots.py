"""Figures in one style: small, readable, drawn without a display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def figure(path: Path, title: str, size: tuple[float, float] = (6.4, 3.6)) -> Iterator:
    """Yields axes to draw on, and saves them as a PNG when the block ends. size: inches."""
    # Not pyplot, which looks for a display. Imported here, because matplotlib takes a while.
    from matplotlib.figure import Figure

    picture = Figure(figsize=size, layout="constrained")
    axes = picture.subplots()
    axes.set_title(title)
    axes.grid(alpha=0.3)
    yield axes
    save(picture, path)


@contextmanager
def panels(path: Path, titles: list[str], height: float = 3.6) -> Iterator[list]:
    """Axes side by side, one per title, with a common y axis; saved as PNG when the block ends."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(2 + 3.4 * len(titles), height), layout="constrained")
    all_axes = picture.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for axes, title in zip(all_axes, titles, strict=True):
        axes.set_title(title)
        axes.grid(alpha=0.3)
    yield list(all_axes)
    save(picture, path)


def save(picture: Figure, path: Path) -> None:
    # Without the name and version of the software, equal pictures are equal files.
    picture.savefig(path, dpi=110, metadata={"Software": None})
