"""Options that several sources share: how a log's text is written."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal

from pydantic import AfterValidator

from jobs.intake.dialect import STAND_IN, WHITE_SPACE

TimeUnit = Literal["s", "ms", "us", "ns", "iso"]
NEVER = "\0\n\r"  # they end a line, or no text has them
BLANKS = " \t\v\f"


def may_mark(character: str) -> bool:
    """Can it stand between fields? What ids and numbers are made of cannot."""
    return character.isascii() and not character.isalnum() and character not in NEVER


def known_separator(separator: str) -> str:
    if separator == WHITE_SPACE:
        return separator
    if not separator or not all(map(may_mark, separator)):
        raise ValueError(
            "expected one or more ASCII characters without letters, digits, NUL and line breaks, "
            "such as ',' or '::', or 'whitespace' for runs of blanks and tabs"
        )
    return separator


def known_encoding(encoding: str) -> str:
    try:
        codecs.lookup(encoding)
        "".encode(encoding)
    except LookupError:
        raise ValueError(
            "no such encoding; expected a name such as 'utf-8', 'latin-1' or 'cp1252'"
        ) from None
    return encoding


def marks(text: str) -> str:
    if not all(may_mark(character) and character not in BLANKS for character in text):
        raise ValueError(
            "expected ASCII characters without letters, digits, blanks, NUL and line breaks, "
            "or nothing"
        )
    return text


def one_mark(text: str) -> str:
    if len(text) > 1:
        raise ValueError("expected one ASCII character, or nothing")
    return marks(text)


def require_apart(separator: str, comments: str, quote: str = "", escape: str = "") -> None:
    """Raise ValueError where a character would mean two things in a line."""
    if separator == WHITE_SPACE and (quote or escape):
        raise ValueError(
            "separator = 'whitespace' divides a line at every blank, within quotes too: set "
            'quote = "" and no escape, or name the one character that separates the fields'
        )
    taken = "" if separator == WHITE_SPACE else separator
    if len(taken) > 1:
        taken += STAND_IN.decode()
    meaning = dict.fromkeys(taken, "separator")
    for option, characters in (("quote", quote), ("escape", escape), ("comments", comments)):
        for character in dict.fromkeys(characters):
            if other := meaning.get(character):
                raise ValueError(
                    f"{option} has {character!r}, which {other} has too; expected characters that "
                    f"differ. Change {option} or {other} to what the log is written with"
                )
            meaning[character] = option


Separator = Annotated[str, AfterValidator(known_separator)]
Encoding = Annotated[str, AfterValidator(known_encoding)]
OneMark = Annotated[str, AfterValidator(one_mark)]
Marks = Annotated[str, AfterValidator(marks)]
