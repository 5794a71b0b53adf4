"""The small registry that the examples of the HTTP and Python references use."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from embeddings.benchmarks.results import Result
from embeddings.registry.client import Registry, Vectors
from embeddings.registry.files import restore
from embeddings.registry.service import create_app
from tests.http_server import serving

SPACE = "author/2022-04-24"
LINEAGE = {"days": ["2022-04-24", "2022-04-25"], "method": "svd"}


def vectors(rows: dict[str, list[float]], counts: list[int], folded: list[bool]) -> Vectors:
    """rows: id -> vector, in the order of the ids."""
    ids = np.array([id_.encode() for id_ in rows])
    values = np.array(list(rows.values()), np.float32)
    return Vectors(ids, values, np.array(counts, np.int32), np.array(folded))


def publish(registry: Registry, day: date, ann: float) -> None:
    """A version in two dimensions, in which every answer can be computed in the head."""
    producers = {"folk": [0.6, 0.8], "jazz": [1.0, 0.0], "rock": [0.0, 1.0]}
    consumers = {"ann": [ann, 0.0], "ben": [0.0, 1.0], "cleo": [1.0, 1.0]}
    entities = {
        "producer": vectors(producers, [1, 2, 2], [False, False, False]),
        "consumer": vectors(consumers, [5, 4, 3], [False, False, True]),
        "group": vectors({"city=oslo": [1.0, 0.0]}, [2], [False]),
    }
    matrix = np.array(list(producers.values()), np.float32)
    arrays = {"matrix": matrix, "column_sums": np.ones(len(producers))}
    fold_in = restore(arrays, {"kind": "svd", "row_extra": 0.0})
    registry.publish("author", day, SPACE, entities, fold_in, LINEAGE)


@pytest.fixture
def small_registry(tmp_path, monkeypatch) -> Path:
    """The root of a registry with two versions, where the examples expect it below the folder."""
    root = tmp_path / ".evergreen" / "registry"
    monkeypatch.chdir(tmp_path)
    with Registry(root, f"sqlite:///{root}/catalog.db") as registry:
        publish(registry, date(2022, 4, 24), ann=1.0)
        publish(registry, date(2022, 4, 25), ann=2.0)
    return root


@pytest.fixture
def served_registry(small_registry) -> Path:
    """The same with what the examples of the HTTP page also use."""
    with Registry(small_registry, f"sqlite:///{small_registry}/catalog.db") as registry:
        columns = {"register_days": np.array([12, 700]), "degree": np.array([b"low", b"full"])}
        consumers = np.array([b"ann", b"cleo"])
        day = date(2022, 4, 25)
        registry.publish_features("profile", day, "consumer", consumers, columns, {})
        for version, value in zip(registry.versions("author"), (0.25, 0.375), strict=True):
            registry.add_results(version, [ndcg(value)])
        for reference in ("2022-04-25", "2022-04-24"):
            registry.set_alias("author", "serving", registry.find("author", reference), by="ann")
    return small_registry


def ndcg(value: float) -> Result:
    """A result whose interval is 0.125 to either side."""
    low, high = value - 0.125, value + 0.125
    return Result("retrieval", "ndcg20", date(2022, 4, 26), value, low, high, 3, {"random": 0.125})


@pytest.fixture
def address(small_registry) -> Iterator[str]:
    """The address of a running service on the small registry."""
    app = create_app(small_registry, f"sqlite:///{small_registry}/catalog.db")
    with serving(app) as running:
        yield running
