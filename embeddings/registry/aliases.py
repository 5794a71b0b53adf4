"""The catalog's queries for aliases: where they point, how they move, where they pointed before.

Every move is recorded in the session that makes it, so the history is complete.
"""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from embeddings.registry.catalog import AliasRow, MoveRow, VersionRow
from embeddings.registry.errors import BadRequest, UnknownVersion, missing
from embeddings.registry.versions import (
    LATEST,
    NAME,
    REFERENCE,
    calendar_day,
    days_of,
    every,
    known,
    of_day,
    version_id,
)

REASON_LENGTH = 500  # the catalog's column
BY_LENGTH = 100  # the catalog's column


@dataclass(frozen=True)
class Why:
    """What the history keeps of a move besides the versions: who made it, and the reason."""

    reason: str
    by: str

    @classmethod
    def of(cls, reason: str, by: str) -> Why:
        """by: empty for the user whom the operating system names. Raises BadRequest."""
        by = by or current_user()
        _require_line("the reason of a move", reason, REASON_LENGTH)
        _require_line("the name of who moves an alias", by, BY_LENGTH)
        return cls(reason, by)


@dataclass(frozen=True)
class AliasMove:
    """One move of an alias, or a decision that it stays: from and to are then the same.

    from_version, to_version: ids of versions, as in 'author/2022-04-25.r1', which may have been
    removed since. None before the alias was first set, and after it was deleted. moved_at: UTC.
    moved_by: who made the move; empty for moves that were recorded before schema 0003.
    """

    name: str
    alias: str
    from_version: str | None
    to_version: str | None
    moved_at: datetime
    reason: str
    moved_by: str


def point(
    session: Session, alias: str, row: VersionRow, why: Why, only_forward: bool = False
) -> VersionRow:
    """Move an alias to a version and return the version it now points at.

    only_forward: leave the alias unchanged if the move would be to an older day, or to a version
    of the same day that was published earlier.
    """
    pointer = session.get(AliasRow, (row.name, alias))
    if pointer is None:
        session.add(AliasRow(name=row.name, alias=alias, version=row))
        _record(session, row.name, alias, None, row, why)
        return row
    current = pointer.version
    is_older = (row.day, row.sequence) < (current.day, current.sequence)
    if current is row or (only_forward and is_older):
        return current
    pointer.version = row
    _record(session, row.name, alias, current, row, why)
    return row


def hold(session: Session, name: str, alias: str, why: Why) -> None:
    """Record that an alias stays where it is, and why; once, however often it is decided."""
    recorded = select(MoveRow).where(MoveRow.name == name, MoveRow.alias == alias)
    last = session.scalars(recorded.order_by(MoveRow.key.desc()).limit(1)).first()
    if last is not None and last.reason == why.reason and last.from_version == last.to_version:
        return
    pointer = session.get(AliasRow, (name, alias))
    current = pointer.version if pointer else None
    _record(session, name, alias, current, current, why)


def roll_back(session: Session, name: str, alias: str, why: Why) -> VersionRow:
    """Point an alias at the version it pointed at before its last move, and return the version.

    A second roll-back undoes the first, unless the first restored a deleted alias: it then goes on
    to the version before.

    Versions that were removed since are skipped. Raises BadRequest if none is left, UnknownName,
    UnknownVersion.
    """
    existing = {_id(row): row for row in every(session, name)}
    pointer = session.get(AliasRow, (name, alias)) if NAME.fullmatch(alias) else None
    current = _id(pointer.version) if pointer else None
    for move in history(session, name, alias):
        before = move.from_version
        if before in existing and before != current:
            return point(session, alias, existing[before], why)
    raise BadRequest(
        f"{alias!r} of '{name}' cannot be rolled back: it has pointed at no other version that "
        "still exists. Set it to one that does."
    )


def delete(session: Session, name: str, alias: str, why: Why) -> None:
    """Delete an alias. Raises UnknownName, UnknownVersion."""
    current = aliased(session, name, alias)
    session.delete(session.get(AliasRow, (name, alias)))
    _record(session, name, alias, current, None, why)


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
    existing = days_of(every(session, name))
    existing += [row.alias for row in aliases(session, name)]
    raise UnknownVersion(*missing("day or alias", alias, existing, of=name))


def found(session: Session, name: str, reference: str) -> VersionRow:
    """The version that a day, a revision or an alias refers to, as in `Registry.find`."""
    match = REFERENCE.fullmatch(reference)
    if match is None:
        return aliased(session, name, reference)
    revision = int(match[2]) if match[2] else None
    return of_day(session, name, calendar_day(match[1]), revision)


def history(session: Session, name: str, alias: str | None) -> list[AliasMove]:
    """The moves of one alias, or of all, newest first. Raises UnknownName, UnknownVersion."""
    existing = {row.alias for row in aliases(session, name)}
    newest_first = select(MoveRow).where(MoveRow.name == name).order_by(MoveRow.key.desc())
    moves = [_as_move(row) for row in session.scalars(newest_first)]
    if alias is None:
        return moves
    # An alias that exists may have no moves: they are recorded since schema 0002.
    existing |= {move.alias for move in moves}
    if alias not in existing:
        raise UnknownVersion(*missing("alias", alias, sorted(existing), of=name))
    return [move for move in moves if move.alias == alias]


def require_settable(alias: str) -> None:
    """Raises BadRequest unless people may move this alias."""
    # `find` would read an alias that looks like a day as the day.
    if not NAME.fullmatch(alias) or alias == LATEST or REFERENCE.fullmatch(alias):
        raise BadRequest(
            f"{alias!r} cannot be set as an alias, deleted or rolled back: use letters, digits, _ "
            f"and -, but not a day, and not {LATEST!r}, which only publishing moves."
        )


def current_user() -> str:
    """The user whom the operating system names."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may have users without a name
        return f"user {os.getuid()}"


def _require_line(what: str, given: str, length: int) -> None:
    """Raises BadRequest unless the text is one short line that every catalog can store."""
    if len(given) > length or not given.isprintable():
        raise BadRequest(
            f"{given[:100]!r} cannot be {what}: use one line of at most {length} characters."
        )


def _record(
    session: Session,
    name: str,
    alias: str,
    before: VersionRow | None,
    after: VersionRow | None,
    why: Why,
) -> None:
    move = MoveRow(
        name=name,
        alias=alias,
        from_version=_id(before),
        to_version=_id(after),
        moved_at=datetime.now(UTC).replace(tzinfo=None),
        reason=why.reason,
        moved_by=why.by,
    )
    session.add(move)


def _id(row: VersionRow | None) -> str | None:
    return None if row is None else version_id(row.name, row.day, row.revision)


def _as_move(row: MoveRow) -> AliasMove:
    return AliasMove(
        name=row.name,
        alias=row.alias,
        from_version=row.from_version,
        to_version=row.to_version,
        moved_at=row.moved_at.replace(tzinfo=UTC),
        reason=row.reason,
        moved_by=row.moved_by,
    )
