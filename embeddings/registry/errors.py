"""Errors of the registry. Every message names the culprit, what was expected and the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

LISTED = 12  # the most names that a message lists


class RegistryError(Exception):
    """Base of all registry errors: shown to the user as one paragraph, without a traceback."""


class NotFound(RegistryError):
    """A requested name or id does not exist. `near` holds similar ones that do."""

    def __init__(self, message: str, near: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.near = list(near)


class UnknownName(NotFound):
    """No embedding has that name."""


class UnknownVersion(NotFound):
    """No version has that day, revision or alias."""


class UnknownEntity(NotFound):
    """The version has no vectors of that entity."""


class UnknownFeature(NotFound):
    """The table has no column of that name."""


class UnknownId(NotFound):
    """The version has no vector for that id."""


class BadRequest(RegistryError):
    """A request that is malformed or has no answer."""


class Unauthorized(RegistryError):
    """A write over HTTP without the right token."""


class Forbidden(RegistryError):
    """A write to a service that was started without a token."""


class NotAcceptable(RegistryError):
    """An answer was requested over HTTP in a format that does not exist."""


class TooLarge(RegistryError):
    """A request over HTTP that is larger than the service reads; names the limit."""


class ServiceError(RegistryError):
    """A registry's service that cannot be reached, or that answers as none would."""


class BadVersion(RegistryError):
    """Vectors that cannot be published; names the array, the row and what was expected."""


class NotWritten(RegistryError, OSError):
    """The files of a version cannot be written; the registry is as it was.

    Also an OSError, with the number and the file name of what the disk reported.
    """

    def __str__(self) -> str:
        return str(self.strerror)  # without the number


class SpaceMismatch(RegistryError):
    """A version loaded against another space; names both."""


class DamagedVersion(RegistryError):
    """Files of a version are missing, truncated or changed."""


class PinnedVersion(RegistryError):
    """A version cannot be removed because an alias points at it; names the alias."""


class CatalogError(RegistryError):
    """The catalog cannot be opened."""


def missing(
    kind: str, wanted: str, exist: Iterable[str], near: Sequence[str] | None = None, of: str = ""
) -> tuple[str, list[str]]:
    """The message and the near misses for a name that does not exist.

    kind: what the name stands for, as in "embedding". exist: the names that do exist.
    near: the near misses, if similar spelling is the wrong measure. of: where it was looked up.
    """
    names = list(exist)
    close = list(near) if near is not None else get_close_matches(wanted, names, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    place = f" in {of}" if of else ""
    return f"There is no {kind} {wanted!r}{place}.{hint} {_listing(names)}", close


def _listing(names: list[str]) -> str:
    if not names:
        return "None exist yet."
    shown = ", ".join(names[-LISTED:])  # the last ones are the newest days
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"Available: {shown}{more}."
