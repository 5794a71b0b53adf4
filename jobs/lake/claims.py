"""Claims: one runner at a time computes a step of a day, and a runner thought dead writes nothing.

A runner waits for the one before it. If that one neither ends nor dies, its claim is taken over
after PATIENCE_S, and with it goes the right to commit: a commit asks whether its own claim is kept.
How a claim is held depends on the place: by a file lock and a token, or by a lease in a bucket.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embeddings.storage.place import Hold, Place
from jobs.errors import Superseded

PATIENCE_S = 3600.0  # longer than any step takes
log = logging.getLogger(__name__)

_held: dict[Path, Hold] = {}  # the claims of this process, by the folder of a partition


@contextmanager
def claimed(place: Place, home: Path, lock: Path) -> Iterator[None]:
    """Hold the claim on a partition's folder while the block runs.

    lock: the file that a commit of this partition locks.
    """
    with place.hold(home, lock, PATIENCE_S, log.warning) as hold:
        _held[home] = hold
        try:
            yield
        finally:
            del _held[home]


def require(home: Path) -> None:
    """Raises Superseded where another runner has taken over this process's claim."""
    hold = _held.get(home)
    if hold is not None and not hold.kept():
        raise Superseded(
            f"Another run has taken over {home}, so this one commits nothing. "
            "It was silent for too long; its result is not needed."
        )
