"""The benchmarks of an embedding over time, as small curves with bands for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from embeddings.benchmarks.results import Result, whole
from embeddings.registry.client import Version
from embeddings.registry.curves import HEIGHT, MARGIN, WIDTH

HEADLINES = (("retrieval", "ndcg20"), ("jaccard", "cosine"))  # the first that there is


@dataclass(frozen=True)
class BenchmarkCurve:
    """One metric by the day of its labels, of the newest version that they judge.

    line, older, baseline: points of polylines, "x,y x,y"; band: those of a polygon, the 95 %
    intervals. older: of the oldest version that each day judges, empty where there is only one.
    baseline: the best one of each day, `baselines` the names of those. low, high: values of the
    lower and the upper edge. last: the newest result.
    """

    task: str
    metric: str
    line: str
    band: str
    older: str
    baseline: str
    baselines: list[str]
    low: float
    high: float
    last: Result
    days: int

    @property
    def title(self) -> str:
        return f"{self.task} {self.metric}".replace("_", " ")


@dataclass(frozen=True)
class Judged:
    """The results of one metric on one day: of the newest and of the oldest version judged."""

    newest: Result
    oldest: Result


def benchmark_curves(
    versions: Sequence[Version], results: Mapping[str, list[Result]]
) -> list[BenchmarkCurve]:
    """The curve of every metric, by task.

    versions: by day, as `Registry.versions` returns them; of a day only the last one counts.
    results: by the version's id, as `Registry.all_results` returns them.
    """
    current = {version.day: version for version in versions}
    metrics: dict[tuple[str, str], dict[date, Judged]] = {}
    for version in current.values():
        for result in whole(results.get(version.id, [])):
            days = metrics.setdefault((result.task, result.metric), {})
            before = days.get(result.on)
            days[result.on] = Judged(result, before.oldest if before else result)
    return [curve(metrics[key]) for key in sorted(metrics)]


def curve(judged: Mapping[date, Judged]) -> BenchmarkCurve:
    """The curve of one metric. judged: by day, at least one."""
    days = sorted(judged)
    newest = [judged[day].newest for day in days]
    is_older = [judged[day].oldest is not judged[day].newest for day in days]
    older = [judged[day].oldest.value for day in days]
    named = [best_baseline(result) for result in newest]
    values = [value for result in newest for value in (result.low, result.high)]
    values += [value for value, differs in zip(older, is_older, strict=True) if differs]
    values += [best[1] for best in named if best]
    low, high = min(values), max(values)
    spread = (high - low) or 1.0
    span = (days[-1] - days[0]).days or 1

    def point(day: date, value: float) -> str:
        x = MARGIN + (day - days[0]).days / span * (WIDTH - 2 * MARGIN)
        y = HEIGHT - MARGIN - (value - low) / spread * (HEIGHT - 2 * MARGIN)
        return f"{x:.1f},{y:.1f}"

    upper = [point(result.on, result.high) for result in newest]
    lower = [point(result.on, result.low) for result in newest]
    rows = list(zip(days, older, is_older, strict=True))
    best = [(day, found) for day, found in zip(days, named, strict=True) if found]
    return BenchmarkCurve(
        task=newest[-1].task,
        metric=newest[-1].metric,
        line=" ".join(point(result.on, result.value) for result in newest),
        band=" ".join([*upper, *reversed(lower)]),
        older=" ".join(point(day, value) for day, value, differs in rows if differs),
        baseline=" ".join(point(day, found[1]) for day, found in best),
        baselines=sorted({found[0] for _, found in best}),
        low=low,
        high=high,
        last=newest[-1],
        days=len(days),
    )


def best_baseline(result: Result) -> tuple[str, float] | None:
    """Name and value of the best baseline; None without any."""
    if not result.baselines:
        return None
    name = max(result.baselines, key=result.baselines.__getitem__)
    return name, result.baselines[name]


def headline(curves: Sequence[BenchmarkCurve]) -> BenchmarkCurve | None:
    """The curve that stands for an embedding; None where it has no benchmarks."""
    by_key = {(curve.task, curve.metric): curve for curve in curves}
    for key in HEADLINES:
        if key in by_key:
            return by_key[key]
    return curves[0] if curves else None
