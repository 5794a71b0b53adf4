"""Which committed partitions are current: computed with the current settings from current inputs.

A manifest records the digests of the partitions that its own was computed from. Where one of them
is committed with another digest now, or is itself not current, the partition is stale.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from jobs.lake.store import Lake, Partition

STALE = "stale"
GONE = "gone"

# The digest of the settings that shape a step now; None for a step that does not exist.
SettingsDigest = Callable[[str], str | None]


class Freshness:
    """Judges partitions and remembers the verdicts: one look at the lake, for one question."""

    def __init__(self, lake: Lake, settings_digest: SettingsDigest) -> None:
        self.lake = lake
        self.settings_digest = settings_digest
        self._settings: dict[str, str | None] = {}
        self._verdicts: dict[str, str] = {}  # "step/day" -> its digest, STALE or GONE

    def current(self, step: str, day: date) -> Partition | None:
        """The committed partition if it is current, else None."""
        found = self.lake.find(step, day)
        if found is None or self._verdict(found.key) != found.digest:
            return None
        return found

    def _verdict(self, key: str) -> str:
        """Judge a partition after its inputs.

        Without recursion: the alignments of consecutive days form a chain as long as the log.
        """
        waiting = [key]
        while waiting:
            top = waiting[-1]
            if top in self._verdicts:
                waiting.pop()
                continue
            step, _, day = top.rpartition("/")
            found = self.lake.find(step, date.fromisoformat(day))
            if found is None:
                self._verdicts[top] = GONE
                continue
            if found.settings != self._digest(step):
                self._verdicts[top] = STALE
                continue
            unjudged = [needed for needed in found.inputs if needed not in self._verdicts]
            if unjudged:
                waiting += unjudged
                continue
            self._verdicts[top] = found.digest if self._inputs_hold(found) else STALE
        return self._verdicts[key]

    def _inputs_hold(self, partition: Partition) -> bool:
        for key, digest in partition.inputs.items():
            # Deleting old partitions is allowed and contradicts nothing that was computed of them.
            if self._verdicts[key] not in (digest, GONE):
                return False
        return True

    def _digest(self, step: str) -> str | None:
        if step not in self._settings:
            self._settings[step] = self.settings_digest(step)
        return self._settings[step]
