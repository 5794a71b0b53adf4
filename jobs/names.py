"""Names that users choose: for columns of their logs, embeddings and models."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_NAME = 100  # characters of a label or a context: names of facts are made of it
# As embeddings.registry.versions.NAME, whose import takes longer than the settings may.
PUBLISHED = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
NOT_IN_MODELS = "/:.%\"'\\"  # MLflow refuses them, or takes them for something else
UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def metric_name(name: str, longest: int = 250) -> str:
    """The name of a metric, a parameter or a tag in MLflow.

    MLflow accepts letters, digits, _ - . space and /; any other character becomes _.
    """
    return re.sub(r"[^\w\-. /]", "_", name)[:longest]


def column_name(name: str) -> str:
    """The name of a column of a published table: as it is, where the registry accepts it.

    Otherwise other characters become _, and a digest keeps it apart from similar ones.
    """
    safe = UNSAFE.sub("_", name)[:LONGEST_NAME]
    if safe == name:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{safe[: LONGEST_NAME - 9]}_{digest}"


def published_name(name: str) -> str:
    """Return the name. Raises ValueError where the registry could not publish under it."""
    if not PUBLISHED.fullmatch(name):
        raise ValueError(
            "expected 1 to 100 letters, digits, _ and -, the first one a letter or a digit"
        )
    return name


def model_name(name: str) -> str:
    """Return the name. Raises ValueError where MLflow could not register a model under it."""
    printable = name.isprintable() and name == name.strip()
    if not printable or not 1 <= len(name) <= LONGEST_NAME or set(name) & set(NOT_IN_MODELS):
        raise ValueError(
            f"expected 1 to {LONGEST_NAME} printable characters without any of {NOT_IN_MODELS}"
        )
    return name


def near(name: str, known: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """What a misspelt name may have meant, the most similar first."""
    return get_close_matches(name, list(known), 3, cutoff)


def require_names(option: str, names: Iterable[str]) -> None:
    """Raise ValueError for a name that no column can have, or two that Spark or MLflow confuse."""
    known: dict[str, str] = {}
    for name in names:
        if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
            raise ValueError(
                f"{option}: {name!r} cannot be a name; expected 1 to {LONGEST_NAME} printable "
                "characters"
            )
        alike = re.sub(r"\s", "_", metric_name(name)).casefold()
        if alike in known:
            raise ValueError(
                f"{option}: {known[alike]!r} and {name!r} cannot be told apart everywhere: Spark "
                "ignores case, and MLflow most punctuation. Rename one of them"
            )
        known[alike] = name
