"""The registry as Python code sees it: publish a version, find one, ask it for vectors.

In short:
    registry = Registry(Path("registry"), "sqlite:///registry/catalog.db")
    registry.get("author", "producer", ["1196"]).vectors
    registry.neighbours("author", "producer:1196", k=5)
    registry.fold_in("author", {"1196": 3.0, "33": 1.0}).vector
    registry.load(registry.version("author"), space="author/2022-04-25").entities["consumer"].rows(ids)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from embeddings.fold_in import FoldIn
from embeddings.registry import files, versions
from embeddings.registry.catalog import Catalog, VersionRow
from embeddings.registry.errors import BadRequest, BadVersion, SpaceMismatch
from embeddings.registry.loaded import FoldedIn, Found, Loaded, Lookalike, Neighbour, parse_who
from embeddings.registry.vectors import Entity, Vectors
from embeddings.registry.versions import LATEST, NAME, Version

__all__ = [
    "Entity",
    "FoldedIn",
    "Found",
    "Loaded",
    "Lookalike",
    "Neighbour",
    "Registry",
    "Vectors",
    "Version",
    "open_version",
    "parse_who",
]

REFERENCE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:\.r([0-9]{1,6}))?")


class Registry:
    """Versions of embeddings: their files below `root`, the list of them in the catalog at `url`."""

    def __init__(self, root: Path, url: str) -> None:
        self.root = Path(root)
        self.catalog = Catalog(url)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the catalog's connections; the next use opens new ones."""
        self.catalog.close()

    # Publishing

    def publish(
        self,
        name: str,
        day: date,
        space: str,
        entities: Mapping[str, Vectors | Path],
        fold_in: FoldIn,
        lineage: dict[str, Any],
    ) -> Version:
        """Publish a version, whole or not at all; 'latest' moves to it unless a newer day has it.

        entities: the vectors of each, or a folder of shards as `shards.write_shard` writes them, which are linked where
        the file system can. fold_in: its row j speaks of the version's producer j, row j of its shards in their order.
        The same content for the same day is the version that is there already, lineage and all; other content is the
        day's next revision. Killed at any moment, the next call completes it. Raises BadVersion.
        """
        _check_published(name, space, list(entities), lineage)
        manifest = files.publish_files(self._files, name, day, space, entities, fold_in, lineage)
        with self.catalog.writing() as session:
            return self._version(versions.record(session, manifest, day))

    def set_alias(
        self, name: str, alias: str, version: Version, only_forward: bool = False
    ) -> Version:
        """Point an alias at a version; with only_forward never back to an older day. Returns what it points at.

        'latest' moves by publishing alone.
        """
        if not NAME.fullmatch(alias) or alias == LATEST or REFERENCE.fullmatch(alias):
            raise BadRequest(
                f"{alias!r} cannot be set as an alias: it needs letters, digits, _ and -, no day, and not {LATEST!r}, "
                "which moves by publishing alone."
            )
        if version.name != name:
            raise BadRequest(
                f"Alias {alias!r} of '{name}' cannot point at {version.id}, a version of '{version.name}'."
            )
        with self.catalog.writing() as session:
            row = versions.of_day(session, name, version.day, version.revision)
            return self._version(versions.point(session, alias, row, only_forward))

    # Finding

    def names(self) -> list[str]:
        """The embeddings there are."""
        with self.catalog.reading() as session:
            return versions.names(session)

    def versions(self, name: str) -> list[Version]:
        """All versions of an embedding, oldest day and first revision first. Raises UnknownName."""
        with self.catalog.reading() as session:
            return [self._version(row) for row in versions.every(session, name)]

    def aliases(self, name: str) -> dict[str, Version]:
        """Every alias of an embedding, and the version it points at. Raises UnknownName."""
        with self.catalog.reading() as session:
            return {
                row.alias: self._version(row.version) for row in versions.aliases(session, name)
            }

    def alias(self, name: str, alias: str) -> Version:
        """The version that an alias points at. Raises UnknownName, UnknownVersion."""
        with self.catalog.reading() as session:
            return self._version(versions.aliased(session, name, alias))

    def version(self, name: str, day: date | None = None, revision: int | None = None) -> Version:
        """The version of a day (its last revision, unless one is given); without a day, the one that 'latest' is."""
        if day is None:
            return self.alias(name, LATEST)
        with self.catalog.reading() as session:
            return self._version(versions.of_day(session, name, day, revision))

    def before(self, name: str, day: date) -> Version | None:
        """The newest version of a day before this one, None where there is none. Raises UnknownName."""
        with self.catalog.reading() as session:
            row = versions.before(session, name, day)
            return None if row is None else self._version(row)

    def find(self, name: str, reference: str = LATEST) -> Version:
        """The version that a text names: '2022-04-25' (its last revision), '2022-04-25.r1', or an alias."""
        if (match := REFERENCE.fullmatch(reference)) is None:
            return self.alias(name, reference)
        try:
            day = date.fromisoformat(match[1])
        except ValueError:
            raise BadRequest(
                f"{match[1]!r} is no day of the calendar; write it as 2022-04-25."
            ) from None
        return self.version(name, day, int(match[2]) if match[2] else None)

    # Asking

    def load(self, version: Version, space: str | None = None) -> Loaded:
        """Map a version's arrays. Raises SpaceMismatch, DamagedVersion.

        space: the space in which the vectors will be used; None skips the check.
        """
        return open_version(version, space)

    def verify(self, version: Version) -> dict[str, str]:
        """Compare every file with the digest it was published with; returns them. Raises DamagedVersion."""
        return files.verify_files(version.path)

    def get(
        self,
        name: str,
        entity: str,
        ids: Sequence[str],
        day: date | None = None,
        revision: int | None = None,
    ) -> Found:
        """The vectors of these ids, the engagements behind them, and their version. Raises NotFound's kin."""
        return self._loaded(name, day, revision).get(entity, ids)

    def neighbours(
        self,
        name: str,
        who: str,
        k: int = 10,
        day: date | None = None,
        among: str | None = None,
        revision: int | None = None,
    ) -> list[Neighbour]:
        """The k nearest by cosine, exactly, best first; never `who` itself.

        who: 'entity:id', as in 'producer:1196'. among: the entity to search, by default its own.
        Raises BadRequest, NotFound's kin.
        """
        return self._loaded(name, day, revision).neighbours(who, k, among)

    def fold_in(
        self,
        name: str,
        strengths: Mapping[str, float],
        day: date | None = None,
        revision: int | None = None,
    ) -> FoldedIn:
        """A vector for a consumer with this history, by the same formula as the nightly fold-in.

        strengths: producer id -> strength, > 0. Producers that the version does not know are left out and reported;
        raises UnknownId when it knows none, BadRequest for a strength that is none.
        """
        return self._loaded(name, day, revision).folded_in(strengths)

    def lookalike(
        self,
        name: str,
        groups: Sequence[str],
        candidates: Sequence[str] = (),
        k: int = 10,
        by: str = "mean",
        day: date | None = None,
        revision: int | None = None,
    ) -> list[Lookalike]:
        """How much the groups that a newcomer belongs to like each candidate: dot products with their mean consumers.

        groups: as in 'user_active_degree=full_active'. candidates: producer ids, answered in their order; without any,
        the k producers of the largest `by` (mean, max, median or min over the groups), best first.
        Raises BadRequest, NotFound's kin; a version of a source without profiles has no groups.
        """
        return self._loaded(name, day, revision).lookalike(groups, candidates, k, by)

    def _loaded(self, name: str, day: date | None, revision: int | None) -> Loaded:
        return self.load(self.version(name, day, revision))

    @property
    def _files(self) -> Path:
        return self.root / "versions"

    def _version(self, row: VersionRow) -> Version:
        return versions.as_version(row, self._files)


def open_version(version: Version, space: str | None = None) -> Loaded:
    """As `Registry.load`, for a process that has the files but no catalog, such as a Spark worker.

    The version comes from a process that looked it up (it can be pickled).
    """
    if space is not None and space != version.space:
        raise SpaceMismatch(
            f"{version.id} is in space '{version.space}' and was loaded against space "
            f"'{space}': vectors of two spaces cannot be mixed. "
            f"Use a version in '{space}', or rebuild the consumer of these vectors "
            f"in '{version.space}'."
        )
    mapped = files.open_files(version.path)
    return Loaded(version, mapped.entities, mapped.fold_in)


def _check_published(name: str, space: str, entities: list[str], lineage: dict[str, Any]) -> None:
    for kind, text in [("name", name), *(("entity", entity) for entity in entities)]:
        if not NAME.fullmatch(text):
            raise BadVersion(
                f"{text!r} cannot be the {kind} of an embedding: use letters, digits, _ and -."
            )
    if not space or len(space) > 200:
        raise BadVersion(f"{space!r} cannot be a space: it needs 1 to 200 characters.")
    try:
        json.dumps(lineage, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadVersion(f"The lineage of '{name}' cannot be written as JSON: {error}.") from None
