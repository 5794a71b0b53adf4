"""When the bytes of a version were last compared with their digests, and what was wrong with them.

Opening a version only maps its files: reading them all takes as long as the disk needs. So they are
read some at a time, the versions first that were not for longest, and the result is recorded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from embeddings.registry.catalog import VerificationRow, VersionRow
from embeddings.registry.versions import version_id

KEPT = 20  # faults of a version that are recorded


@dataclass(frozen=True)
class Verification:
    """The last time that the files of a version were read.

    verified_at: UTC. faults: what was wrong with them; empty if nothing was.
    """

    verified_at: datetime
    faults: list[str]


@dataclass(frozen=True)
class Verified:
    """What is known of the bytes of all versions.

    unverified: how many were never read since their publication. oldest: the first of the last
    verifications, UTC; None without any. damaged: id -> its faults.
    """

    versions: int
    unverified: int
    oldest: datetime | None
    damaged: dict[str, list[str]] = field(default_factory=dict)


def record(session: Session, version: VersionRow, faults: list[str], size_bytes: int) -> None:
    """Record that the files of a version were read now."""
    shown = faults[:KEPT]
    if len(faults) > KEPT:
        shown.append(f"and {len(faults) - KEPT} more")
    now = datetime.now(UTC).replace(tzinfo=None)
    session.merge(VerificationRow(version_key=version.key, verified_at=now, faults=shown))
    if not faults:
        version.size_bytes = size_bytes


def forget_faults(session: Session, version: VersionRow) -> None:
    """Forget the faults of a version whose files have been replaced."""
    row = session.get(VerificationRow, version.key)
    if row is not None and row.faults:
        session.delete(row)


def of_embedding(session: Session, name: str) -> dict[str, Verification]:
    """The last verification of every version that has one, by its id."""
    rows = session.execute(
        select(VersionRow, VerificationRow)
        .join(VerificationRow, VerificationRow.version_key == VersionRow.key)
        .where(VersionRow.name == name)
    )
    found = {}
    for version, row in rows:
        id_ = version_id(version.name, version.day, version.revision)
        found[id_] = Verification(row.verified_at.replace(tzinfo=UTC), row.faults)
    return found


def due(session: Session) -> list[VersionRow]:
    """All versions: first those that were never read, then those that were not for longest."""
    rows = session.execute(
        select(VersionRow, VerificationRow.verified_at).outerjoin(
            VerificationRow, VerificationRow.version_key == VersionRow.key
        )
    )
    never = datetime.min
    in_order = sorted(rows, key=lambda row: (row[1] or never, row[0].key))
    return [version for version, _ in in_order]


def of_all(session: Session) -> Verified:
    """What is known of all versions."""
    rows = session.execute(
        select(VersionRow.name, VersionRow.day, VersionRow.revision, VerificationRow).outerjoin(
            VerificationRow, VerificationRow.version_key == VersionRow.key
        )
    ).all()
    times = [row.verified_at for *_, row in rows if row is not None]
    damaged = {}
    for name, day, revision, row in rows:
        if row is not None and row.faults:
            damaged[version_id(name, day, revision)] = row.faults
    oldest = min(times).replace(tzinfo=UTC) if times else None
    return Verified(len(rows), len(rows) - len(times), oldest, damaged)
