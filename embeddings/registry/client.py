"""The registry's Python client: publish a version, find one, look up its vectors and features.

registry = Registry(Path("registry"), "sqlite:///registry/catalog.db")
registry.get("author", "producer", ["1196"]).vectors
registry.neighbours("author", "producer:1196", k=5)
registry.fold_in("author", {"1196": 3.0, "33": 1.0}).vector
loaded = registry.load(registry.version("author"), space="author/2022-04-25")
loaded.entities["consumer"].rows(ids)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings.benchmarks.results import Result
from embeddings.features import Value
from embeddings.fold_in.base import FoldIn
from embeddings.lengths.encoder import Encoder
from embeddings.registry import (
    aliases,
    benchmarks,
    features,
    files,
    filters,
    verifications,
    versions,
)
from embeddings.registry.aliases import AliasMove, Why
from embeddings.registry.answers import (
    FoldedVector,
    Lookalike,
    Lookup,
    Neighbour,
    Results,
)
from embeddings.registry.catalog import Catalog, VersionRow
from embeddings.registry.errors import (
    BadRequest,
    BadVersion,
    DamagedVersion,
    NotFound,
    SpaceMismatch,
)
from embeddings.registry.features import Feature, Features, Opened, Reference, Table
from embeddings.registry.filters import Where
from embeddings.registry.indexing import NO_INDEX, IndexRule
from embeddings.registry.loaded import Loaded, parse_key
from embeddings.registry.search import Recall
from embeddings.registry.vectors import Entity, Vectors, text_list
from embeddings.registry.verifications import Verification, Verified
from embeddings.registry.versions import EMBEDDING, FEATURES, LATEST, NAME, Version
from embeddings.storage.folder import Folder
from embeddings.storage.place import Place

if TYPE_CHECKING:
    from embeddings.registry.diff import Diff

__all__ = [
    "AliasMove",
    "Entity",
    "Feature",
    "Features",
    "FoldedVector",
    "IndexRule",
    "Loaded",
    "Lookalike",
    "Lookup",
    "Neighbour",
    "Recall",
    "Registry",
    "Results",
    "Table",
    "Vectors",
    "Verification",
    "Verified",
    "Version",
    "open_version",
    "parse_key",
]

SPACE_LENGTH = 200  # the catalog's column


class Registry:
    """Versions of embeddings. Their files are below `root`, their catalog is at `url`.

    place: where the files are instead, such as a bucket. Raises CatalogError if the catalog cannot
    be opened.
    """

    def __init__(self, root: Path, url: str, place: Place | None = None) -> None:
        self.root = Path(root)
        self.place: Place = place or Folder(self.root / "versions")
        self.catalog = Catalog(url)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the catalog's connections; the next use opens new ones."""
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
        results: Sequence[Result] = (),
        by: str = "",
        index: IndexRule = NO_INDEX,
        encoder: Encoder | None = None,
    ) -> Version:
        """Publish a version, completely or not at all, and return it.

        entities: entity -> its vectors, or a folder of shards written by `shards.write_shard`. The
        files of a folder are hard-linked where the file system allows it.
        fold_in: column j of its histories is row j of the entity 'producer', counted across shards;
        of a version with a single entity, such as 'word', of that one.
        lineage: what the version was computed from, as JSON values. results: of its benchmarks.
        by: who publishes, kept in the history of 'latest'; by default the user of the process.
        index: which entities get an approximate index, by default none. It is part of the content.
        encoder: what has learned shorter lengths, at each of which all vectors are published too.

        The version becomes the current one of its day, and 'latest' moves to it unless it points
        at a newer day. New content is the day's next revision. Content that was published for that
        day before keeps its revision number and its lineage; its files are replaced if they are
        damaged. If the process is killed, the next call with the same content completes the
        publication. Raises BadVersion, LowRecall for an index that finds too little, BadRequest,
        NotWritten.
        """
        versions.require_day(day)
        _check_published(name, list(entities), lineage)
        _check_space(space)
        why = Why.of("", by)
        self._require_kind(name, EMBEDDING)
        # Files first: the catalog must never refer to files that do not exist yet.
        writing = files.publishing_files(
            self.place, name, day, space, entities, fold_in, lineage, index, encoder
        )
        return self._recorded_version(writing, day, why, results)

    def publish_features(
        self,
        name: str,
        day: date,
        entity: str,
        ids: np.ndarray,
        columns: Mapping[str, np.ndarray],
        lineage: dict[str, Any],
        by: str = "",
    ) -> Version:
        """Publish a table of features, as `publish` does an embedding, and return its version.

        ids: (n,) 'S', sorted bytewise, unique, UTF-8. columns: name -> (n,) numbers, NaN where one
        is missing and integers up to 2^53, or texts of kind 'S' of at most 200 bytes. A name is
        either that of an embedding or of a table. lineage, by: as in `publish`. Raises BadVersion,
        BadRequest, NotWritten.
        """
        versions.require_day(day)
        _check_published(name, [entity], lineage)
        for column in columns:
            _check_name("column", column)
        why = Why.of("", by)
        self._require_kind(name, FEATURES)
        writing = features.publishing_table(self.place, name, day, entity, ids, columns, lineage)
        return self._recorded_version(writing, day, why)

    def _require_kind(self, name: str, kind: str) -> None:
        """As `versions.require_kind`, before any file is written."""
        with self.catalog.reading() as session:
            versions.require_kind(session, name, kind)

    def _recorded_version(
        self,
        writing: AbstractContextManager[dict[str, Any]],
        day: date,
        why: Why,
        results: Sequence[Result] = (),
    ) -> Version:
        """Write the files of a version, and record it as its day's current one."""
        with writing as manifest, self.catalog.writing() as session:
            row = versions.record(session, manifest, day)
            # What was there was compared with its digests, and replaced where it was damaged.
            row.size_bytes = self.place.size_bytes(self._version(row).folder)
            verifications.forget_faults(session, row)
            benchmarks.add(session, row, results)
            aliases.point(session, LATEST, row, why, only_forward=True)
            return self._version(row)

    def add_results(self, version: Version, results: Sequence[Result]) -> int:
        """Add results of benchmarks to a version's record, and return how many are new.

        A result of the same task, metric and day replaces the one before it in `results`; the
        record keeps both. Raises BadRequest, UnknownName, UnknownVersion.
        """
        with self.catalog.writing() as session:
            row = versions.of_day(session, version.name, version.day, version.revision)
            return benchmarks.add(session, row, results)

    def set_alias(
        self,
        name: str,
        alias: str,
        version: Version,
        only_forward: bool = False,
        reason: str = "",
        by: str = "",
    ) -> Version:
        """Point an alias at a version and return the version it now points at.

        only_forward: leave the alias unchanged if the move would be to an older day, or to a
        version of the same day that was published earlier. reason, by: why and by whom the alias
        is moved, kept in its history; by default the user of the process moves it. 'latest' cannot
        be set: only publishing moves it. Raises BadRequest, UnknownName, UnknownVersion.
        """
        aliases.require_settable(alias)
        why = Why.of(reason, by)
        if version.name != name:
            raise BadRequest(
                f"Alias {alias!r} of '{name}' cannot point at {version.id}, "
                f"which is a version of '{version.name}'."
            )
        with self.catalog.writing() as session:
            row = versions.of_day(session, name, version.day, version.revision)
            return self._version(aliases.point(session, alias, row, why, only_forward))

    def hold_alias(self, name: str, alias: str, reason: str, by: str = "") -> None:
        """Record in the history of an alias that it stays where it is, or unset, and why.

        A decision that the history ends with already is not repeated. Raises BadRequest.
        """
        aliases.require_settable(alias)
        why = Why.of(reason, by)
        with self.catalog.writing() as session:
            aliases.hold(session, name, alias, why)

    def rollback(self, name: str, alias: str, reason: str = "", by: str = "") -> Version:
        """Undo the last move of an alias, and return the version it now points at.

        It points again at the version before that move, or at the one before that if the version
        was removed since. An alias that was deleted is set again. The rollback is a move itself: a
        second one undoes the first, unless that restored a deleted alias. reason, by: as in
        `set_alias`. 'latest' cannot be rolled back.
        Raises BadRequest if there is no version to go back to, UnknownName, UnknownVersion.
        """
        aliases.require_settable(alias)
        why = Why.of(reason, by)
        with self.catalog.writing() as session:
            return self._version(aliases.roll_back(session, name, alias, why))

    def delete_alias(self, name: str, alias: str, reason: str = "", by: str = "") -> None:
        """Delete an alias; its history stays.

        reason, by: as in `set_alias`. 'latest' cannot be deleted. Raises BadRequest, UnknownName,
        UnknownVersion.
        """
        aliases.require_settable(alias)
        why = Why.of(reason, by)
        with self.catalog.writing() as session:
            aliases.delete(session, name, alias, why)

    # Removing

    @contextmanager
    def nothing_removed(self) -> Iterator[None]:
        """Let every process that removes a version wait while the block runs.

        For a backup: the files of all versions that the catalog has can be copied meanwhile.
        """
        with files.locked_removals(self.place):
            yield

    def remove(self, version: Version) -> None:
        """Remove a version from the catalog, and delete its files.

        The number of the removed revision is not used again for its day. A process that has loaded
        the version can go on using it. Waits for a backup. If the process is killed, files may
        remain, which `sweep_orphans` deletes. Raises PinnedVersion if an alias points at the
        version, UnknownName, UnknownVersion.
        """
        with self.nothing_removed(), files.locked_embedding(self.place, version.name):
            # Row first: files without a row are only waste, but a row without files is a fault.
            with self.catalog.writing() as session:
                home = self._version(versions.remove(session, version)).folder
            self.place.discard(home)

    def sweep_orphans(self, older_than_s: float) -> list[Path]:
        """Delete folders of content that no version refers to, and return what they were.

        They remain after a publication or a removal was killed. older_than_s: age in seconds below
        which a folder is kept, because its publisher may be about to record it.
        """
        unrecorded = sorted(files.content_folders(self.place) - self._recorded())
        swept = []
        for home in unrecorded:
            if self.place.content_age_s(home) < older_than_s:
                continue
            with self.nothing_removed(), files.locked_embedding(self.place, home.parts[-3]):
                # Read again: a publisher that held the lock may have recorded it meanwhile.
                if home not in self._recorded():
                    self.place.discard(home)
                    swept.append(home)
        return swept

    def _recorded(self) -> set[Path]:
        """The folders of all versions."""
        with self.catalog.reading() as session:
            return versions.folders(session, self.place.root)

    # Finding

    def names(self, kind: str | None = None) -> list[str]:
        """The names of everything published, sorted. kind: only "embedding", or only "features"."""
        with self.catalog.reading() as session:
            return versions.names(session, kind)

    def versions(self, name: str) -> list[Version]:
        """All versions of an embedding. Raises UnknownName.

        By day, and of a day in the order in which they were published: the last version of each day
        is its current one.
        """
        with self.catalog.reading() as session:
            return [self._version(row) for row in versions.every(session, name)]

    def aliases(self, name: str) -> dict[str, Version]:
        """Every alias of an embedding, and the version it points at. Raises UnknownName."""
        with self.catalog.reading() as session:
            rows = aliases.aliases(session, name)
            return {row.alias: self._version(row.version) for row in rows}

    def alias(self, name: str, alias: str) -> Version:
        """The version that an alias points at. Raises UnknownName, UnknownVersion."""
        with self.catalog.reading() as session:
            return self._version(aliases.aliased(session, name, alias))

    def history(self, name: str, alias: str | None = None) -> list[AliasMove]:
        """The moves of one alias, or of all aliases, newest first.

        Raises UnknownName, and UnknownVersion for an alias that never existed.
        """
        with self.catalog.reading() as session:
            return aliases.history(session, name, alias)

    def version(self, name: str, day: date | None = None, revision: int | None = None) -> Version:
        """A revision of a day, by default the current one; without a day, the latest version.

        The current revision of a day is the one that was published last. Raises UnknownName,
        UnknownVersion, BadRequest.
        """
        if day is None:
            return self.alias(name, LATEST)
        with self.catalog.reading() as session:
            return self._version(versions.of_day(session, name, day, revision))

    def find(self, name: str, reference: str = LATEST) -> Version:
        """The version that a text refers to. Raises UnknownName, UnknownVersion, BadRequest.

        reference: a day ('2022-04-25', its current revision), one revision of it
        ('2022-04-25.r1'), or an alias ('latest').
        """
        with self.catalog.reading() as session:
            return self._version(aliases.found(session, name, reference))

    def results(self, version: Version) -> list[Result]:
        """The results of a version's benchmarks, by task, metric and day of the labels.

        Raises UnknownName, UnknownVersion.
        """
        with self.catalog.reading() as session:
            row = versions.of_day(session, version.name, version.day, version.revision)
            return benchmarks.of_version(session, row)

    def all_results(self, name: str) -> dict[str, list[Result]]:
        """The same of every version of an embedding that has any, by the version's id.

        Raises UnknownName.
        """
        with self.catalog.reading() as session:
            versions.every(session, name)  # raises UnknownName
            return benchmarks.of_embedding(session, name)

    # Looking up

    def load(self, version: Version, space: str | None = None) -> Loaded:
        """Map an embedding's arrays. Raises SpaceMismatch, DamagedVersion, BadRequest.

        space: the space in which the vectors will be used; None skips the check.
        """
        return open_version(version, space)

    def verify(self, version: Version) -> dict[str, str]:
        """Compare every file with the digest it was published with, and return the digests.

        The result is recorded, as all verifications are where the catalog may be written. Raises
        DamagedVersion.
        """
        found = self._faults(version)
        # Raises by itself if it is what is damaged.
        manifest = files.read_manifest(self.place, version.folder)
        if found:
            raise DamagedVersion(f"{version.folder}: {', '.join(found)}. {files.REMEDY}")
        return manifest["content"]["files"]

    def verify_all(self) -> Iterator[tuple[str, list[str]]]:
        """Compare every file of every version with its published digest, one version at a time.

        Yields the version's id and what is wrong with its files; an intact version has no faults.
        """
        for name in self.names():
            for version in self.versions(name):
                if (found := self._faults(version)) is not None:
                    yield version.id, found

    def verify_next(self, most_bytes: int) -> Iterator[tuple[str, list[str]]]:
        """As `verify_all`, of some versions: first those that were not verified for longest.

        most_bytes: how much to read at most; one version is always read.
        """
        with self.catalog.reading() as session:
            due = [self._version(row) for row in verifications.due(session)]
        read = 0
        for version in due:
            size = self.place.size_bytes(version.folder)
            if read and read + size > most_bytes:
                return
            read += size
            if (found := self._faults(version)) is not None:
                yield version.id, found

    def verifications(self, name: str) -> dict[str, Verification]:
        """When every version of an embedding was last verified, by its id, where it was.

        Raises UnknownName.
        """
        with self.catalog.reading() as session:
            versions.every(session, name)  # raises UnknownName
            return verifications.of_embedding(session, name)

    def verified(self) -> Verified:
        """What is known of the bytes of all versions."""
        with self.catalog.reading() as session:
            return verifications.of_all(session)

    def _faults(self, version: Version) -> list[str] | None:
        """What is wrong with a version's files, recorded; None if it was removed meanwhile."""
        found = files.faults(self.place, version.folder)
        size = self.place.size_bytes(version.folder)
        opened = self.catalog.reading if self.catalog.read_only else self.catalog.writing
        with opened() as session:
            try:
                row = versions.of_day(session, version.name, version.day, version.revision)
            except NotFound:  # it has lost its files by intent
                return None
            if not self.catalog.read_only:
                verifications.record(session, row, found, size)
        return found

    def get(
        self,
        name: str,
        entity: str,
        ids: Sequence[str],
        day: date | None = None,
        revision: int | None = None,
        space: str | None = None,
        dim: int | None = None,
    ) -> Lookup:
        """The vectors of these ids in this order, the engagements behind them, and their version.

        space: the space in which the vectors will be used; None skips the check. dim: the length of
        the vectors, by default all of it: a learned one where the version has it, else so many
        leading numbers; the answer says which, in `shortened_by`. Raises NotFound if the name, the
        version, the entity or an id is unknown; SpaceMismatch; BadRequest for an invalid dim.
        """
        return self._loaded(name, day, revision, space).get(entity, ids, dim)

    def neighbours(
        self,
        name: str,
        key: str,
        k: int = 10,
        day: date | None = None,
        among: str | None = None,
        revision: int | None = None,
        space: str | None = None,
        dim: int | None = None,
        only: Sequence[str] | None = None,
        exact: bool = False,
        where: Where | None = None,
    ) -> Results[Neighbour]:
        """The k nearest vectors by cosine, best first, without `key` itself.

        Vectors of zeros are never neighbours. key: 'entity:id', as in 'producer:1196'. among: the
        entity to search, by default that of `key`. only: the ids to search, by default all. space,
        dim: as in `get`; cosines are those of the shorter vectors.

        where: what neighbours must be by their published features, all of it at once. A column of a
        table -> the text, the number, or the range (low, high) of numbers with both ends, None for
        no end: {"profile.user_active_degree": "full_active", "profile.register_days": (7, None)}.
        The newest version of the table counts, 'profile.register_days@2022-04-25' means another.

        exact: search everything. Otherwise the index of the entity is used, if it was published
        with one, k is at most 100, neither `only` nor a shorter dim is given, and k of the 100
        nearest that it finds meet `where`; the answer has its `recall` then. Raises BadRequest,
        NotFound, SpaceMismatch, DamagedVersion.
        """
        loaded = self._loaded(name, day, revision, space)
        rows = None
        if where:
            rows = self.rows_where(loaded, loaded.searched(key, among), where)
        return loaded.neighbours(key, k, among, dim, only, exact, rows)

    def fold_in(
        self,
        name: str,
        strengths: Mapping[str, float],
        day: date | None = None,
        revision: int | None = None,
        space: str | None = None,
        dim: int | None = None,
        k: int | None = None,
        features: Mapping[str, Value] | None = None,
    ) -> FoldedVector:
        """A vector for a consumer with this history, by the same formula as the nightly fold-in.

        strengths: producer id -> strength > 0. Producers that are not in the version are left out
        and returned in `unknown`. space, dim: as in `get`. k: how many of the nearest producers to
        return with it. features: name -> value of a profile, for a version whose fold-in reads
        them; the history may then be empty. The value of a bag is its texts with their weights, as
        in {"domain": {"17": 1.0}}; texts that are not in the version are left out and returned in
        `unknown_features`. Raises NotFound (UnknownId if the version has none of the producers and
        there are no features), SpaceMismatch, BadRequest for an empty history without features, an
        invalid strength, weight or id, and a feature or a value that the version does not have.
        """
        return self._loaded(name, day, revision, space).fold(strengths, k, dim, features)

    def lookalike(
        self,
        name: str,
        groups: Sequence[str],
        candidates: Sequence[str] = (),
        k: int = 10,
        by: str = "mean",
        day: date | None = None,
        revision: int | None = None,
        space: str | None = None,
        dim: int | None = None,
    ) -> Results[Lookalike]:
        """Score producers for a consumer of whom only groups are known.

        A score is the dot product of a producer's vector with the mean vector of a group.
        groups: as in 'user_active_degree=full_active'. candidates: producer ids, scored in this
        order; without any, the k producers with the largest `by` (mean, max, median or min over
        the groups), best first. space, dim: as in `get`. Raises BadRequest, SpaceMismatch, and
        NotFound also where the source has no profiles: the version then has no groups.
        """
        loaded = self._loaded(name, day, revision, space)
        return loaded.lookalike(groups, candidates, k, by, dim)

    def load_features(self, version: Version) -> Table:
        """Map a table's arrays. Raises BadRequest for an embedding, DamagedVersion."""
        return features.open_table(version)

    def features(
        self,
        entity: str,
        ids: Sequence[str],
        names: Sequence[str],
        as_of: date | str | None = None,
        space: str | None = None,
    ) -> Features:
        """Features of any kind for these ids, joined.

        names: 'author' for the vectors of an embedding, 'profile.register_days' for a column of a
        table, each of its latest version; 'author@2022-04-25', 'author@champion' of another one.
        An id without a feature is no error: its value is NaN, and False in the mask.

        as_of: a day, after which nothing is read: 'author' then means the newest day until then,
        a later day is refused, and so is every alias, because where it points was decided later.
        space: every embedding must be in it; None skips the check. All versions are looked up
        before the first is read. Raises BadRequest, SpaceMismatch, NotFound for an unknown name,
        version, feature or entity.
        """
        if not names:
            raise BadRequest("At least one feature is required, such as 'author'.")
        day = features.as_of_day(as_of)
        references = [features.parse(name) for name in dict.fromkeys(names)]
        opened = self._opened(references, day, space)
        return features.joined(entity, text_list(ids), references, opened)

    def rows_where(self, loaded: Loaded, entity: str, where: Where) -> np.ndarray:
        """The rows of an entity of an open version that meet all conditions, ascending.

        where: as in `neighbours`. Raises BadRequest, NotFound, DamagedVersion.
        """
        conditions = {features.parse(name): condition for name, condition in where.items()}
        return filters.rows_where(loaded, entity, conditions, self._opened(conditions))

    def _opened(
        self,
        references: Iterable[Reference],
        as_of: date | None = None,
        space: str | None = None,
    ) -> Opened:
        """What features are read from. All versions are looked up before the first is opened."""
        found = {}
        with self.catalog.reading() as session:
            for one in references:
                if one.source not in found:
                    found[one.source] = self._version(features.resolved(session, one, as_of))
        opened: dict[tuple[str, str], Loaded | Table] = {}
        for source, version in found.items():
            is_table = version.kind == FEATURES
            opened[source] = features.open_table(version) if is_table else self.load(version, space)
        return opened

    def diff(self, a: Version, b: Version) -> Diff:
        """What differs between two versions: ids, vectors, lineage and benchmarks.

        Of many common ids, the vectors of a sample are compared, chosen by the hashes of the ids.
        Raises DamagedVersion.
        """
        # Imported here: only this verb needs the mathematics of spaces.
        from embeddings.registry.diff import diff

        return diff(self.load(a), self.load(b), self.results(a), self.results(b))

    def _loaded(
        self, name: str, day: date | None, revision: int | None, space: str | None
    ) -> Loaded:
        return self.load(self.version(name, day, revision), space)

    def _version(self, row: VersionRow) -> Version:
        return versions.as_version(row, self.place)


def open_version(version: Version, space: str | None = None) -> Loaded:
    """As `Registry.load`, for a process that has the files but no catalog, such as a Spark worker.

    The version comes from a process that looked it up (it can be pickled).
    """
    if version.kind != EMBEDDING:
        raise BadRequest(
            f"{version.id} is a table of features, which has no vectors: read its columns with "
            "Registry.features."
        )
    if space is not None and space != version.space:
        raise SpaceMismatch(
            f"{version.id} is in space '{version.space}' and was loaded against space "
            f"'{space}': vectors of two spaces cannot be mixed. "
            f"Use a version in '{space}', or rebuild the consumer of these vectors "
            f"in '{version.space}'."
        )
    return Loaded(version, files.open_files(version.place, version.folder))


def _check_published(name: str, entities: list[str], lineage: dict[str, Any]) -> None:
    _check_name("name", name)
    for entity in entities:
        _check_name("entity", entity)
    try:
        json.dumps(lineage, allow_nan=False)  # NaN is not JSON; PostgreSQL would reject it later
    except (TypeError, ValueError) as error:
        raise BadVersion(f"The lineage of '{name}' cannot be written as JSON: {error}.") from None


def _check_space(space: str) -> None:
    if not space or len(space) > SPACE_LENGTH:
        raise BadVersion(f"{space!r} cannot be a space: it needs 1 to {SPACE_LENGTH} characters.")


def _check_name(kind: str, text: str) -> None:
    if not NAME.fullmatch(text):
        raise BadVersion(
            f"{text!r} cannot be the {kind} of a version: use letters, digits, _ and -."
        )
