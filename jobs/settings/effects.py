"""Options that were set and have no effect on this log, each with the reason.

One table. A rule looks at settings alone, so what only the rows of a log show is not found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from jobs.settings import Settings

RANKER = (
    "start_day",
    "window_days",
    "primary_label",
    "weights",
    "retrain",
    "batch_size",
    "negatives_kept",
    "id_buckets",
    "admit_after",
    "warm_start",
    "tables",
    "promotion",
)


@dataclass(frozen=True)
class Rule:
    """options: of a section. why: why they have no effect; "" where they have one."""

    section: str
    options: tuple[str, ...]
    why: Callable[[Settings], str]


def no_impressions(settings: Settings) -> str:
    return "" if settings.source.has_impressions else "the log has no labels, so no impressions"


def no_values(settings: Settings) -> str:
    return "" if settings.source.has_values else "the log has no `value`: every row counts 1"


def labels_are_merged(settings: Settings) -> str:
    merged = settings.validation.merge_labels and settings.source.has_impressions
    return "merge_labels makes one row of the repeats of an impression" if merged else ""


def rows_are_not_judged(settings: Settings) -> str:
    judged = settings.validation.min_rows_share
    return "" if judged else "min_rows_share is 0, so no day has too few rows"


def too_few_days_before(settings: Settings) -> str:
    limits = settings.validation
    if limits.median_min_days <= limits.median_days:
        return ""
    return f"median_min_days is larger ({limits.median_min_days}), so no day is judged by its rows"


def daily_training(settings: Settings) -> str:
    return 'retrain is "daily"' if settings.ranker.retrain == "daily" else ""


def trained_anew(settings: Settings) -> str:
    return "" if settings.ranker.warm_start else "warm_start is false"


def all_admitted(settings: Settings) -> str:
    return "" if settings.ranker.admit_after else "admit_after is 0, so every bucket has a vector"


def closed_log(settings: Settings) -> str:
    return "" if settings.services.live else "live is false, so all days are over"


def no_sessions_are_read(settings: Settings) -> str:
    embeddings = [settings.embedding, *settings.further.values()]
    reading = any(embedding.learns_from_sessions for embedding in embeddings)
    return "" if reading else 'no embedding has `cooccurrence.pairs = "sessions"`'


def unknown_rank(settings: Settings) -> str:
    return unknown_kinds(settings, [settings.matrix.rank_by])


def unknown_primary(settings: Settings) -> str:
    return unknown_labels(settings, [settings.ranker.primary_label])


RULES = (
    Rule("validation", ("merge_labels",), no_impressions),
    Rule("validation", ("repeats",), labels_are_merged),
    Rule("validation", ("max_value_ratio",), no_values),
    Rule("validation", ("median_days", "median_min_days"), rows_are_not_judged),
    Rule("validation", ("min_rows_share", "median_days"), too_few_days_before),
    Rule("matrix", ("rank_by",), unknown_rank),
    Rule("matrix", ("session_minutes",), no_sessions_are_read),
    Rule("ranker", RANKER, no_impressions),
    Rule("ranker", ("primary_label",), unknown_primary),
    Rule("ranker", ("retrain_delta",), daily_training),
    Rule("ranker", ("warm_rate", "evict_after_days"), trained_anew),
    Rule("ranker", ("evict_after_days",), all_admitted),
    Rule("services", ("lateness",), closed_log),
)


def without_effect(settings: Settings) -> list[str]:
    """One sentence for every option that is not its default and has no effect."""
    found: dict[str, str] = {}  # of several reasons the first
    for rule in RULES:
        section = getattr(settings, rule.section)
        for option in rule.options:
            if is_set(section, option) and (why := rule.why(settings)):
                found.setdefault(f"{rule.section}.{option}", why)
    for kind in settings.matrix.weights:
        if why := unknown_kinds(settings, [kind]):
            found[f"matrix.weights.{kind}"] = why
    for label in settings.ranker.weights:
        if why := unknown_labels(settings, [label]):
            found.setdefault(f"ranker.weights.{label}", why)
    return [f"{option} has no effect: {why}." for option, why in found.items()]


def is_set(section: BaseModel, option: str) -> bool:
    """Does an option have another value than its default?"""
    default = type(section).model_fields[option].get_default(call_default_factory=True)
    return getattr(section, option) != default


def unknown_kinds(settings: Settings, named: Iterable[str]) -> str:
    return unknown(named, settings.source.known_kinds, "kinds of engagements")


def unknown_labels(settings: Settings, named: Iterable[str]) -> str:
    return unknown(named, settings.source.known_labels, "labels")


def unknown(named: Iterable[str], known: frozenset[str] | None, what: str) -> str:
    """known: None where the settings do not tell."""
    if known is None or not set(named) - known:
        return ""
    return f"the log's {what} are {', '.join(sorted(known))}"
