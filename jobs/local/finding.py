"""The result of one check of `evergreen doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    state: "missing" if Evergreen cannot run, "warning" if it runs with a drawback.
    """

    subject: str
    found: str
    state: Literal["good", "missing", "warning"] = "good"
    remedy: str = ""

    @property
    def missing(self) -> bool:
        return self.state == "missing"
