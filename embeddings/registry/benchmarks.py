"""The catalog's queries for the results of benchmarks.

A version's vectors never change, but what is known of them grows: the days after it bring labels.
Results are only added. The same one measured again, after its labels were corrected, is added too,
and is the one that counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from embeddings.benchmarks.results import Result
from embeddings.registry.catalog import BenchmarkRow, VersionRow
from embeddings.registry.errors import BadRequest
from embeddings.registry.versions import version_id

PART = re.compile(r"[a-z][a-z0-9_]{0,99}")  # of a result's name


def add(session: Session, version: VersionRow, results: Iterable[Result]) -> int:
    """Add results to a version's record; those that it has are left out. Returns how many."""
    known = {identity(result): result for result in of_version(session, version)}
    added = 0
    for result in results:
        require_valid(result)
        if known.get(identity(result)) != result:
            session.add(as_row(version, result))
            added += 1
    return added


def of_version(session: Session, version: VersionRow) -> list[Result]:
    """The results that count, by task, metric, length and day."""
    rows = session.scalars(
        select(BenchmarkRow)
        .where(BenchmarkRow.version_key == version.key)
        .order_by(BenchmarkRow.key)
    )
    return newest(as_result(row) for row in rows)


def of_embedding(session: Session, name: str) -> dict[str, list[Result]]:
    """The results that count of every version of an embedding that has any, by its id."""
    rows = session.execute(
        select(BenchmarkRow, VersionRow.day, VersionRow.revision)
        .join(VersionRow, VersionRow.key == BenchmarkRow.version_key)
        .where(VersionRow.name == name)
        .order_by(BenchmarkRow.key)
    )
    found: dict[str, list[Result]] = {}
    for row, day, revision in rows:
        found.setdefault(version_id(name, day, revision), []).append(as_result(row))
    return {id_: newest(results) for id_, results in found.items()}


def newest(results: Iterable[Result]) -> list[Result]:
    """Of each task, metric, length and day the last one, sorted by these."""
    found = {identity(result): result for result in results}
    return [found[key] for key in sorted(found)]


def identity(result: Result) -> tuple[str, str, int, str]:
    return result.task, result.metric, result.dim, str(result.on)


def as_row(version: VersionRow, result: Result) -> BenchmarkRow:
    return BenchmarkRow(
        version_key=version.key,
        task=result.task,
        metric=result.metric,
        dim=result.dim,
        day=result.on,
        value=result.value,
        low=result.low,
        high=result.high,
        judged=result.n,
        baselines=result.baselines,
        recorded_at=datetime.now(UTC).replace(tzinfo=None),
    )


def as_result(row: BenchmarkRow) -> Result:
    return Result(
        task=row.task,
        metric=row.metric,
        on=row.day,
        value=row.value,
        low=row.low,
        high=row.high,
        n=row.judged,
        baselines=row.baselines,
        dim=row.dim,
    )


def require_valid(result: Result) -> None:
    """Raises BadRequest for a result that a table or a page could not show."""
    if not (PART.fullmatch(result.task) and PART.fullmatch(result.metric)):
        raise BadRequest(
            f"{result.task!r} and {result.metric!r} must be a task and a metric: lower-case "
            "letters, digits and _, at most 100."
        )
    numbers: Sequence[float] = (result.value, result.low, result.high, *result.baselines.values())
    if not all(map(math.isfinite, numbers)):
        raise BadRequest(
            f"The result {result.name} of {result.on} has a number that is not finite."
        )
