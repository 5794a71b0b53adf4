"""The result of a benchmark: what the registry publishes with a version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Result:
    """One metric of one task, measured on one version.

    task: a file of benchmarks/tasks. on: the day of the labels; a later one than the version's own
    for a task about the future. value, with its interval (low, high) of 95 % by resampled users or
    producers. n: how many of them were judged. baselines: the same metric of others, by name. dim:
    the length to which the vectors were shortened; 0: they are whole.
    """

    task: str
    metric: str
    on: date
    value: float
    low: float
    high: float
    n: int
    baselines: dict[str, float]
    dim: int = 0

    @property
    def name(self) -> str:
        """As in MLflow and in tables: retrieval_ndcg20, retrieval_ndcg20_16_dims."""
        name = f"{self.task}_{self.metric}"
        return f"{name}_{self.dim}_dims" if self.dim else name


def whole(results: Iterable[Result]) -> list[Result]:
    """Those of whole vectors."""
    return [result for result in results if not result.dim]


# The results of one metric by the day of their labels; None for those of the version's own day.
ByDay = dict[date | None, Result]


def by_metric(versions: Iterable[tuple[date, Iterable[Result]]]) -> dict[tuple[str, str], ByDay]:
    """The results of some versions by task and metric, a later one replacing those before it.

    Only those of whole vectors. versions: the day of each, and its results.
    """
    found: dict[tuple[str, str], ByDay] = {}
    for day, results in versions:
        for result in whole(results):
            on = None if result.on == day else result.on
            found.setdefault((result.task, result.metric), {})[on] = result
    return found
