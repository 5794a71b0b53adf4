"""Claims: one runner at a time computes a step of a day, and a runner thought dead writes nothing.

    <partition>/.claim    locked by the runner, while it runs; the kernel releases it with a process
    <partition>/.token    drawn anew by every claim

A runner waits for the one before it. If that one neither ends nor dies, its claim is taken over
after PATIENCE_S, and with it goes the right to commit: a commit compares the token of its own claim
with the file's. (A fencing token: M. Kleppmann, "How to do distributed locking", 2016.)
"""

from __future__ import annotations

import fcntl
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embeddings.durable import locked, write_file
from jobs.errors import Superseded

CLAIM = ".claim"
TOKEN = ".token"
PATIENCE_S = 3600.0  # longer than any step takes
POLL_S = 0.1
log = logging.getLogger(__name__)

_held: dict[Path, str] = {}  # the claims of this process: folder of a partition -> token


@contextmanager
def claimed(home: Path, lock: Path) -> Iterator[None]:
    """Hold the claim on a partition's folder while the block runs.

    lock: the file that a commit of this partition locks.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / CLAIM).open("w") as claim:
        wait_for(claim, home)
        token = uuid.uuid4().hex
        # Under the lock of the commit: a commit that has begun ends before the claim moves.
        with locked(lock):
            write_file(home / TOKEN, token.encode())
        _held[home] = token
        try:
            yield
        finally:
            del _held[home]


def wait_for(claim, home: Path) -> None:
    """Lock the claim; after PATIENCE_S it is taken over without the lock."""
    deadline = time.monotonic() + PATIENCE_S
    waiting = False
    while True:
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                log.warning("The runner of %s does not end: its claim is taken over.", home)
                return
        if not waiting:
            log.warning("Another run computes %s: waiting for it.", home)
            waiting = True
        time.sleep(POLL_S)


def require(home: Path) -> None:
    """Raises Superseded where another runner has taken over this process's claim."""
    token = _held.get(home)
    if token is None:
        return
    file = home / TOKEN
    # Without a file, the partition was deleted while its runner was silent.
    if not file.exists() or file.read_text() != token:
        raise Superseded(
            f"Another run has taken over {home}, so this one commits nothing. "
            "It was silent for too long; its result is not needed."
        )
