"""Small versions to publish, and functions that other processes run."""

from __future__ import annotations

import os
import signal
from datetime import date
from pathlib import Path

import numpy as np

from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry.client import Registry, Vectors, Version
from embeddings.storage.folder import Folder

DAY = date(2022, 4, 25)
SPACE = "author/2022-04-25"
TOKEN = "a token"
IDS = np.array([b"c0", b"c1", b"c3", b"late"])  # in a table of features


def vectors(ids: list[str], dim: int = 3, seed: int = 0) -> Vectors:
    """Random vectors for these ids, every third folded in."""
    rng = np.random.default_rng(seed)
    n = len(ids)
    return Vectors(
        ids=np.array(sorted(id_.encode() for id_ in ids)),
        counts=rng.integers(1, 100, n).astype(np.int32),
        vectors=rng.normal(size=(n, dim)).astype(np.float32),
        folded=np.arange(n) % 3 == 2,
    )


def parts(
    seed: int = 0, consumers: int = 9, producers: int = 5, dim: int = 3
) -> tuple[dict[str, Vectors], SVDFoldIn]:
    """Consumers c0…, producers p0… and their fold-in; another seed gives other content."""
    entities = {
        "consumer": vectors([f"c{i}" for i in range(consumers)], dim, seed),
        "producer": vectors([f"p{i}" for i in range(producers)], dim, seed + 1),
    }
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(producers, dim)).astype(np.float32)
    return entities, SVDFoldIn(matrix, rng.uniform(1, 9, producers))


def publish(
    registry: Registry,
    day: date = DAY,
    seed: int = 0,
    name: str = "author",
    space: str = SPACE,
    **lineage,
) -> Version:
    entities, fold_in = parts(seed)
    return registry.publish(name, day, space, entities, fold_in, lineage)


def publish_groups(registry: Registry) -> Version:
    """A version that also has three groups of consumers."""
    entities, fold_in = parts()
    groups = vectors(["degree=full", "degree=low", "region=north"], seed=7)
    return registry.publish("author", DAY, SPACE, {**entities, "group": groups}, fold_in, {})


def columns(seed: int = 0) -> dict[str, np.ndarray]:
    """Features of every kind, of IDS."""
    return {
        "days": np.array([seed, 7, -1, 2**53], np.int64),
        "share": np.array([0.5, np.nan, 0.25, 1], np.float32),
        "active": np.array([True, False, True, True]),
        "degree": np.array([b"full", b"low", "hoch öffentlich".encode(), b""]),
    }


def publish_profile(
    registry: Registry, day: date = DAY, seed: int = 0, name: str = "profile", **lineage
) -> Version:
    """A table of features of four consumers."""
    return registry.publish_features(name, day, "consumer", IDS, columns(seed), lineage)


def open_and_publish(root: Path, url: str, barrier, seeds: list[int]) -> None:
    """Run by one of several processes: all open the registry at the same moment, then publish."""
    barrier.wait()
    with Registry(root, url) as registry:
        for seed in seeds:
            publish(registry, seed=seed, by=str(seeds))


def remove_and_die(root: Path, url: str, version: Version) -> None:
    """A removal that is killed when the row is gone and the files are not."""
    with Registry(root, url) as registry:
        Folder.discard = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        registry.remove(version)


def publish_large(root: Path, url: str, started) -> None:
    """A publication that takes long enough to be killed in the middle."""
    registry = Registry(root, url)
    entities, fold_in = parts(consumers=40_000, dim=32)
    started.set()
    registry.publish("author", DAY, SPACE, entities, fold_in, {})
