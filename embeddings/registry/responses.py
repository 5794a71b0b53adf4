"""The registry's responses as JSON values, the same for the command line and the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from embeddings.registry.client import Registry, Version, parse_key
from embeddings.registry.loaded import GROUP
from embeddings.registry.versions import LATEST


def overview(registry: Registry) -> list[dict[str, Any]]:
    """Every embedding: the number of its versions, their first and last day, and the latest one."""
    embeddings = []
    for name in registry.names():
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
        "published_at": version.published_at.isoformat(timespec="seconds"),
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
        moves.append({**vars(move), "moved_at": move.moved_at.isoformat(timespec="seconds")})
    return moves


def vectors(registry: Registry, version: Version, keys: Sequence[str]) -> dict[str, Any]:
    """The vectors of these 'entity:id' keys, in their order."""
    parsed = [parse_key(key, list(version.entities)) for key in keys]
    # One lookup per entity, not per id: each lookup has a fixed cost.
    ids_by_entity: dict[str, list[str]] = {}
    for entity, id_ in parsed:
        ids_by_entity.setdefault(entity, []).append(id_)
    records: dict[tuple[str, str], dict[str, Any]] = {}
    for entity, ids in ids_by_entity.items():
        for record in _records(registry, version, entity, ids):
            records[entity, record["id"]] = record
    return {**_source(version), "vectors": [records[key] for key in parsed]}


def _records(
    registry: Registry, version: Version, entity: str, ids: list[str]
) -> list[dict[str, Any]]:
    """One record per id, in the order of the ids."""
    found = registry.load(version).get(entity, ids)
    columns = zip(
        ids, found.counts.tolist(), found.folded.tolist(), found.vectors.tolist(), strict=True
    )
    records = []
    for id_, count, folded, vector in columns:
        record = {
            "entity": entity,
            "id": id_,
            "count": count,
            "folded": folded,
            "vector": vector,
        }
        records.append(record)
    return records


def neighbours(
    registry: Registry, version: Version, key: str, k: int, among: str | None
) -> dict[str, Any]:
    """The nearest vectors of one 'entity:id'."""
    found = registry.load(version).neighbours(key, k, among)
    entity, _ = parse_key(key, list(version.entities))
    return {
        **_source(version),
        "of": key,
        "among": among or entity,
        "neighbours": [vars(neighbour) for neighbour in found],
    }


def fold_in(registry: Registry, version: Version, strengths: Mapping[str, float]) -> dict[str, Any]:
    """The vector of a history, and the producers of the history that are unknown."""
    folded = registry.load(version).fold(strengths)
    return {
        **_source(version),
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
        **_source(version),
        "groups": dict(zip(groups, counts, strict=True)),
        "producers": [vars(producer) for producer in scored],
    }


def _source(version: Version) -> dict[str, str]:
    """The version and space of a response: clients must never mix vectors of two spaces."""
    return {"version": version.id, "space": version.space}
