"""A lease: the right of one process, on any machine, to an object of a store.

The holder writes the object anew every BEAT_S. One that has not been written to for LEASE_S, by the
clock of whoever waits, belongs to a process that has died, is stopped, or has lost its network, and
is taken over. So machines need no common clock. Every change is a conditional write: of two that
try, one succeeds, and a holder that was superseded notices it.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from embeddings.storage.objects import Objects, StoreError, Tag

LEASE_S = 60.0
BEAT_S = 10.0
POLL_S = 0.25


class Lease:
    """A lease that this process holds. holder: identifies its home."""

    def __init__(self, objects: Objects, key: str, holder: str) -> None:
        self.objects = objects
        self.key = key
        self.holder = holder
        self.token = uuid.uuid4().hex
        self._beats = 0

    def kept(self) -> bool:
        """Does nobody else hold it? Asks the store."""
        try:
            return json.loads(self.objects.get(self.key)[0]).get("token") == self.token
        except FileNotFoundError:
            return False

    def try_to_take(self, seen: Tag | None) -> bool:
        """Become the holder of an object that is as it was `seen`."""
        self._beats += 1
        body = {"token": self.token, "holder": self.holder, "beat": self._beats}
        return self.objects.replace(self.key, json.dumps(body).encode(), seen)

    def beat(self) -> None:
        """Show that the holder is alive, if it still is the holder."""
        with suppress(FileNotFoundError):
            body, tag = self.objects.get(self.key)
            if json.loads(body).get("token") == self.token:
                self.try_to_take(tag)

    def release(self) -> None:
        """Let the next one have it at once. What fails here is made good by LEASE_S."""
        with suppress(FileNotFoundError, StoreError):
            body, tag = self.objects.get(self.key)
            if json.loads(body).get("token") == self.token:
                free = {"released": self.token}
                self.objects.replace(self.key, json.dumps(free).encode(), tag)


@contextmanager
def leased(
    objects: Objects,
    key: str,
    holder: str,
    patience_s: float = float("inf"),
    waiting: Callable[[str], None] = lambda message: None,
    alone: bool = False,
) -> Iterator[Lease]:
    """Hold a lease while the block runs.

    patience_s: a holder that neither ends nor dies is superseded then. alone: no other process of
    this home can hold it, so that what looks so was left by one that was killed.
    """
    lease = Lease(objects, key, holder)
    take(lease, patience_s, waiting, alone)
    ended = threading.Event()
    beating = threading.Thread(target=keep_beating, args=(lease, ended), daemon=True)
    beating.start()
    try:
        yield lease
    finally:
        ended.set()
        beating.join()
        lease.release()


def take(lease: Lease, patience_s: float, waiting: Callable[[str], None], alone: bool) -> None:
    """Wait until a lease can be had, and take it."""
    started = changed = time.monotonic()
    last: Tag | None = None
    told = False
    while True:
        seen, holder = look(lease)
        now = time.monotonic()
        if seen != last:
            last, changed = seen, now
        free = holder is None or (alone and holder == lease.holder)
        if free or now - changed > LEASE_S or now - started > patience_s:
            if lease.try_to_take(seen):
                return
            continue
        if not told:
            waiting(f"Another run holds {lease.key} in {lease.objects}: waiting for it.")
            told = True
        time.sleep(POLL_S)


def look(lease: Lease) -> tuple[Tag | None, str | None]:
    """The tag of the lease's object, and who holds it: None where nobody does."""
    try:
        body, tag = lease.objects.get(lease.key)
    except FileNotFoundError:
        return None, None
    return tag, json.loads(body).get("holder")


def keep_beating(lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        with suppress(StoreError):  # whoever waits decides how long that may last
            lease.beat()
