"""Small versions to publish, and what other processes do with them."""

from __future__ import annotations

import socket
from datetime import date
from pathlib import Path

import numpy as np

from embeddings.fold_in import SVDFoldIn
from embeddings.registry.client import Registry, Vectors, Version

DAY = date(2022, 4, 25)
SPACE = "author/2022-04-25"
TOKEN = "a token"


def vectors(ids: list[str], dim: int = 3, seed: int = 0) -> Vectors:
    """Random vectors for these ids, every third folded in."""
    rng = np.random.default_rng(seed)
    encoded = np.array(sorted(id_.encode() for id_ in ids))
    n = len(ids)
    counts, folded = rng.integers(1, 100, n).astype(np.int32), np.arange(n) % 3 == 2
    return Vectors(encoded, rng.normal(size=(n, dim)).astype(np.float32), counts, folded)


def parts(
    seed: int = 0, consumers: int = 9, producers: int = 5, dim: int = 3
) -> tuple[dict[str, Vectors], SVDFoldIn]:
    """Consumers c0…, producers p0… and their fold-in matrix; another seed is other content."""
    entities = {
        "consumer": vectors([f"c{i}" for i in range(consumers)], dim, seed),
        "producer": vectors([f"p{i}" for i in range(producers)], dim, seed + 1),
    }
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(producers, dim)).astype(np.float32)
    return entities, SVDFoldIn(matrix, rng.uniform(1, 9, producers))


def publish(
    registry: Registry, day: date = DAY, seed: int = 0, name: str = "author", **lineage
) -> Version:
    entities, fold_in = parts(seed)
    return registry.publish(name, day, SPACE, entities, fold_in, lineage)


def publish_groups(registry: Registry) -> Version:
    """A version with three groups of consumers, whose vectors are means of those."""
    entities, fold_in = parts()
    groups = vectors(["degree=full", "degree=low", "region=north"], seed=7)
    return registry.publish("author", DAY, SPACE, {**entities, "group": groups}, fold_in, {})


def open_and_publish(root: Path, url: str, barrier, seeds: list[int]) -> None:
    """What one of several processes does: open at the same moment, then publish."""
    barrier.wait()
    with Registry(root, url) as registry:
        for seed in seeds:
            publish(registry, seed=seed, by=str(seeds))


def publish_large(root: Path, url: str, started) -> None:
    """A publication that takes long enough to be killed in the middle."""
    registry = Registry(root, url)
    entities, fold_in = parts(consumers=40_000, dim=32)
    started.set()
    registry.publish("author", DAY, SPACE, entities, fold_in, {})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
