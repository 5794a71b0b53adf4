"""The table [words] of the settings file: where texts are, and how words are learned from them."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from jobs.names import published_name
from jobs.section import Section


class WordsSettings(Section):
    """Texts whose words are embedded every week. Without this table, there is no DAG for it."""

    shapeless: ClassVar[frozenset[str]] = frozenset({"path"})

    texts: Literal["jsonl", "simulated"] = "jsonl"
    """Where the texts are: in files with a JSON object per line; or those of the simulated world of
    `[source]`, in which some words are planted twice, as synonyms."""

    path: Path = Path("texts/*.jsonl")
    """The files, as a glob; they may be compressed (`.gz`). A file per day or week is best: when a
    file has changed, the weeks that it has texts of are read again."""

    text: str = "text"
    """Field with the text."""

    time: str = "time"
    """Field with the time: ISO 8601, or as in Twitter's `created_at`, or a number."""

    time_unit: Literal["iso", "s", "ms"] = "iso"
    """What times are: texts, or seconds or milliseconds since 1970."""

    conversation: str = ""
    """Field with the conversation that a text is part of. Empty: every text is one by itself."""

    first_day: date | None = None
    """A day of the first week that is learned. Default: the first day of `[source]`."""

    name: Annotated[str, AfterValidator(published_name)] = "words"
    """Name of the published embedding."""

    vocabulary: int = Field(default=50_000, ge=10)
    """The most frequent N words and phrases are embedded."""

    min_count: int = Field(default=5, ge=1)
    """Occurrences in a week below which a word or phrase is left out."""

    phrase_passes: int = Field(default=1, ge=0, le=2)
    """How often neighbours are joined: once makes phrases of two words, twice of up to four."""

    phrase_threshold: float = Field(default=100.0, ge=0)
    """How many times more often than chance two words must follow each other to be a phrase."""

    phrase_discount: float = Field(default=5.0, ge=0)
    """Occurrences of two words that are taken off first, so that rare ones make no phrase."""

    window: int = Field(default=5, ge=1, le=100)
    """Words before and after one that occur together with it; the nearest count most."""

    dim: int = Field(default=64, ge=1, le=1000)
    """Length of one vector."""

    epochs: int = Field(default=15, ge=1)
    """How often every pair is passed."""

    batches: int = Field(default=50, ge=1)
    """Updates of the output vectors in one epoch."""

    negatives: int = Field(default=5, ge=1, le=1000)
    """Words drawn at random for every pair, above which it has to score."""

    negative_exponent: float = Field(default=0.75, ge=-2, le=2)
    """Words are drawn in proportion to their counts to this power."""

    subsample: float = Field(default=1e-3, ge=0)
    """Share of all words above which a word is passed less often. 0: for none."""

    learning_rate: float = Field(default=0.2, gt=0)
    """Length of the first steps, per coordinate; it falls linearly to zero."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the training."""
