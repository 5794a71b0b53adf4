"""make bench-registry: reads, in process and over HTTP, of 1,000,000 vectors of 128 numbers.

Ids are drawn at random. In process, the peer is a table in SQLite with the vectors as blobs; both
are read in turn, a round each, and return an array in the order of the ids. Over HTTP, the service
is a uvicorn process of its own as the process file starts it, with one worker; this process is the
client, with connections that are kept. SIZE=0.1 takes a tenth of the vectors.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np

from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry import files
from embeddings.registry.arrow import ARROW
from embeddings.registry.client import Registry, Vectors
from perf import http_load
from perf.report import Figure, arguments, finish
from perf.timing import seconds, timed

K = 128
N = 1_000_000
DAY = date(2024, 1, 1)
CALLS = {1: 500, 100: 200, 1000: 50}  # ids in a call -> calls in a round
PATH = "/v1/embeddings/{name}/vectors"
CONNECTIONS = 8
REQUESTS = 50_000  # during which memory must not grow
ROUNDS = 5
Read = Callable[[list[str]], np.ndarray]


def main() -> int:
    options = arguments(__doc__, size="1")
    n = int(N * float(options.size))
    rng = np.random.default_rng(options.seed)
    ids = {"integers": integer_ids(n), "texts": text_ids(n, rng)}
    with tempfile.TemporaryDirectory() as folder, Registry(*registry_in(folder)) as registry:
        figures = []
        for kind, of_kind in ids.items():
            figures += written_and_read(registry, kind, of_kind, rng)
        figures.append(text_ratio(figures))
        figures.append(Figure("open a version", opening_ms(registry), "ms", bar=50))
        with service(registry.root) as (port, process):
            figures += over_http(port, process.pid, ids["integers"], rng)
    return finish("registry", figures, options.seed)


def registry_in(folder: str) -> tuple[Path, str]:
    root = Path(folder) / "registry"
    return root, f"sqlite:///{root}/catalog.db"


def integer_ids(n: int) -> np.ndarray:
    return np.array([b"%d" % number for number in range(10 * N, 10 * N + n)])


def text_ids(n: int, rng: np.random.Generator) -> np.ndarray:
    """As of users in another system: 16 hexadecimal digits."""
    drawn = rng.integers(0, 1 << 63, 2 * n, dtype=np.int64)
    return np.sort([b"%016x" % number for number in np.unique(drawn)[:n].tolist()])


def drawn(ids: np.ndarray, rng: np.random.Generator) -> Vectors:
    n = len(ids)
    return Vectors(
        ids=ids,
        vectors=rng.standard_normal((n, K), dtype=np.float32),
        counts=rng.integers(1, 100, n).astype(np.int32),
        folded=np.zeros(n, np.bool_),
    )


def publish(registry: Registry, name: str, consumer: Vectors) -> None:
    """With a thousand producers, which every version needs."""
    fields = (consumer.ids, consumer.vectors, consumer.counts, consumer.folded)
    producer = Vectors(*(field[:1000] for field in fields))
    fold_in = SVDFoldIn(producer.vectors, np.ones(1000))
    registry.publish(
        name, DAY, f"{name}/{DAY}", {"consumer": consumer, "producer": producer}, fold_in, {}
    )


class Table:
    """The peer: vectors as blobs in a table of SQLite, by id."""

    def __init__(self, path: Path) -> None:
        self.database = sqlite3.connect(path)

    def write(self, vectors: Vectors) -> None:
        self.database.execute("PRAGMA journal_mode = OFF")
        self.database.execute("PRAGMA synchronous = OFF")
        self.database.execute(
            "CREATE TABLE vectors (id TEXT PRIMARY KEY, vector BLOB) WITHOUT ROWID"
        )
        ids = (id_.decode() for id_ in vectors.ids.tolist())
        blobs = (row.tobytes() for row in vectors.vectors)
        self.database.executemany("INSERT INTO vectors VALUES (?, ?)", zip(ids, blobs, strict=True))
        self.database.commit()

    def read(self, ids: list[str]) -> np.ndarray:
        """(m, k), in the order of the ids."""
        marks = ",".join("?" * len(ids))
        rows = self.database.execute(f"SELECT id, vector FROM vectors WHERE id IN ({marks})", ids)
        blobs = dict(rows)
        joined = b"".join([blobs[id_] for id_ in ids])
        return np.frombuffer(joined, np.float32).reshape(len(ids), K)


def written_and_read(
    registry: Registry, kind: str, ids: np.ndarray, rng: np.random.Generator
) -> list[Figure]:
    """Publish vectors of these ids, and look them up."""
    vectors = drawn(ids, rng)
    peer = Table(registry.root / f"{kind}.db")
    ours = seconds(lambda: publish(registry, kind, vectors))
    theirs = seconds(lambda: peer.write(vectors))
    label = f"publish {len(ids):,} x {K}, {kind}"
    return [
        Figure(label, ours, "s", "SQLite, not synced", theirs, bar=10),
        *in_process(registry, kind, ids, peer, rng),
    ]


def in_process(
    registry: Registry, name: str, ids: np.ndarray, peer: Table, rng: np.random.Generator
) -> list[Figure]:
    """The time of a lookup by the number of ids; the bars are those of integer-like ids."""
    loaded = registry.load(registry.version(name))
    bars = {1: (None, 0.1), 100: (None, 0.4), 1000: (1.5, None)} if name == "integers" else {}
    figures = []
    for size, calls in CALLS.items():
        ours, theirs = [], []
        for _ in range(ROUNDS):
            wanted = [drawn_ids(ids, size, rng) for _ in range(calls)]
            took, found = taken(lambda some: loaded.get("consumer", some).vectors, wanted)
            ours.append(took)
            took, expected = taken(peer.read, wanted)
            theirs.append(took)
            assert np.array_equal(found, expected)
        for percent, bar in zip((50, 99), bars.get(size, (None, None)), strict=True):
            label = f"in process, {size:,} of {name}, p{percent}"
            value, peers = (of_rounds(rounds, percent) for rounds in (ours, theirs))
            figures.append(Figure(label, value, "ms", "SQLite", peers, bar=bar))
    return figures


def drawn_ids(ids: np.ndarray, n: int, rng: np.random.Generator) -> list[str]:
    return [id_.decode() for id_ in rng.choice(ids, n).tolist()]


def taken(read: Read, calls: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    """The seconds of each call, (n,), and what the last one found."""
    times = np.empty(len(calls))
    for number, ids in enumerate(calls):
        times[number], found = timed(lambda ids=ids: read(ids))
    return times, found


def of_rounds(rounds: list[np.ndarray], percent: int) -> float:
    """The median over the rounds of a percentile, in ms: other work on the machine comes and goes.

    rounds: the seconds of each call, per round.
    """
    return 1000 * median(float(np.percentile(times, percent)) for times in rounds)


def text_ratio(figures: list[Figure]) -> Figure:
    """How much longer a lookup of texts takes than one of integers, at worst."""
    values = {figure.name: figure.value for figure in figures}
    ratios = []
    for size in CALLS:
        texts, integers = (
            values[f"in process, {size:,} of {kind}, p50"] for kind in ("texts", "integers")
        )
        ratios.append(texts / integers)
    return Figure("in process, texts beside integers, p50 at worst", max(ratios), "×", bar=2)


def opening_ms(registry: Registry) -> float:
    version = registry.version("integers")
    times = []
    for _ in range(20):
        files._open_folder.cache_clear()
        times.append(seconds(lambda: registry.load(version)))
    return 1000 * median(times)


@contextmanager
def service(root: Path) -> Iterator[tuple[int, subprocess.Popen]]:
    """The service's port and process, as infra/Procfile starts it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["-m", "uvicorn", "--factory", "jobs.local.registry_app:app", "--port", str(port)]
    environment = {**os.environ, "EVERGREEN_REGISTRY_ROOT": str(root)}
    quiet = ["--no-access-log", "--log-level", "warning"]
    with subprocess.Popen([sys.executable, *command, *quiet], env=environment) as process:
        try:
            wait_for(port, process)
            yield port, process
        finally:
            process.terminate()


def wait_for(port: int, process: subprocess.Popen) -> None:
    for _ in range(600):
        try:
            http_load.Connection(port).socket.close()
        except ConnectionRefusedError:
            if process.poll() is not None:
                raise RuntimeError("The service has ended.") from None
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("The service does not listen.")


def over_http(port: int, pid: int, ids: np.ndarray, rng: np.random.Generator) -> list[Figure]:
    path = PATH.format(name="integers")

    def one() -> bytes:
        return http_load.get(f"{path}?id=consumer:{rng.choice(ids).decode()}")

    def thousand() -> bytes:
        body = json.dumps({"entity": "consumer", "ids": drawn_ids(ids, 1000, rng)}).encode()
        return http_load.post(path, body, ARROW)

    http_load.latencies(port, one, 500)  # until caches are filled and buffers have their size
    http_load.latencies(port, thousand, 200)
    before = anonymous_mib(pid)
    ones, thousands, rates = [], [], []
    for _ in range(ROUNDS):
        ones.append(http_load.latencies(port, one, 2000))
        thousands.append(http_load.latencies(port, thousand, 200))
        rates.append(http_load.throughput(port, one, REQUESTS // ROUNDS, CONNECTIONS))
    growth = anonymous_mib(pid) - before
    rate = f"HTTP, one id, {CONNECTIONS} connections, one worker"
    figures = []
    for label, rounds, bar in (("one id as JSON", ones, 3), ("1,000 ids as Arrow", thousands, 10)):
        p50, p99 = (of_rounds(rounds, percent) for percent in (50, 99))
        figures.append(Figure(f"HTTP, {label}, p50", p50, "ms"))
        figures.append(Figure(f"HTTP, {label}, p99", p99, "ms", bar=bar))
    return [
        *figures,
        Figure(rate, median(rates), "requests/s", bar=1500, at_most=False),
        Figure(f"growth of memory in {REQUESTS:,} requests", growth, "MiB", bar=2),
    ]


def anonymous_mib(pid: int) -> float:
    """The memory of a process that no file backs: mapped vectors come and go with the cache."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{pid}/status has no RssAnon")


if __name__ == "__main__":
    sys.exit(main())
