"""Facts: the figures and texts that a computation reports about its result, and what they mean.

Each is declared beside the code that computes it. Code that shows, tracks or publishes facts reads
the declaration (unit, which direction is better, whether it is a headline) and matches no names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Fact:
    """The declaration of one fact, or of a family of facts that differ in one part of their name.

    name: as it is reported. One part in angle brackets stands for any text that is not empty:
    `auc_<label>` declares every longer name that begins with "auc_".
    """

    name: str
    meaning: str
    unit: str = ""  # "rows", "share", "days", …; empty for a text or a pure number
    better: Literal["higher", "lower", ""] = ""  # empty: neither direction is better
    headline: bool = False  # also shown on the day's own run, and published with the version

    def declares(self, name: str) -> bool:
        """Is `name` this fact, or one of its family?"""
        prefix, bracket, rest = self.name.partition("<")
        if not bracket:
            return name == self.name
        suffix = rest.partition(">")[2]
        fits = name.startswith(prefix) and name.endswith(suffix)
        return fits and len(name) > len(prefix) + len(suffix)


def declaration(declared: Iterable[Fact], name: str) -> Fact | None:
    """The first of these declarations that declares `name`; None if there is none."""
    for fact in declared:
        if fact.declares(name):
            return fact
    return None


def headlines(declared: Iterable[Fact], facts: dict[str, Any]) -> dict[str, Any]:
    """The facts among these that are declared as headlines."""
    declared = list(declared)  # it is read once per fact, which would exhaust an iterator
    chosen = {}
    for name, value in facts.items():
        fact = declaration(declared, name)
        if fact is not None and fact.headline:
            chosen[name] = value
    return chosen
