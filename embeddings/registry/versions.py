"""What a version is, and how one is found in the catalog."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from embeddings.registry.catalog import AliasRow, VersionRow
from embeddings.registry.errors import UnknownName, UnknownVersion, missing
from embeddings.registry.files import folder

Row = TypeVar("Row", VersionRow, AliasRow)
LATEST = "latest"  # the alias of the newest day published
NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}"
)  # of an embedding, an entity, an alias: safe in paths and addresses


@dataclass(frozen=True)
class Version:
    """One published version. entities: rows, folded and engagements of each. lineage: what it was made from."""

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
        return f"{self.name}/{self.day}.r{self.revision}"


def as_version(row: VersionRow, root: Path) -> Version:
    """A row of the catalog with the place of its files below the root."""
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
    """The catalog's row for a manifest."""
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
    """The row of this content: the one that is there, or the next revision of its day, with 'latest' moved on."""
    of_day = (VersionRow.name == manifest["content"]["name"], VersionRow.day == day)
    row = session.scalar(select(VersionRow).where(*of_day, VersionRow.digest == manifest["digest"]))
    if row is None:
        last = session.scalar(select(func.max(VersionRow.revision)).where(*of_day)) or 0
        row = as_row(manifest, day, revision=last + 1)
        session.add(row)
        session.flush()
        point(session, LATEST, row, only_forward=True)
    return row


def point(session: Session, alias: str, row: VersionRow, only_forward: bool) -> VersionRow:
    """Move an alias to a version, or leave it where that would be back; returns the version it points at."""
    pointer = session.get(AliasRow, (row.name, alias))
    if pointer is None:
        session.add(AliasRow(name=row.name, alias=alias, version=row))
        return row
    if not only_forward or (row.day, row.revision) >= (
        pointer.version.day,
        pointer.version.revision,
    ):
        pointer.version = row
    return pointer.version


def names(session: Session) -> list[str]:
    return list(session.scalars(select(VersionRow.name).distinct().order_by(VersionRow.name)))


def every(session: Session, name: str) -> list[VersionRow]:
    """All versions of an embedding, oldest day and first revision first. Raises UnknownName."""
    return known(
        session,
        name,
        session.scalars(_of(name).order_by(VersionRow.day, VersionRow.revision)).all(),
    )


def aliases(session: Session, name: str) -> list[AliasRow]:
    """All aliases of an embedding, by alias. Raises UnknownName."""
    ordered = select(AliasRow).where(AliasRow.name == name).order_by(AliasRow.alias)
    return known(session, name, session.scalars(ordered).all() if NAME.fullmatch(name) else [])


def aliased(session: Session, name: str, alias: str) -> VersionRow:
    """The version that an alias points at. Raises UnknownName, UnknownVersion."""
    if (
        NAME.fullmatch(name)
        and NAME.fullmatch(alias)
        and (found := session.get(AliasRow, (name, alias))) is not None
    ):
        return found.version
    exist = [*_days(every(session, name)), *(row.alias for row in aliases(session, name))]
    raise UnknownVersion(*missing("day or alias", alias, exist, of=name))


def of_day(session: Session, name: str, day: date, revision: int | None) -> VersionRow:
    """The last revision of a day, or the one given. Raises UnknownName, UnknownVersion."""
    rows = session.scalars(
        _of(name).where(VersionRow.day == day).order_by(VersionRow.revision)
    ).all()
    if not rows:
        days = _days(every(session, name))
        near = sorted(days, key=lambda other: abs(date.fromisoformat(other) - day))[:2]
        raise UnknownVersion(*missing("version of day", str(day), days, near, of=name))
    if revision is None:
        return rows[-1]
    if (row := next((r for r in rows if r.revision == revision), None)) is None:
        exist = [f"{r.day}.r{r.revision}" for r in rows]
        raise UnknownVersion(*missing("version", f"{day}.r{revision}", exist, exist[-1:], of=name))
    return row


def before(session: Session, name: str, day: date) -> VersionRow | None:
    """The newest version of a day before this one. Raises UnknownName."""
    newest_first = (VersionRow.day.desc(), VersionRow.revision.desc())
    found = session.scalar(_of(name).where(VersionRow.day < day).order_by(*newest_first).limit(1))
    if found is None:
        every(session, name)
    return found


def known(session: Session, name: str, rows: Sequence[Row]) -> list[Row]:
    """The rows found for a name; raises UnknownName where there are none, as every embedding has some."""
    if not rows:
        raise UnknownName(*missing("embedding", name, names(session)))
    return list(rows)


def _of(name: str):
    """The versions of an embedding; a name that cannot be one is not even asked for."""
    return select(VersionRow).where(VersionRow.name == (name if NAME.fullmatch(name) else ""))


def _days(rows: list[VersionRow]) -> list[str]:
    return sorted({str(row.day) for row in rows})
