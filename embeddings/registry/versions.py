"""What a version is, and the catalog's queries for versions; those for aliases are in `aliases`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from embeddings.registry.catalog import AliasRow, DayRow, VersionRow
from embeddings.registry.errors import (
    BadRequest,
    PinnedVersion,
    UnknownName,
    UnknownVersion,
    missing,
)
from embeddings.registry.files import folder, local
from embeddings.storage.folder import Folder
from embeddings.storage.place import Place

Row = TypeVar("Row", VersionRow, AliasRow)
# The kinds of versions. A table of features has neither a space nor vectors.
EMBEDDING, FEATURES = "embedding", "features"
PREFIXES = "prefixes"  # how vectors are shortened where no length was learned
LATEST = "latest"  # the alias of the newest day's current version
# Names of embeddings, entities and aliases: safe in paths, in URLs and in every catalog.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
# A day or one revision of it. [0-9], not \d, which also matches the digits of other scripts.
REFERENCE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:\.r([0-9]{1,6}))?")


@dataclass(frozen=True)
class Version:
    """One published version.

    entities: entity -> its numbers of "rows", "folded" rows and "engagements", and the facts of its
    "index" and of its learned "lengths" if it has any. lineage: what the version was computed from.
    published_at: UTC, for people only: no decision depends on it. kind: "embedding", or "features"
    for a table of features, whose space is empty and dim 0. size_bytes: of all its files; None
    where it was published by an older Evergreen and not verified since. folder: the address of its
    files in a place.
    """

    name: str
    day: date
    revision: int
    space: str
    digest: str
    dim: int
    folder: Path
    entities: dict[str, dict[str, Any]] = field(hash=False)
    lineage: dict[str, Any] = field(hash=False)
    published_at: datetime
    kind: str = EMBEDDING
    size_bytes: int | None = field(default=None, compare=False)
    place: Place = field(default=Folder(Path()), compare=False, repr=False)

    @property
    def path(self) -> Path:
        """The local folder with its files; those of a bucket are copied. Raises DamagedVersion."""
        return local(self.place, self.folder)

    @property
    def id(self) -> str:
        """NAME/DAY.rREVISION, as in author/2022-04-25.r1."""
        return version_id(self.name, self.day, self.revision)

    @property
    def learned_lengths(self) -> dict[int, str]:
        """The shorter lengths that were learned, and by what. Any other is a prefix."""
        for facts in self.entities.values():  # all have the same ones
            if learned := facts.get("lengths"):
                return dict.fromkeys(learned["of"], learned["method"])
        return {}

    def shortened_by(self, dim: int | None) -> str:
        """How its vectors get this length: by a learned encoder, or as PREFIXES; "": they have it.

        dim: 1 to the version's own; None for that.
        """
        if dim is None or dim == self.dim:
            return ""
        return self.learned_lengths.get(dim, PREFIXES)


def version_id(name: str, day: date, revision: int) -> str:
    """NAME/DAY.rREVISION."""
    return f"{name}/{day}.r{revision}"


def as_version(row: VersionRow, place: Place) -> Version:
    """A catalog row as a version whose files are in a place."""
    return Version(
        name=row.name,
        day=row.day,
        revision=row.revision,
        space=row.space,
        digest=row.digest,
        dim=row.dim,
        folder=folder(place.root, row.name, row.day, row.digest),
        place=place,
        entities=row.entities,
        lineage=row.lineage,
        published_at=row.published_at.replace(tzinfo=UTC),
        kind=row.kind,
        size_bytes=row.size_bytes,
    )


def as_row(manifest: dict[str, Any], day: date, revision: int) -> VersionRow:
    """The catalog row of a manifest."""
    content = manifest["content"]
    return VersionRow(
        name=content["name"],
        day=day,
        revision=revision,
        kind=kind_of(content),
        space=content.get("space", ""),
        digest=manifest["digest"],
        dim=content.get("dim", 0),
        entities=content["entities"],
        lineage=manifest["lineage"],
        published_at=datetime.now(UTC).replace(tzinfo=None),
    )


def kind_of(content: Mapping[str, Any]) -> str:
    """The kind of a manifest's content. That of an embedding does not name it."""
    return content.get("kind", EMBEDDING)


def require_kind(session: Session, name: str, kind: str) -> None:
    """Raises BadRequest if versions of another kind have this name: its aliases need one kind."""
    other = session.scalar(_of(name).where(VersionRow.kind != kind).limit(1))
    if other is not None:
        raise BadRequest(
            f"'{name}' cannot be published as {kind}: it already has versions of the kind "
            f"{other.kind}. Choose another name."
        )


def record(session: Session, manifest: dict[str, Any], day: date) -> VersionRow:
    """The catalog row of this content, which becomes the day's current version.

    New content is the day's next revision. Content that is already current changes nothing. Raises
    BadRequest if the name belongs to another kind.
    """
    name = manifest["content"]["name"]
    require_kind(session, name, kind_of(manifest["content"]))
    published = session.scalars(_of_day(name, day)).all()
    rows = {row.digest: row for row in published}
    row = rows.get(manifest["digest"])
    if row is not None and row is published[-1]:
        return row
    if row is None:
        row = as_row(manifest, day, _next_revision(session, name, day))
    row.sequence = _next_sequence(session, name)
    session.add(row)
    session.flush()  # gives a new row the key that an alias refers to
    return row


def _next_revision(session: Session, name: str, day: date) -> int:
    """A revision number that this day has never used."""
    counter = session.get(DayRow, (name, day))
    if counter is None:
        counter = DayRow(name=name, day=day, last_revision=0)
        session.add(counter)
    counter.last_revision += 1
    return counter.last_revision


def _next_sequence(session: Session, name: str) -> int:
    """One more than the versions of this embedding have."""
    last = session.scalar(select(func.max(VersionRow.sequence)).where(VersionRow.name == name))
    return (last or 0) + 1


def remove(session: Session, version: Version) -> VersionRow:
    """Delete a version's row, and return it. Raises UnknownName, UnknownVersion, PinnedVersion."""
    row = of_day(session, version.name, version.day, version.revision)
    pointers = session.scalars(select(AliasRow).where(AliasRow.version_key == row.key))
    pins = sorted(pointer.alias for pointer in pointers)
    if LATEST in pins:
        raise PinnedVersion(
            f"{version.id} cannot be removed: the alias {LATEST!r} points at it. "
            "It moves when other content or a newer day is published."
        )
    if pins:
        raise PinnedVersion(
            f"{version.id} cannot be removed: {', '.join(map(repr, pins))} of '{version.name}' "
            "points at it. Move or delete the alias first."
        )
    session.delete(row)
    return row


def removable(
    versions: Sequence[Version],
    aliases: Mapping[str, Version],
    keep_days: int,
    keep: Set[str] = frozenset(),
) -> list[Version]:
    """The versions that nothing asks to keep, in the given order. Raises BadRequest.

    Kept are the current revisions of the newest `keep_days` days, what an alias points at, and
    the ids in `keep`.

    versions, aliases: all of one embedding, as `Registry.versions` and `Registry.aliases` return
    them. keep: ids of versions, as in 'author/2022-04-25.r1'; no other content ever gets the same
    id. keep_days: >= 0, counted in days that have a version.
    """
    if keep_days < 0:
        raise BadRequest(f"keep_days must be at least 0, not {keep_days}.")
    current = {version.day: version.id for version in versions}  # a day's last one replaces others
    newest_days = sorted(current, reverse=True)[:keep_days]
    kept = {current[day] for day in newest_days}
    kept.update(version.id for version in aliases.values())
    kept.update(keep)
    return [version for version in versions if version.id not in kept]


def names(session: Session, kind: str | None = None) -> list[str]:
    """The names of all versions, or of those of one kind, sorted."""
    every_name = select(VersionRow.name).distinct().order_by(VersionRow.name)
    wanted = every_name if kind is None else every_name.where(VersionRow.kind == kind)
    return list(session.scalars(wanted))


def every(session: Session, name: str) -> list[VersionRow]:
    """All versions by day, and of a day as they were published. Raises UnknownName.

    The last version of each day is its current one.
    """
    in_order = _of(name).order_by(VersionRow.day, VersionRow.sequence)
    return known(session, name, session.scalars(in_order).all())


def of_day(session: Session, name: str, day: date, revision: int | None) -> VersionRow:
    """The given revision of a day, by default the current one.

    Raises UnknownName, UnknownVersion, BadRequest.
    """
    require_day(day)
    rows = session.scalars(_of_day(name, day)).all()
    if not rows:
        days = days_of(every(session, name))
        nearest = sorted(days, key=lambda other: abs(date.fromisoformat(other) - day))[:2]
        raise UnknownVersion(*missing("version of day", str(day), days, nearest, of=name))
    if revision is None:
        return rows[-1]
    for row in rows:
        if row.revision == revision:
            return row
    existing = [f"{row.day}.r{row.revision}" for row in rows]
    current = existing[-1:]
    raise UnknownVersion(*missing("version", f"{day}.r{revision}", existing, current, of=name))


def until(session: Session, name: str, day: date) -> VersionRow:
    """The current version of the newest day that is not after `day`.

    Raises UnknownName, UnknownVersion.
    """
    earlier = _of(name).where(VersionRow.day <= day)
    newest_first = earlier.order_by(VersionRow.day.desc(), VersionRow.sequence.desc())
    row = session.scalar(newest_first.limit(1))
    if row is None:
        days = days_of(every(session, name))
        wanted = f"{day} or before"
        raise UnknownVersion(*missing("version of day", wanted, days, days[:1], of=name))
    return row


def folders(session: Session, root: Path) -> set[Path]:
    """The folders below `root` of all versions of all embeddings."""
    contents = session.execute(select(VersionRow.name, VersionRow.day, VersionRow.digest))
    return {folder(root, name, day, digest) for name, day, digest in contents}


def require_day(day: object) -> None:
    """Raises BadRequest unless this is a date without a time of day.

    A datetime is a date to Python, but as a text it would name another folder.
    """
    if isinstance(day, datetime) or not isinstance(day, date):
        raise BadRequest(f"{day!r} is not a day: use a datetime.date, as in date(2022, 4, 25).")


def calendar_day(text: str) -> date:
    """'2022-04-25' as a date. Raises BadRequest."""
    try:
        if len(text) != len("2022-04-25"):  # Python also reads 20220425 and 2022-W17-1
            raise ValueError
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise BadRequest(f"{text!r} is not a calendar day; write it as 2022-04-25.") from None


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


def _of_day(name: str, day: date) -> Select[VersionRow]:
    """The versions of a day in the order in which they were published; the last one is current."""
    return _of(name).where(VersionRow.day == day).order_by(VersionRow.sequence)


def days_of(rows: list[VersionRow]) -> list[str]:
    """The days of these versions, sorted, each once."""
    return sorted({str(row.day) for row in rows})
