"""The result of a benchmark: what the registry publishes with a version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Result:
    """One metric of one task, measured on one version.

    task: a file of benchmarks/tasks. on: the day of the labels; a later one than the version's own
    for a task about the future. value, with its interval (low, high) of 95 % by resampled users or
    producers. n: how many of them were judged. baselines: the same metric of others, by name.
    """

    task: str
    metric: str
    on: date
    value: float
    low: float
    high: float
    n: int
    baselines: dict[str, float]

    @property
    def name(self) -> str:
        """As in MLflow and in tables: retrieval_ndcg20."""
        return f"{self.task}_{self.metric}"
