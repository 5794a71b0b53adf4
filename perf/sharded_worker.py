"""One of the processes that `perf.sharded` starts: python -m perf.sharded_worker WHAT FOLDER …"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from models import processes
from models.features import Categorical, Day, FeatureSpec
from models.rankers.base import read_options
from models.row_adam import RowAdam
from models.sharded_table import ShardedTable, new_table
from models.training import TrainingConfig, train
from perf import torchrec_peer
from perf.train import peak_memory

BATCH, COLUMNS, WIDTH = 4096, 23, 16
COLUMN_ROWS = 100_000  # of each column
ROUNDS, STEPS = 15, 20
LARGE = 10_000_000  # rows of the table whose memory is measured

Step = Callable[[Tensor], None]


def main() -> None:
    what, folder, size, seed = sys.argv[1:]
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # TorchRec's about itself
    with processes.connected():
        if what == "speed":
            result = speed(int(COLUMN_ROWS * float(size)), int(seed))
        else:
            result = memory(what, int(LARGE * float(size)), int(seed))
        (Path(folder) / str(processes.rank())).write_text(json.dumps(result))


def speed(column_rows: int, seed: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds and CPU seconds of all processes for a thousand samples, of each round."""
    steps = contestants(column_rows)
    rng = np.random.default_rng([seed, processes.rank()])
    shape = (STEPS, BATCH // processes.size(), COLUMNS)
    # Within each column; popular rows first.
    batches = torch.from_numpy((rng.random(shape) ** 4 * column_rows).astype(np.int64))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for step in steps.values():
        step(batches[0])
    for _ in track(range(ROUNDS), "speed", disable=processes.rank() > 0):
        for name, step in steps.items():
            processes.agreed(0)  # all begin together
            wall, cpu = time.perf_counter(), time.process_time()
            for rows in batches:
                step(rows)
            processes.agreed(0)
            spent = torch.tensor([time.process_time() - cpu])
            thousands = STEPS * BATCH / 1000
            all_cpu = float(torch.cat(processes.gathered(spent)).sum())
            found[name].append(((time.perf_counter() - wall) / thousands, all_cpu / thousands))
    return found


def contestants(column_rows: int) -> dict[str, Step]:
    """One training step of each, by its name."""
    rows = column_rows * COLUMNS
    firsts = torch.arange(COLUMNS) * column_rows
    ours, with_adam = ShardedTable(rows, WIDTH), ShardedTable(rows, WIDTH)
    whole = new_table(rows, WIDTH)
    steps = {
        "ours, SGD": learning(ours, firsts, torch.optim.SGD(ours.parameters(), lr=0.01)),
        "ours, Adam": learning(with_adam, firsts, RowAdam(with_adam.parameters(), lr=0.01)),
        "whole, Adam": learning(whole, firsts, RowAdam(whole.parameters(), lr=0.01)),
    }
    if torchrec_peer.INSTALLED:
        start = torch.zeros(COLUMNS, column_rows, WIDTH)
        kinds = {"SGD": torchrec_peer.SGD, "row-wise Adagrad": torchrec_peer.ADAGRAD}
        for name, kind in kinds.items():
            peer = torchrec_peer.ShardedByTorchRec(start, 0.01, kind)
            steps[f"TorchRec, {name}"] = learning_of_peer(peer)
    return steps


def learning(table: nn.Module, firsts: Tensor, optimizer: torch.optim.Optimizer) -> Step:
    """Forward, backward and update. firsts: the first row of each column, (C,)."""
    parameters = list(table.parameters())

    def step(rows_BC: Tensor) -> None:
        loss = loss_of(table(rows_BC + firsts))
        optimizer.zero_grad()
        loss.backward()
        if not isinstance(table, ShardedTable):
            processes.sum_gradients(parameters, loss.detach()[None])
        optimizer.step()

    return step


def learning_of_peer(peer: torchrec_peer.ShardedByTorchRec) -> Step:
    """The same; the update is part of the backward pass."""
    return lambda rows_BC: loss_of(peer(rows_BC)).backward()


def loss_of(vectors_BCK: Tensor) -> Tensor:
    return (vectors_BCK * torch.linspace(-1, 1, WIDTH)).sum()


def memory(tables: str, rows: int, seed: int) -> dict[str, float]:
    """The most that this process has taken before a ranker is trained, and after it, MiB."""
    before = peak_memory()
    spec = FeatureSpec((Categorical("id", rows, "id"),), ("num_x",), ("label_click",), 0)
    rng = np.random.default_rng(seed)
    n = 20 * BATCH
    nothing = np.zeros((0, 0), np.float32)
    day = Day(
        name="day",
        space="",
        categories=rng.integers(0, rows, (n, 1)),
        numbers=rng.normal(size=(n, 1)).astype(np.float32),
        labels=rng.integers(0, 2, (n, 1)).astype(np.float32),
        consumer_rows=np.full(n, -1),
        producer_rows=np.full(n, -1),
        consumer_vectors=nothing,
        producer_vectors=nothing,
    )
    options = read_options("masknet", {"field_width": WIDTH})
    train([day], spec, "masknet", options, TrainingConfig(batch_size=BATCH, tables=tables))
    return {"before": before, "most": peak_memory()}


if __name__ == "__main__":
    main()
