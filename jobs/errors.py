"""Errors that a user, a file or a cluster can cause.

Every message names the culprit, what was expected and the remedy.
"""


class EvergreenError(Exception):
    """Base of all errors that are shown to the user as one paragraph, without a traceback."""


class SettingsError(EvergreenError):
    """A settings file or environment variable that is invalid."""


class BadInput(EvergreenError):
    """A source file that cannot be read in the format that was declared."""


class UntrustedDay(EvergreenError):
    """A day whose data failed validation as a whole; names the expectation and the figure."""


class NotCommitted(EvergreenError):
    """A partition that was requested and does not exist."""


class DamagedPartition(EvergreenError):
    """A committed partition of which a file is missing or was changed."""


class Superseded(EvergreenError):
    """A runner that was thought dead: another one has taken over its step and day."""


class Inconsistent(EvergreenError):
    """One vector that has two values, depending on how it is read."""


class StorageError(EvergreenError):
    """A disk that is full, cannot be written, or is gone."""


class TaskError(EvergreenError):
    """A Spark task that failed; another attempt may succeed."""


class Skip(Exception):
    """Not an error: the step has nothing to do on this day, for the reason in the message."""
