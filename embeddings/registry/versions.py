"""What a version is, and the catalog's queries for versions and aliases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from embeddings.registry.catalog import AliasRow, VersionRow
from embeddings.registry.errors import UnknownName, UnknownVersion, missing
from embeddings.registry.files import folder

Row = TypeVar("Row", VersionRow, AliasRow)
LATEST = "latest"  # the alias of the newest published day
# Names of embeddings, entities and aliases: safe in paths, in URLs and in every catalog.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True)
class Version:
    """One published version.

    entities: entity -> its numbers of "rows", "folded" rows and "engagements". lineage: what the
    version was computed from. published_at: UTC, for people only: no decision depends on it.
    """

    name: str
    day: date
    revision: int
    space: str
    digest: str
    dim: int
    path: Path
    entities: dict[str, dict[str, int]] = field(hash=False)
    lineage: dict[str, Any] = field(hash=False)
    published_at: datetime

    @property
    def id(self) -> str:
        """NAME/DAY.rREVISION, as in author/2022-04-25.r1."""
        return f"{self.name}/{self.day}.r{self.revision}"


def as_version(row: VersionRow, root: Path) -> Version:
    """A catalog row as a version whose files are below `root`."""
    return Version(
        name=row.name,
        day=row.day,
        revision=row.revision,
        space=row.space,
        digest=row.digest,
        dim=row.dim,
        path=folder(root, row.name, row.day, row.digest),
        entities=row.entities,
        lineage=row.lineage,
        published_at=row.published_at.replace(tzinfo=UTC),
    )


def as_row(manifest: dict[str, Any], day: date, revision: int) -> VersionRow:
    """The catalog row of a manifest."""
    content = manifest["content"]
    return VersionRow(
        name=content["name"],
        day=day,
        revision=revision,
        space=content["space"],
        digest=manifest["digest"],
        dim=content["dim"],
        entities=content["entities"],
        lineage=manifest["lineage"],
        published_at=datetime.now(UTC).replace(tzinfo=None),
    )


def record(session: Session, manifest: dict[str, Any], day: date) -> VersionRow:
    """The catalog row of this content, added as the day's next revision if it is new.

    A new version moves 'latest' forward, never back to an older day.
    """
    of_day = (VersionRow.name == manifest["content"]["name"], VersionRow.day == day)
    row = session.scalar(select(VersionRow).where(*of_day, VersionRow.digest == manifest["digest"]))
    if row is None:
        last = session.scalar(select(func.max(VersionRow.revision)).where(*of_day)) or 0
        row = as_row(manifest, day, revision=last + 1)
        session.add(row)
        session.flush()  # gives the row the key that an alias refers to
        point(session, LATEST, row, only_forward=True)
    return row


def point(session: Session, alias: str, row: VersionRow, only_forward: bool) -> VersionRow:
    """Move an alias to a version and return the version it now points at.

    only_forward: leave the alias unchanged if the move would be to an older version.
    """
    pointer = session.get(AliasRow, (row.name, alias))
    if pointer is None:
        session.add(AliasRow(name=row.name, alias=alias, version=row))
        return row
    current = pointer.version
    is_older = (row.day, row.revision) < (current.day, current.revision)
    if not (only_forward and is_older):
        pointer.version = row
    return pointer.version


def names(session: Session) -> list[str]:
    """The names of all embeddings, sorted."""
    return list(session.scalars(select(VersionRow.name).distinct().order_by(VersionRow.name)))


def every(session: Session, name: str) -> list[VersionRow]:
    """All versions of an embedding, by day and revision. Raises UnknownName."""
    in_order = _of(name).order_by(VersionRow.day, VersionRow.revision)
    return known(session, name, session.scalars(in_order).all())


def aliases(session: Session, name: str) -> list[AliasRow]:
    """All aliases of an embedding, sorted by alias. Raises UnknownName."""
    if not NAME.fullmatch(name):
        return known(session, name, [])
    in_order = select(AliasRow).where(AliasRow.name == name).order_by(AliasRow.alias)
    return known(session, name, session.scalars(in_order).all())


def aliased(session: Session, name: str, alias: str) -> VersionRow:
    """The version that an alias points at. Raises UnknownName, UnknownVersion."""
    if NAME.fullmatch(name) and NAME.fullmatch(alias):
        pointer = session.get(AliasRow, (name, alias))
        if pointer is not None:
            return pointer.version
    existing = _days(every(session, name))
    existing += [row.alias for row in aliases(session, name)]
    raise UnknownVersion(*missing("day or alias", alias, existing, of=name))


def of_day(session: Session, name: str, day: date, revision: int | None) -> VersionRow:
    """The given revision of a day, by default its last. Raises UnknownName, UnknownVersion."""
    in_order = _of(name).where(VersionRow.day == day).order_by(VersionRow.revision)
    rows = session.scalars(in_order).all()
    if not rows:
        days = _days(every(session, name))
        nearest = sorted(days, key=lambda other: abs(date.fromisoformat(other) - day))[:2]
        raise UnknownVersion(*missing("version of day", str(day), days, nearest, of=name))
    if revision is None:
        return rows[-1]
    for row in rows:
        if row.revision == revision:
            return row
    existing = [f"{row.day}.r{row.revision}" for row in rows]
    last = existing[-1:]
    raise UnknownVersion(*missing("version", f"{day}.r{revision}", existing, last, of=name))


def known(session: Session, name: str, rows: Sequence[Row]) -> list[Row]:
    """The rows found for a name, as a list. Raises UnknownName if there are none.

    Every embedding has at least one version and the alias 'latest'.
    """
    if not rows:
        raise UnknownName(*missing("embedding", name, names(session)))
    return list(rows)


def _of(name: str) -> Select[VersionRow]:
    """The versions of an embedding."""
    # PostgreSQL rejects texts with a NUL, so a text that cannot be a name is never sent to it.
    valid = name if NAME.fullmatch(name) else ""
    return select(VersionRow).where(VersionRow.name == valid)


def _days(rows: list[VersionRow]) -> list[str]:
    """The days of these versions, sorted, each once."""
    return sorted({str(row.day) for row in rows})
