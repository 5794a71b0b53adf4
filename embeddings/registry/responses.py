"""The registry's answers as JSON: one shape for the command line and the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from embeddings.registry.client import Registry, Version, parse_who
from embeddings.registry.loaded import GROUP
from embeddings.registry.versions import LATEST


def overview(registry: Registry) -> list[dict[str, Any]]:
    """Every embedding, with its versions counted and its latest one described."""
    found = []
    for name in registry.names():
        versions, aliases = registry.versions(name), registry.aliases(name)
        days = {"first_day": str(versions[0].day), "last_day": str(versions[-1].day)}
        found.append(
            {
                "name": name,
                "versions": len(versions),
                **days,
                "latest": describe(aliases[LATEST], aliases),
            }
        )
    return found


def describe(version: Version, aliases: Mapping[str, Version] | None = None) -> dict[str, Any]:
    """A version; aliases: all of its embedding, of which those that point here are told."""
    return {
        "id": version.id,
        "name": version.name,
        "day": str(version.day),
        "revision": version.revision,
        "aliases": [alias for alias, target in (aliases or {}).items() if target.id == version.id],
        "space": version.space,
        "dim": version.dim,
        "entities": version.entities,
        "lineage": version.lineage,
        "digest": version.digest,
        "published_at": version.published_at.isoformat(timespec="seconds"),
    }


def vectors(registry: Registry, version: Version, whos: Sequence[str]) -> dict[str, Any]:
    """The vectors of these 'entity:id', in their order."""
    parsed = [parse_who(who, list(version.entities)) for who in whos]
    records: dict[tuple[str, str], dict[str, Any]] = {}
    for entity in dict(parsed):
        ids = [id_ for its, id_ in parsed if its == entity]
        found = registry.get(version.name, entity, ids, version.day, version.revision)
        columns = zip(
            ids, found.counts.tolist(), found.folded.tolist(), found.vectors.tolist(), strict=True
        )
        for id_, count, folded, vector in columns:
            records[entity, id_] = {
                "entity": entity,
                "id": id_,
                "count": count,
                "folded": folded,
                "vector": vector,
            }
    return {**_source(version), "vectors": [records[key] for key in parsed]}


def neighbours(
    registry: Registry, version: Version, who: str, k: int, among: str | None
) -> dict[str, Any]:
    """The nearest of one 'entity:id'."""
    found = registry.neighbours(version.name, who, k, version.day, among, version.revision)
    among = among or parse_who(who, list(version.entities))[0]
    return {
        **_source(version),
        "of": who,
        "among": among,
        "neighbours": [vars(neighbour) for neighbour in found],
    }


def fold_in(registry: Registry, version: Version, strengths: Mapping[str, float]) -> dict[str, Any]:
    """The vector of a history, and what of the history was not known."""
    folded = registry.fold_in(version.name, strengths, version.day, version.revision)
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
    """Producers for somebody of these groups, and how many consumers stand behind each group."""
    loaded = registry.load(version)
    found = loaded.lookalike(groups, candidates, k, by)
    consumers = dict(zip(groups, loaded.get(GROUP, groups).counts.tolist(), strict=True))
    return {
        **_source(version),
        "groups": consumers,
        "producers": [vars(producer) for producer in found],
    }


def _source(version: Version) -> dict[str, str]:
    """Where an answer comes from; vectors of two spaces are never mixed."""
    return {"version": version.id, "space": version.space}
