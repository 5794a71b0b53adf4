"""The fields of one line of texts."""

from __future__ import annotations

import json

import pytest

from jobs.settings import WordsSettings
from jobs.words.reading import fields_of

CFG = WordsSettings(path="texts.jsonl", text="said", time="at", conversation="thread")
AT = "2024-01-03T10:00:00+0000"


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"said": "Olá", "at": AT, "thread": 7}, (b"7", AT, "Olá".encode())),
        ({"said": "a", "at": AT}, (None, AT, b"a")),
        ({"said": "a", "at": AT, "thread": None}, (None, AT, b"a")),
        ({"said": "a", "at": AT, "thread": ""}, (None, AT, b"a")),
        ({"said": "a", "at": "Wed Jan 03 10:00:00 +0000 2024"}, (None, AT, b"a")),
        ({"said": "a", "at": 1704276000}, (None, "1704276000", b"a")),
        ({"said": ["a"], "at": AT}, (None, None, None)),
        ({"said": "a"}, (None, None, None)),
        (["no", "object"], (None, None, None)),
    ],
)
def test_what_a_line_says(record, expected):
    """Without a conversation, or with an empty one, a text stands alone."""
    assert fields_of(CFG, json.dumps(record)) == expected
