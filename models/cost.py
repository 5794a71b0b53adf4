"""What it costs a ranker to score rows: operations, which are counted, and time, which is measured.

The operations of a model are the same whenever they are counted, so that a decision may depend on
them. Its time depends on the machine and on what else runs there.
"""

from __future__ import annotations

import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from models.features import Batch
from models.rankers.base import Ranker
from models.training import reproducible
from models.transfer import device, tensors

REPEATS = 5  # of a measured time, of which the shortest counts


class Counter(TorchDispatchMode):
    """Counts the operations of matrix products.

    As `torch.utils.flop_counter.FlopCounterMode`, which would import torch's compiler for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and to say so would import the compiler

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        packet = function._overloadpacket
        if packet in flop_registry:
            self.total += flop_registry[packet](*args, **(kwargs or {}), out_val=found)
        return found


def operations(model: Ranker, batch: Batch) -> float:
    """Multiplications and additions of the matrix products for one row; 0 without any.

    Of a batch, so that what is computed once for all rows counts as little as in serving.
    """
    inputs, _ = tensors(batch)
    model = model.to(device()).eval()
    counter = Counter()
    # Attention as matrix products, on every device: its other kernels are not all counted.
    with sdpa_kernel(SDPBackend.MATH), counter, torch.no_grad():
        model(*inputs)
    return counter.total / len(batch.labels)


def seconds(model: Ranker, batch: Batch, threads: int = 1) -> float:
    """Seconds for a batch, the least of several times: of this process's CPU, or of a GPU."""
    inputs, _ = tensors(batch)
    model = model.to(device()).eval()
    taken = []
    with reproducible(seed=0, threads=threads), torch.inference_mode():
        for _ in range(REPEATS):
            started = clock()
            model(*inputs)
            taken.append(clock() - started)
    return min(taken)


def clock() -> float:
    """CPU seconds of this process; where there is a GPU, the time when it has done its work."""
    if device().type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()
