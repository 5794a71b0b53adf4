"""The registry's responses as JSON values, the same for the command line and the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings.benchmarks.results import Result
from embeddings.features import Value
from embeddings.registry.client import Registry, Version, parse_key
from embeddings.registry.comparison import Comparison
from embeddings.registry.errors import DamagedVersion
from embeddings.registry.features import Feature, Features
from embeddings.registry.filters import Where
from embeddings.registry.loaded import GROUP, Loaded
from embeddings.registry.verifications import Verification
from embeddings.registry.versions import EMBEDDING, FEATURES, LATEST

if TYPE_CHECKING:
    from embeddings.registry.diff import Delta, Diff


# What a version is: damaged by its last verification, or what its day means, or replaced in that.
DAMAGED, CURRENT, REPLACED = "damaged", "current", "replaced"
COVERAGE = "coverage_"  # how the metrics of a lineage begin that name an entity's coverage


def overview(registry: Registry) -> list[dict[str, Any]]:
    """Every embedding: the number of its versions, their first and last day, and the latest one."""
    return [_overview(registry, name) for name in registry.names(EMBEDDING)]


def tables(registry: Registry) -> list[dict[str, Any]]:
    """The same of every table of features, and its columns; null if its files are damaged."""
    found = []
    for name in registry.names(FEATURES):
        version = registry.version(name)
        try:
            columns = list(registry.load_features(version).columns)
        except DamagedVersion:  # the other tables can still be listed
            columns = None
        (entity,) = version.entities
        found.append({**_overview(registry, name), "entity": entity, "columns": columns})
    return found


def _overview(registry: Registry, name: str) -> dict[str, Any]:
    versions = registry.versions(name)
    aliases = registry.aliases(name)
    latest = aliases[LATEST]
    return {
        "name": name,
        "versions": len(versions),
        "first_day": str(versions[0].day),
        "last_day": str(versions[-1].day),
        "latest": describe(latest, aliases, True, registry.verifications(name).get(latest.id)),
    }


def detail(registry: Registry, version: Version) -> dict[str, Any]:
    """One version."""
    is_current = registry.version(version.name, version.day) == version
    verification = registry.verifications(version.name).get(version.id)
    return describe(version, registry.aliases(version.name), is_current, verification)


def describe(
    version: Version,
    aliases: Mapping[str, Version],
    is_current: bool,
    verification: Verification | None,
) -> dict[str, Any]:
    """A version. aliases: all of its embedding; the response lists those that point at it.

    is_current: the version is what its day means when no revision is named. verification: its last
    one, if there was one.
    """
    faults = verification.faults if verification else []
    status = CURRENT if is_current else REPLACED
    return {
        "id": version.id,
        "current": is_current,
        "aliases": [alias for alias, target in aliases.items() if target.id == version.id],
        "status": DAMAGED if faults else status,
        "verified_at": verification.verified_at.isoformat() if verification else None,
        "faults": faults,
        **facts(version),
    }


def facts(version: Version) -> dict[str, Any]:
    """What never changes of a version."""
    return {
        "id": version.id,
        "name": version.name,
        "kind": version.kind,
        "day": str(version.day),
        "revision": version.revision,
        "space": version.space,
        "dim": version.dim,
        "entities": version.entities,
        "lineage": version.lineage,
        "digest": version.digest,
        "published_at": version.published_at.isoformat(),
        "size_bytes": version.size_bytes,
        "coverage": coverage(version),
    }


def coverage(version: Version) -> dict[str, float]:
    """The share of the day's engaged entities that have a vector, where its publisher says so."""
    metrics = version.lineage.get("metrics")
    found = {}
    for name, value in (metrics if isinstance(metrics, dict) else {}).items():
        if name.startswith(COVERAGE) and isinstance(value, int | float) and 0 <= value <= 1:
            found[name.removeprefix(COVERAGE)] = float(value)
    return found


def versions(registry: Registry, name: str) -> list[dict[str, Any]]:
    """All versions of an embedding, in the order of `Registry.versions`."""
    aliases = registry.aliases(name)
    published = registry.versions(name)
    verified = registry.verifications(name)
    current = {version.day: version for version in published}  # a day's last one replaces others
    described = []
    for version in published:
        is_current = current[version.day] is version
        described.append(describe(version, aliases, is_current, verified.get(version.id)))
    return described


def aliases(registry: Registry, name: str) -> dict[str, str]:
    """Alias -> the id of the version that it points at."""
    return {alias: version.id for alias, version in registry.aliases(name).items()}


def history(registry: Registry, name: str, alias: str | None = None) -> list[dict[str, Any]]:
    """The moves of one alias, or of all aliases of an embedding, newest first."""
    moves = []
    for move in registry.history(name, alias):
        moves.append({**vars(move), "moved_at": move.moved_at.isoformat()})
    return moves


@dataclass(frozen=True)
class Found:
    """Vectors of ids of any entities, in the order in which they were requested.

    entities, ids: n texts. vectors: (n, k) float32. counts: (n,) int32. folded: (n,) bool.
    """

    version: Version
    entities: list[str]
    ids: list[str]
    vectors: np.ndarray
    counts: np.ndarray
    folded: np.ndarray
    shortened_by: str


def vectors(
    registry: Registry,
    version: Version,
    keys: Sequence[str],
    space: str | None = None,
    dim: int | None = None,
) -> dict[str, Any]:
    """The vectors of these 'entity:id' keys, in their order."""
    found = look_up_keys(registry.load(version, space), keys, dim)
    return {**source_of(version, dim), "vectors": records(found)}


def look_up(loaded: Loaded, entity: str, ids: Sequence[str], dim: int | None = None) -> Found:
    """The vectors of these ids of one entity. Raises BadRequest, NotFound."""
    one = loaded.get(entity, ids, dim)
    columns = (one.vectors, one.counts, one.folded, one.shortened_by)
    return Found(loaded.version, [entity] * len(one.ids), one.ids, *columns)


def look_up_keys(loaded: Loaded, keys: Sequence[str], dim: int | None = None) -> Found:
    """The vectors of these 'entity:id' keys. Raises BadRequest, NotFound."""
    parsed = [parse_key(key, list(loaded.version.entities)) for key in keys]
    # One lookup per entity, not per id: each lookup has a fixed cost.
    places: dict[str, list[int]] = {}
    for place, (entity, _) in enumerate(parsed):
        places.setdefault(entity, []).append(place)
    if len(places) == 1:
        return look_up(loaded, parsed[0][0], [id_ for _, id_ in parsed], dim)
    loaded.check_dim(dim)  # before any memory is asked for
    n = len(parsed)
    rows = np.empty((n, loaded.version.dim if dim is None else dim), np.float32)
    counts = np.empty(n, np.int32)
    folded = np.empty(n, np.bool_)
    for entity, at in places.items():
        one = loaded.get(entity, [parsed[place][1] for place in at], dim)
        rows[at], counts[at], folded[at] = one.vectors, one.counts, one.folded
    entities = [entity for entity, _ in parsed]
    columns = (rows, counts, folded, loaded.version.shortened_by(dim))
    return Found(loaded.version, entities, [id_ for _, id_ in parsed], *columns)


def records(found: Found, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
    """One record per vector, of all or of some rows."""
    rows = slice(start, stop)
    columns = zip(
        found.entities[rows],
        found.ids[rows],
        found.counts[rows].tolist(),
        found.folded[rows].tolist(),
        found.vectors[rows].tolist(),
        strict=True,
    )
    fields = ("entity", "id", "count", "folded", "vector")
    return [dict(zip(fields, values, strict=True)) for values in columns]


def neighbours(
    registry: Registry,
    version: Version,
    key: str,
    k: int,
    among: str | None,
    space: str | None = None,
    dim: int | None = None,
    only: Sequence[str] | None = None,
    exact: bool = False,
    where: Where | None = None,
) -> dict[str, Any]:
    """The nearest vectors of one 'entity:id'."""
    loaded = registry.load(version, space)
    searched = loaded.searched(key, among)
    rows = registry.rows_where(loaded, searched, where) if where else None
    found = loaded.neighbours(key, k, searched, dim, only, exact, rows)
    return {
        **source_of(version, dim),
        "of": key,
        "among": searched,
        "exact": found.exact,
        "recall": vars(found.recall) if found.recall else None,
        "neighbours": [vars(neighbour) for neighbour in found],
    }


def fold_in(
    registry: Registry,
    version: Version,
    strengths: Mapping[str, float],
    k: int | None = None,
    space: str | None = None,
    dim: int | None = None,
    features: Mapping[str, Value] | None = None,
) -> dict[str, Any]:
    """The vector of a history, how much of the history is in it, and its nearest producers."""
    folded = registry.load(version, space).fold(strengths, k, dim, features)
    near = folded.neighbours
    return {
        **source_of(version, dim),
        "known": folded.known,
        "unknown": folded.unknown,
        "unknown_features": folded.unknown_features,
        "whole": folded.whole,
        "residual": folded.residual,
        "vector": folded.vector.tolist(),
        "neighbours": None if near is None else [vars(neighbour) for neighbour in near],
    }


def lookalike(
    registry: Registry,
    version: Version,
    groups: Sequence[str],
    candidates: Sequence[str],
    k: int,
    by: str,
    space: str | None = None,
    dim: int | None = None,
) -> dict[str, Any]:
    """Producers for a consumer of these groups, and the number of consumers in each group."""
    loaded = registry.load(version, space)
    scored = loaded.lookalike(groups, candidates, k, by, dim)
    counts = loaded.get(GROUP, groups).counts.tolist()
    return {
        **source_of(version, dim),
        "groups": dict(zip(groups, counts, strict=True)),
        "producers": [vars(producer) for producer in scored],
    }


def named(text: str) -> tuple[str, str]:
    """'author/2022-04-25' -> ('author', '2022-04-25'); a name alone means its latest version."""
    name, _, reference = text.partition("/")
    return name, reference or LATEST


def source(version: Version) -> dict[str, str]:
    """The version and space of a response: clients must never mix vectors of two spaces."""
    return {"version": version.id, "space": version.space}


def source_of(version: Version, dim: int | None) -> dict[str, str]:
    """The same of vectors that may be shortened, and how they are."""
    return {**source(version), "shortened_by": version.shortened_by(dim)}


def comparison(compared: Comparison) -> dict[str, Any]:
    """Benchmarks side by side: one row per metric, a result or null per column."""
    rows = []
    for row in compared.rows:
        results = [None if result is None else benchmark(result) for result in row.results]
        rows.append(
            {"task": row.task, "metric": row.metric, "labels_of": row.day, "results": results}
        )
    return {"columns": compared.columns, "rows": rows}


def benchmark(result: Result) -> dict[str, Any]:
    """One result."""
    return {**vars(result), "on": str(result.on)}


def results(registry: Registry, version: Version) -> list[dict[str, Any]]:
    """The results of a version's benchmarks."""
    return list(map(benchmark, registry.results(version)))


def all_results(registry: Registry, name: str) -> dict[str, list[dict[str, Any]]]:
    """The same of every version of an embedding that has any, by the version's id."""
    found = registry.all_results(name)
    return {version: list(map(benchmark, results)) for version, results in found.items()}


def diff(found: Diff) -> dict[str, Any]:
    """What differs between two versions."""
    entities = {}
    for entity, one in found.entities.items():
        drift = None if one.drift is None else asdict(one.drift)
        entities[entity] = {**vars(one), "drift": drift}
    return {
        "a": found.a.id,
        "b": found.b.id,
        "entities": entities,
        "lineage": {field: {"a": a, "b": b} for field, (a, b) in found.lineage.items()},
        "benchmarks": list(map(delta, found.benchmarks)),
    }


def delta(found: Delta) -> dict[str, Any]:
    """One benchmark of two versions, and what the second one gains."""
    low, high = found.interval
    gain = {"value": found.value, "low": low, "high": high}
    return {"name": found.name, "a": benchmark(found.a), "b": benchmark(found.b), "gain": gain}


def features(found: Features) -> dict[str, Any]:
    """Features of any kind, joined: one row per id."""
    return {**sources(found), "rows": feature_rows(found)}


def sources(found: Features) -> dict[str, Any]:
    """The entity, and where each feature was read."""
    versions = {name: source(feature.version) for name, feature in found.features.items()}
    return {"entity": found.entity, "sources": versions}


def feature_rows(found: Features, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
    """One row per id, of all or of some ids: feature -> its value, null where there is none."""
    ids = found.ids[start:stop]
    columns = [_values(feature, slice(start, stop)) for feature in found.features.values()]
    rows = []
    for id_, *values in zip(ids, *columns, strict=True):
        rows.append({"id": id_, "features": dict(zip(found.features, values, strict=True))})
    return rows


def _values(feature: Feature, rows: slice) -> list[Any]:
    """A number, a text, a vector or null for each of these rows."""
    values = feature.values[rows]
    if values.dtype.kind == "S":
        values = np.strings.decode(values, "utf-8")
    known = feature.mask[rows].tolist()
    pairs = zip(values.tolist(), known, strict=True)
    return [value if is_known else None for value, is_known in pairs]
