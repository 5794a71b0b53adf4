"""What a user of the registry can get wrong. Every message names the culprit, what exists and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class RegistryError(Exception):
    """Base of all errors of the registry: told to the user as one paragraph, without a traceback."""


class NotFound(RegistryError):
    """Something that was asked for by name and is not there. `near`: names that are, and look like it."""

    def __init__(self, message: str, near: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.near = list(near)


class UnknownName(NotFound):
    """No embedding of that name."""


class UnknownVersion(NotFound):
    """No version of that day, revision or alias."""


class UnknownEntity(NotFound):
    """A version has no vectors of that entity."""


class UnknownId(NotFound):
    """Nobody of that id has a vector."""


class BadRequest(RegistryError):
    """A question that cannot be meant: malformed, or without an answer."""


class BadVersion(RegistryError):
    """Vectors that cannot be published: names the array, the row and what was expected."""


class SpaceMismatch(RegistryError):
    """A version loaded against another space; names both."""


class DamagedVersion(RegistryError):
    """Files of a version that are missing, cut or changed."""


class CatalogError(RegistryError):
    """A catalog that cannot be opened."""


def missing(
    kind: str, wanted: str, exist: Iterable[str], near: Sequence[str] | None = None, of: str = ""
) -> tuple[str, list[str]]:
    """The message and the near misses for something that is not among those that exist.

    kind: what it is, as in "embedding". near: where likeness of spelling is not what counts. of: what it should be in.
    """
    exist = list(exist)
    near = list(near) if near is not None else get_close_matches(wanted, exist, n=3)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    whose = f" in {of}" if of else ""
    return f"There is no {kind} {wanted!r}{whose}.{hint} {_listing(exist)}", near


def _listing(exist: list[str], limit: int = 12) -> str:
    if not exist:
        return "There is none yet."
    more = f" and {len(exist) - limit} more" if len(exist) > limit else ""
    return f"There is: {', '.join(exist[-limit:])}{more}."
