"""make bench-neighbours: the nearest among 1,000,000 x 128, approximate, exact and LanceDB.

Two kinds of vectors: in clusters of about 500, as those of people with shared interests, and in all
directions alike, the worst case of every index. A version is published with an index and opened;
then ids ask for their 10 nearest, one at a time. The recall is measured against an exact search
here, not read from the version. The peer is LanceDB on the same vectors and queries, with IVF_RQ
in 8 bits, the one of its indexes that finds most in the least time. Its candidates are compared by
their vectors, as ours are, and it reads twice as many lists until it finds 95 %. It is not among
the dependencies: install it with pip, into the environment or into a folder on PYTHONPATH;
otherwise it is left out. SIZE=0.1 takes a tenth of the vectors.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry.client import IndexRule, Loaded, Registry, Vectors, Version
from perf.report import Figure, arguments, finish
from perf.timing import seconds, timed

K = 10
DIM = 128
ROWS = 1_000_000
CLUSTER = 500  # vectors around one centre
NOISE = 0.7  # of a vector, over the length of its centre
QUERIES = 200
RECALL = 0.95  # required of us and of the peer
FIRST_PROBES = 20  # LanceDB's default
SMALLEST_LIST = 1000  # vectors; LanceDB's lists have more, so that all are read at the end
DAY = date(2024, 1, 1)
NEVER, INDEX = IndexRule(), IndexRule(above=10_000, min_recall=RECALL)


@dataclass(frozen=True)
class Measured:
    """Seconds per query, one at a time, and the ids found for each query."""

    seconds: list[float]
    found: list[list[str]]

    @property
    def p50_ms(self) -> float:
        return 1e3 * median(self.seconds)

    def recall(self, exact: Measured) -> float:
        """The share of the exact neighbours that were found."""
        shares = []
        for mine, right in zip(self.found, exact.found, strict=True):
            shares.append(len(set(mine) & set(right)) / len(right))
        return float(np.mean(shares))


def main() -> int:
    options = arguments(__doc__, size="1")
    n = int(ROWS * float(options.size))
    figures = []
    for kind, drawn in (("clusters", in_clusters), ("all directions", in_all_directions)):
        figures += figures_of(kind, drawn(np.random.default_rng(options.seed), n))
    figures.append(Figure("import of faiss", seconds_of_import("faiss"), "s"))
    return finish("neighbours", figures, options.seed)


def in_clusters(rng: np.random.Generator, n: int) -> np.ndarray:
    centres = rng.normal(size=(max(1, n // CLUSTER), DIM)).astype(np.float32)
    vectors = centres[rng.integers(0, len(centres), n)]
    vectors += NOISE * rng.standard_normal((n, DIM), np.float32)
    return vectors


def in_all_directions(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal((n, DIM), np.float32)


def figures_of(kind: str, vectors: np.ndarray) -> list[Figure]:
    """Publish, open and query our index, search exactly, and query LanceDB."""
    n = len(vectors)
    rows = np.linspace(0, n - 1, QUERIES).astype(np.int64)
    with (
        tempfile.TemporaryDirectory() as folder,
        Registry(Path(folder), f"sqlite:///{folder}/catalog.db") as registry,
    ):
        plain_s, _ = timed(lambda: publish(registry, vectors, NEVER))
        index_s, version = timed(lambda: publish(registry, vectors, INDEX))
        open_s, loaded = timed(lambda: registry.load(version))
        first_s = seconds(lambda: loaded.neighbours("consumer:0000000", K))
        mine = asked(lambda row: ours(loaded, row, exact=False), rows)
        exact = asked(lambda row: ours(loaded, row, exact=True), rows)
        file = version.path / "consumer" / "neighbours.faiss"
        index_mib = file.stat().st_size / 2**20
        check_published(version)
        peer = lance(Path(folder), vectors, rows, exact)
    peer_ms, peer_recall = (peer.p50_ms, peer.recall(exact)) if peer else (None, None)
    name = "LanceDB" if peer else ""
    facts = version.entities["consumer"]["index"]
    size = f"{n:,} x {DIM}, {kind}"
    return [
        Figure(
            f"{size}: {K} nearest, p50",
            mine.p50_ms,
            "ms",
            name,
            peer_ms,
            1.0 if peer else None,
            bar_on_ratio=True,
        ),
        Figure(
            "recall@10",
            mine.recall(exact),
            "",
            name,
            peer_recall,
            1.0 if peer else None,
            at_most=False,
            bar_on_ratio=True,
        ),
        Figure("published recall@10", facts["recall"]["consumer"]["at_10"], ""),
        Figure("published recall@100", facts["recall"]["consumer"]["at_100"], ""),
        Figure(f"lists read, of {facts['kind']}", facts["probes"], "lists"),
        Figure("exact, p50", exact.p50_ms, "ms"),
        Figure("opening the version", 1e3 * open_s, "ms", bar=50),
        Figure("first search: import, digest", 1e3 * first_s, "ms"),
        Figure("publishing without an index", plain_s, "s", bar=10),
        Figure("publishing with one, measured", index_s, "s"),
        Figure("index", index_mib, "MiB"),
    ]


def check_published(version: Version) -> None:
    assert "index" in version.entities["consumer"], "the index was not built"


def publish(registry: Registry, vectors: np.ndarray, rule: IndexRule) -> Version:
    producers = of(vectors[:1000])
    fold_in = SVDFoldIn(producers.vectors, np.ones(1000))
    entities = {"consumer": of(vectors), "producer": producers}
    return registry.publish("author", DAY, "author/2024-01-01", entities, fold_in, {}, index=rule)


def of(vectors: np.ndarray) -> Vectors:
    n = len(vectors)
    return Vectors(ids_of(n), vectors, np.ones(n, np.int32), np.zeros(n, bool))


def ids_of(n: int) -> np.ndarray:
    return np.char.zfill(np.arange(n).astype("S7"), 7)


def ours(loaded: Loaded, row: int, exact: bool) -> list[str]:
    found = loaded.neighbours(f"consumer:{row:07}", K, exact=exact)
    assert found.exact == exact
    return [one.id for one in found]


def asked(search: Callable[[int], list[str]], rows: np.ndarray) -> Measured:
    """Ask for the neighbours of each row, after a first round that is not counted."""
    found = []
    for row in rows[:20]:
        search(int(row))
    took = []
    for row in rows:
        started = time.perf_counter()
        found.append(search(int(row)))
        took.append(time.perf_counter() - started)
    return Measured(took, found)


def lance(folder: Path, vectors: np.ndarray, rows: np.ndarray, exact: Measured) -> Measured | None:
    """The same queries in LanceDB, reading as many lists as it needs; None if not installed."""
    try:
        import lancedb
        from lancedb.index import IvfRq
    except ImportError as error:
        print(f"LanceDB is left out: {error}. To compare with it, `pip install lancedb`.")
        return None
    n = len(vectors)
    listed = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
    data = pa.table({"id": pa.array(ids_of(n).astype(str)), "vector": listed})
    table = lancedb.connect(folder / "lance").create_table("consumer", data)
    table.create_index("vector", config=IvfRq(distance_type="cosine", num_bits=8))
    probes = FIRST_PROBES
    while True:
        measured = asked(partial(of_lance, table, vectors, probes), rows)
        if measured.recall(exact) >= RECALL or probes >= n // SMALLEST_LIST:
            return measured
        probes *= 2


def of_lance(table: Any, vectors: np.ndarray, probes: int, row: int) -> list[str]:
    # Its own row is among the found ones, so one more.
    query = table.search(vectors[row]).distance_type("cosine").limit(K + 1)
    query = query.nprobes(probes).refine_factor(10).select(["id", "_distance"])
    ids = query.to_arrow()["id"].to_pylist()
    return [id_ for id_ in ids if id_ != f"{row:07}"][:K]


def seconds_of_import(module: str) -> float:
    """In a new process that has imported NumPy."""
    code = f"import numpy, time; a = time.time(); import {module}; print(time.time() - a)"
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    sys.exit(main())
