"""The registry's responses as JSON values, the same for the command line and the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embeddings.benchmarks.results import Result
from embeddings.registry.client import Registry, Version, parse_key
from embeddings.registry.comparison import Comparison
from embeddings.registry.errors import BadRequest
from embeddings.registry.loaded import GROUP, Loaded
from embeddings.registry.versions import EMBEDDING, LATEST


def overview(registry: Registry) -> list[dict[str, Any]]:
    """Every embedding: the number of its versions, their first and last day, and the latest one."""
    embeddings = []
    for name in registry.names(EMBEDDING):
        versions = registry.versions(name)
        aliases = registry.aliases(name)
        embedding = {
            "name": name,
            "versions": len(versions),
            "first_day": str(versions[0].day),
            "last_day": str(versions[-1].day),
            "latest": describe(aliases[LATEST], aliases, is_current=True),
        }
        embeddings.append(embedding)
    return embeddings


def detail(registry: Registry, version: Version) -> dict[str, Any]:
    """One version."""
    is_current = registry.version(version.name, version.day) == version
    return describe(version, registry.aliases(version.name), is_current)


def describe(version: Version, aliases: Mapping[str, Version], is_current: bool) -> dict[str, Any]:
    """A version. aliases: all of its embedding; the response lists those that point at it.

    is_current: the version is what its day means when no revision is named.
    """
    return {
        "id": version.id,
        "name": version.name,
        "day": str(version.day),
        "revision": version.revision,
        "current": is_current,
        "aliases": [alias for alias, target in aliases.items() if target.id == version.id],
        "space": version.space,
        "dim": version.dim,
        "entities": version.entities,
        "lineage": version.lineage,
        "digest": version.digest,
        "published_at": version.published_at.isoformat(),
    }


def versions(registry: Registry, name: str) -> list[dict[str, Any]]:
    """All versions of an embedding, in the order of `Registry.versions`."""
    aliases = registry.aliases(name)
    published = registry.versions(name)
    current = {version.day: version for version in published}  # a day's last one replaces others
    described = []
    for version in published:
        described.append(describe(version, aliases, current[version.day] is version))
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


def vectors(registry: Registry, version: Version, keys: Sequence[str]) -> dict[str, Any]:
    """The vectors of these 'entity:id' keys, in their order."""
    found = look_up_keys(registry.load(version), keys)
    return {**source(version), "vectors": records(found)}


def look_up(loaded: Loaded, entity: str, ids: Sequence[str]) -> Found:
    """The vectors of these ids of one entity. Raises NotFound."""
    one = loaded.get(entity, ids)
    columns = (one.vectors, one.counts, one.folded)
    return Found(loaded.version, [entity] * len(one.ids), one.ids, *columns)


def look_up_keys(loaded: Loaded, keys: Sequence[str]) -> Found:
    """The vectors of these 'entity:id' keys. Raises BadRequest, NotFound."""
    parsed = [parse_key(key, list(loaded.version.entities)) for key in keys]
    # One lookup per entity, not per id: each lookup has a fixed cost.
    places: dict[str, list[int]] = {}
    for place, (entity, _) in enumerate(parsed):
        places.setdefault(entity, []).append(place)
    if len(places) == 1:
        return look_up(loaded, parsed[0][0], [id_ for _, id_ in parsed])
    n = len(parsed)
    rows = np.empty((n, loaded.version.dim), np.float32)
    counts = np.empty(n, np.int32)
    folded = np.empty(n, np.bool_)
    for entity, at in places.items():
        one = loaded.get(entity, [parsed[place][1] for place in at])
        rows[at], counts[at], folded[at] = one.vectors, one.counts, one.folded
    entities = [entity for entity, _ in parsed]
    return Found(loaded.version, entities, [id_ for _, id_ in parsed], rows, counts, folded)


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
    registry: Registry, version: Version, key: str, k: int, among: str | None
) -> dict[str, Any]:
    """The nearest vectors of one 'entity:id'."""
    found = registry.load(version).neighbours(key, k, among)
    entity, _ = parse_key(key, list(version.entities))
    return {
        **source(version),
        "of": key,
        "among": among or entity,
        "neighbours": [vars(neighbour) for neighbour in found],
    }


def fold_in(registry: Registry, version: Version, strengths: Mapping[str, float]) -> dict[str, Any]:
    """The vector of a history, and the producers of the history that are unknown."""
    folded = registry.load(version).fold(strengths)
    if not np.isfinite(folded.vector).all():
        raise BadRequest(
            f"The strengths are so large that the vector is not finite; the largest is "
            f"{max(strengths.values()):g}."
        )
    return {
        **source(version),
        "known": folded.known,
        "unknown": folded.unknown,
        "vector": folded.vector.tolist(),
    }


def lookalike(
    registry: Registry,
    version: Version,
    groups: Sequence[str],
    candidates: Sequence[str],
    k: int,
    by: str,
) -> dict[str, Any]:
    """Producers for a consumer of these groups, and the number of consumers in each group."""
    loaded = registry.load(version)
    scored = loaded.lookalike(groups, candidates, k, by)
    counts = loaded.get(GROUP, groups).counts.tolist()
    return {
        **source(version),
        "groups": dict(zip(groups, counts, strict=True)),
        "producers": [vars(producer) for producer in scored],
    }


def source(version: Version) -> dict[str, str]:
    """The version and space of a response: clients must never mix vectors of two spaces."""
    return {"version": version.id, "space": version.space}


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
