"""make bench-cooccurrence-memory: memory of co-occurrence training on 100 M pairs, k = 128.

All pairs are different: 2 M consumers with 50 of 200,000 producers each, all equally likely, in one
epoch of batches of 200,000 pairs with 5 negatives. Measured is the peak beyond the matrix, in units
of the two tables that are learned: inputs and outputs of the producers ("baskets"), or consumers
and producers ("direct"). Each is measured in a process of its own, because what a process took
before would count. Rates are pairs per second of CPU. SIZE=0.1 makes a tenth of the pairs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.sparse as sp

from embeddings.cooccurrence.training import Config, fit
from embeddings.embedders.cooccurrence import Options
from embeddings.kernels.communicator import SingleWorker
from perf.report import Figure, arguments, finish

DIM = 128
CONSUMERS, PRODUCERS = 2_000_000, 200_000
BASKET = 50  # producers of each consumer
BATCH = 200_000  # pairs
KINDS: tuple[Literal["baskets", "direct"], ...] = ("baskets", "direct")


def main() -> int:
    options = arguments(__doc__, size="1")
    kind, _, size = options.size.rpartition(" ")
    consumers = int(CONSUMERS * float(size))
    if kind:  # a process of its own
        print(json.dumps(measured(kind, consumers, options.seed)))
        return 0
    figures = []
    for kind in KINDS:
        command = [sys.executable, "-m", "perf.cooccurrence_memory", "--size", f"{kind} {size}"]
        done = subprocess.run(
            [*command, "--seed", str(options.seed)], capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout)
        name = f"{kind}, {consumers * BASKET / 1e6:g} M pairs"
        figures.append(Figure(f"{name}, memory", found["memory"], "tables", bar=2.0))
        figures.append(Figure(f"{name}, rate", found["rate"], "/core-s"))
    return finish("cooccurrence_memory", figures, options.seed)


def measured(kind: Literal["baskets", "direct"], consumers: int, seed: int) -> dict[str, float]:
    """The peak memory of a fit beyond that before it, in units of its tables, and its rate."""
    indptr = np.arange(consumers + 1) * BASKET
    rng = np.random.default_rng(seed)
    columns = rng.integers(0, PRODUCERS, indptr[-1], dtype=np.int32)
    ones = np.ones(len(columns), np.float32)
    x = sp.csr_matrix((ones, columns, indptr), shape=(consumers, PRODUCERS))
    ids = np.arange(PRODUCERS).astype(np.bytes_)
    batches = max(1, len(columns) // BATCH)
    options = Options(pairs=kind, epochs=1, batches=batches, negatives=5, learning_rate=0.1)
    cfg = Config(dim=DIM, seed=seed, **options.model_dump())
    fit(x[:1, :100], cfg, SingleWorker(), ids[:100])  # compiles
    Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
    before = peak_bytes()
    started = time.process_time()
    fit(x, cfg, SingleWorker(), ids)
    cpu_s = time.process_time() - started
    inputs = PRODUCERS if kind == "baskets" else consumers
    tables = (PRODUCERS + inputs) * DIM * 4
    return {"memory": (peak_bytes() - before) / tables, "rate": len(columns) / cpu_s}


def peak_bytes() -> int:
    """The largest memory of this process so far, from Linux."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    sys.exit(main())
