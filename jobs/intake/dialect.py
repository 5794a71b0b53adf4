"""How a log writes its rows as text."""

from __future__ import annotations

from dataclasses import dataclass

# Runs of blanks and tabs, as in most lists of edges.
WHITE_SPACE = "whitespace"
# Stands for a separator of several characters while a line is taken apart.
STAND_IN = b"\x1f"
NULLS = ("", "NULL", "null", "Null", "\\N", "NaN", "nan", "None", "<NA>", "N/A", "#N/A")


@dataclass(frozen=True)
class Dialect:
    """separator: one or more characters, or WHITE_SPACE. quote, escape: one character, or none.

    comments: a line that begins with one of these characters is none. names: those of the columns
    of a file without a header line; with more fields than names, the rest is not read. optional:
    so many of the last names, a line may lack.
    """

    separator: str = ","
    quote: str = '"'
    escape: str = ""
    encoding: str = "utf-8"
    comments: str = ""
    names: tuple[str, ...] = ()
    nulls: tuple[str, ...] = NULLS
    optional: int = 0

    @property
    def byte(self) -> bytes:
        """The single byte that separates the fields once `plain` has seen the lines."""
        if self.separator == WHITE_SPACE:
            return b"\t"
        written = self.separator.encode()
        return written if len(written) == 1 else STAND_IN
