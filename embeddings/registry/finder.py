"""Which version a reference means, remembered for as long as nothing in the catalog changes.

Asking the catalog takes several times as long as looking up a vector. SQLite says in a few
microseconds whether anything was committed since, by whichever process.
"""

from __future__ import annotations

import sqlite3
from threading import Lock

from sqlalchemy.engine import make_url

from embeddings.registry.client import Registry
from embeddings.registry.versions import LATEST, Version


class Finder:
    """Finds versions as `Registry.find` does; may be used by several threads.

    A catalog in PostgreSQL, or one that may only be read, is asked every time.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._lock = Lock()
        self._state: int | None = None
        self._found: dict[tuple[str, str], Version] = {}
        self._watch = _watch(registry)

    @property
    def is_quick(self) -> bool:
        """Whether most calls return without waiting for a database."""
        return self._watch is not None

    def find(self, name: str, reference: str = LATEST) -> Version:
        """See `Registry.find`."""
        with self._lock:
            # Read before the version is: a change between the two only means one more question.
            state = self._current_state()
            if state is None or state != self._state:
                self._found.clear()
                self._state = state
            found = self._found.get((name, reference))
        if found is None:
            found = self.registry.find(name, reference)
            with self._lock:
                if state is not None and state == self._state:
                    self._found[name, reference] = found
        return found

    def _current_state(self) -> int | None:
        """A number that changes with every commit; None where there is none to ask for."""
        if self._watch is None:
            return None
        try:
            return self._watch.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            return None  # the catalog itself says what is wrong with it


def _watch(registry: Registry) -> sqlite3.Connection | None:
    """A connection that never writes, so that every commit to its catalog changes its state."""
    address = make_url(registry.catalog.url)
    if address.get_backend_name() != "sqlite" or registry.catalog.read_only:
        return None
    # Several threads use it, one at a time under the lock.
    return sqlite3.connect(str(address.database), isolation_level=None, check_same_thread=False)
