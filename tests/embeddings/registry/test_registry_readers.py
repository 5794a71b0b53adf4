"""Many readers while versions are published and aliases move: no answer is torn or mixed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest
from registry_parts import DAY, SPACE

from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry import Registry, RemoteRegistry
from embeddings.registry.client import Vectors, Version
from embeddings.registry.service import create_app
from tests.http_server import serving

PUBLICATIONS = 100
READERS = 16
IDS = [f"p{i:02}" for i in range(40)]


def publish_number(registry: Registry, number: int) -> Version:
    """A version all of whose numbers are `number`, which its lineage names; ten days in turn."""
    n = len(IDS)
    ids = np.array([id_.encode() for id_ in IDS])
    vectors = np.full((n, 4), number, np.float32)
    counts = np.full(n, number, np.int32)
    entity = Vectors(ids, vectors, counts, np.zeros(n, bool))
    entities = {"producer": entity, "consumer": entity}
    day = DAY + timedelta(days=number % 10)
    fold_in = SVDFoldIn(vectors, np.ones(n))
    return registry.publish("author", day, SPACE, entities, fold_in, {"number": number})


def read(registry: Registry | RemoteRegistry) -> None:
    """Everything in one answer belongs to one version, the one that the alias named then."""
    version = registry.alias("author", "serving")
    number = version.lineage["number"]
    for entity in ("producer", "consumer"):
        found = registry.get("author", entity, IDS, version.day, version.revision)
        assert found.version.id == version.id
        assert (found.vectors == number).all()
        assert (found.counts == number).all()
    latest = registry.get("author", "producer", IDS)
    assert (latest.vectors == latest.version.lineage["number"]).all()


def reader(
    registry: Registry | RemoteRegistry, stop: threading.Event, faults: list[str]
) -> Callable[[], None]:
    def run() -> None:
        while not stop.is_set():
            try:
                read(registry)
            except Exception as fault:
                faults.append(repr(fault))
                return

    return run


@pytest.mark.slow
def test_sixteen_readers_beside_a_hundred_publications(plain):
    """Half of them in process, half over HTTP."""
    plain.set_alias("author", "serving", publish_number(plain, 1))
    url = plain.catalog.url
    stop, faults = threading.Event(), []
    with serving(create_app(plain.root, url)) as address:
        readers: list[Registry | RemoteRegistry] = []
        for number in range(READERS):
            readers.append(RemoteRegistry(address) if number % 2 else Registry(plain.root, url))
        threads = [threading.Thread(target=reader(each, stop, faults)) for each in readers]
        for thread in threads:
            thread.start()
        for number in range(2, PUBLICATIONS + 2):
            plain.set_alias("author", "serving", publish_number(plain, number))
        stop.set()
        for thread in threads:
            thread.join()
        for each in readers:
            each.close()
    assert faults == []
    assert len(plain.versions("author")) == PUBLICATIONS + 1
