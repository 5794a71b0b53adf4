"""The table [guardrails] of the settings file: what else the gate asks of a challenger."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from jobs.section import Section


class GuardrailSettings(Section):
    """Bounds that keep a challenger from being promoted, whatever its AUC. A person's word stands
    above them."""

    shapeless: ClassVar[frozenset[str]] = frozenset({"max_seconds_ratio"})

    max_auc_loss: float = Field(default=1.0, gt=0, le=1)
    """AUC of the primary label that a challenger may lose, by the lower end of the interval of its
    difference: how much worse it could be. 1: the gate refuses only what is significantly worse."""

    max_coverage_loss: float = Field(default=0.1, ge=0, le=1)
    """By what part fewer rows of the tested day may have a vector of their consumer, or of their
    producer, in the challenger's version of the embedding than in the champion's."""

    max_missing_change: float = Field(default=0.2, ge=0, le=1)
    """By how much the share of rows without a value in any one feature may differ between the
    tested day and the newest day that the challenger was trained on."""

    min_neighbour_overlap: float = Field(default=0.05, ge=0, le=1)
    """Share of the ten nearest neighbours in the champion's version of the embedding that at least
    are among those in the challenger's, of consumers and of producers."""

    max_operations_ratio: float = Field(default=3.0, ge=1)
    """Multiplications and additions of the challenger for one row, over those of the champion."""

    max_seconds_ratio: float = Field(default=3.0, ge=1)
    """Time of the challenger for the same rows, over that of the champion. Above it, the step
    `evaluate` logs a warning; it refuses nothing, because a time is another one each time."""
