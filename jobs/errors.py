"""What a user, a file or a cluster can get wrong. Every message names the culprit, what was expected and the remedy."""


class EvergreenError(Exception):
    """Base of all errors that are told to the user as one paragraph, without a traceback."""


class SettingsError(EvergreenError):
    """A settings file or variable that cannot be meant."""


class BadInput(EvergreenError):
    """A source file that cannot be read as what it claims to be."""


class UntrustedDay(EvergreenError):
    """A day whose data failed validation as a whole; names the expectation and the figure."""


class NotCommitted(EvergreenError):
    """A partition that was asked for and is not there."""


class Skip(Exception):
    """Not an error: the step has nothing to do on this day (a table the source does not have). Says why."""
