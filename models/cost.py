"""What it costs a ranker to score rows: operations, which are counted, and time, which is measured.

The operations of a model are the same whenever they are counted, so that a decision may depend on
them. Its time depends on the machine and on what else runs there.
"""

from __future__ import annotations

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from models.features import Batch
from models.rankers.base import Ranker
from models.training import reproducible, tensors

REPEATS = 5  # of a measured time, of which the shortest counts


def operations(model: Ranker, batch: Batch) -> float:
    """Multiplications and additions of the matrix products for one row; 0 without any.

    Of a batch, so that what is computed once for all rows counts as little as in serving.
    """
    inputs, _ = tensors(batch)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(*inputs)
    return counter.get_total_flops() / len(batch.labels)


def seconds(model: Ranker, batch: Batch, threads: int = 1) -> float:
    """CPU seconds of this process for a batch, the least of several times."""
    inputs, _ = tensors(batch)
    taken = []
    with reproducible(seed=0, threads=threads), torch.inference_mode():
        for _ in range(REPEATS):
            started = time.process_time()
            model(*inputs)
            taken.append(time.process_time() - started)
    return min(taken)
