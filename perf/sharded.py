"""make bench-sharded: tables of embeddings that are spread over processes, beside TorchRec's.

Speed: two processes look up the rows of a batch of 4096 samples with 23 columns in a table of 2.3
million rows × 16, 2048 samples each, and learn from a sum: forward, backward and update, one thread
each. Popular rows are read more often. TorchRec has its row-wise sharding and FBGEMM's optimizers
on CPUs, among which there is no Adam. Rounds alternate; the median of all counts.

Memory: the most that a process takes while a MaskNet is trained on 20 batches, with one table of 10
million rows × 16 and its moments, on two and on four processes. In the end, the first one puts the
model together.

SIZE=0.1 takes a tenth of the rows. Without TorchRec, there is no comparison.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from perf.report import Figure, arguments, finish
from perf.torchrec_peer import INSTALLED

PEERS = {"SGD": "SGD", "Adam": "row-wise Adagrad"}  # ours: TorchRec's


def main() -> int:
    options = arguments(__doc__, size="1")
    size = float(options.size)
    rounds = in_processes(2, "speed", size, options.seed)[0]
    figures = speed_figures(rounds)
    for count in (2, 4):
        for tables in ("whole", "sharded"):
            peaks = in_processes(count, tables, size, options.seed)
            name = f"{count} processes, {tables}"
            figures.append(Figure(f"{name}: memory of the first", peaks[0]["most"], "MiB"))
            others = max(peak["most"] for peak in peaks[1:])
            figures.append(Figure(f"{name}: of any other", others, "MiB"))
    figures.append(Figure("before there is a table", peaks[0]["before"], "MiB"))
    return finish("sharded", figures, options.seed)


def in_processes(count: int, what: str, size: float, seed: int) -> list[Any]:
    """What each of so many processes reports."""
    with tempfile.TemporaryDirectory() as folder:
        torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        worker = ["perf.sharded_worker", what, folder, str(size), str(seed)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", *torchrun, "-m", *worker]
        subprocess.run(command, check=True, env=environment)
        return [json.loads((Path(folder) / str(rank)).read_text()) for rank in range(count)]


def speed_figures(rounds: dict[str, list[tuple[float, float]]]) -> list[Figure]:
    """rounds: seconds and CPU seconds of all processes, each for a thousand samples."""
    figures = []
    walls = {name: median(wall for wall, _ in taken) for name, taken in rounds.items()}
    cpus = {name: median(cpu for _, cpu in taken) for name, taken in rounds.items()}
    for ours, theirs in PEERS.items():
        wall, cpu, peer = walls[f"ours, {ours}"], cpus[f"ours, {ours}"], f"TorchRec, {theirs}"
        peer_speed = 1000 / walls[peer] if INSTALLED else None
        peer_cpu = cpus[peer] if INSTALLED else None
        bar = 1.0 if ours == theirs and INSTALLED else None
        figures += [
            Figure(
                f"sharded, {ours}", 1000 / wall, "samples/s", peer, peer_speed, bar, False, True
            ),
            Figure(f"sharded, {ours}: CPU", cpu, "s per 1000 samples", peer, peer_cpu),
        ]
    return [*figures, Figure("whole, Adam", 1000 / walls["whole, Adam"], "samples/s")]


if __name__ == "__main__":
    sys.exit(main())
