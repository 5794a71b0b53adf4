"""Texts as tokens: words, hashtags, mentions and links, as short messages have them."""

from __future__ import annotations

import re
import unicodedata

KINDS = ("word", "hashtag", "mention", "link")
# A link first: what follows its scheme is no words. An apostrophe inside a word belongs to it.
TOKEN = re.compile(r"https?://\S+|[#@$]?\w+(?:['’]\w+)*")
AFTER_LINKS = ".,;:!?)]}\"'’…"  # what a sentence adds to a link
RETWEET = "rt"
LONGEST = 100  # characters of a token; what is longer is none


def tokens(text: str) -> list[str]:
    """The tokens of a text in order: links as they are, everything else in lower case."""
    found = []
    for token in TOKEN.findall(unicodedata.normalize("NFC", text)):
        if token.startswith(("http://", "https://")):
            token = token.rstrip(AFTER_LINKS)
        else:
            token = token.lower()
        if len(token) <= LONGEST:
            found.append(token)
    return found


def content_of(words: list[str]) -> str:
    """What copies of a text have in common: its words, without the marks of a retweet, and links.

    Copies in both halves of a period's texts would make the halves alike without any meaning. Of a
    text without such words, all its tokens: or all of these would be in one half.
    """
    plain = " ".join(word for word in words if kind_of(word) == "word" and word != RETWEET)
    return plain or " ".join(words)


def kind_of(token: str) -> str:
    """Which of KINDS a token is; a phrase is a word."""
    if token.startswith("#"):
        return "hashtag"
    if token.startswith("@"):
        return "mention"
    return "link" if token.startswith(("http://", "https://")) else "word"
