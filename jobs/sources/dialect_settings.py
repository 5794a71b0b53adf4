"""Options that several sources share: how a log's text is written."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal

from pydantic import AfterValidator

TimeUnit = Literal["s", "ms", "us", "ns", "iso"]
RESERVED = {'"', "\n", "\r"}


def known_separator(separator: str) -> str:
    if separator == "whitespace":
        return separator
    if not separator or RESERVED & set(separator):
        raise ValueError(
            "expected one or more characters without quotes and line breaks, such as ',' or '::', "
            "or 'whitespace' for runs of blanks and tabs"
        )
    if len(separator.encode()) == 1 and not separator.isascii():
        raise ValueError("expected ASCII characters")
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


def one_character(text: str) -> str:
    if len(text) > 1 or not text.isascii() or text in ("\n", "\r"):
        raise ValueError("expected one ASCII character, or nothing")
    return text


Separator = Annotated[str, AfterValidator(known_separator)]
Encoding = Annotated[str, AfterValidator(known_encoding)]
OneCharacter = Annotated[str, AfterValidator(one_character)]
