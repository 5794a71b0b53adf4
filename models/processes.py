"""Several processes that train one model together, as torchrun starts them; alone, there is one.

Every process has the whole model and learns from its share of each batch. The gradients are summed
before every step, so that the weights are those of one process, but for the rounding of sums. Only
tables of embeddings may be spread over the processes: models.sharded_table. What the processes
exchange goes through torch.distributed: gloo on CPUs, NCCL between GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from models.row_adam import sum_by_row

# Of one exchange: the first process may have to compute the inputs meanwhile. Where a process
# fails, torchrun ends all others at once.
TIMEOUT = timedelta(hours=12)


@contextmanager
def connected() -> Iterator[None]:
    """Meet the processes that torchrun has started with this one, and part when the block ends.

    Nothing without torchrun, which names the process in RANK, LOCAL_RANK and WORLD_SIZE.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
        # All are on one machine: otherwise gloo listens on the address of the host's name.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0. The first one writes what is written."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Is this the first process, whether it has met the others or not?"""
    return int(os.environ.get("RANK", "0")) == 0


def share(rows: int) -> slice:
    """This process's part of so many rows. The parts follow one another and cover all."""
    return slice(rows * rank() // size(), rows * (rank() + 1) // size())


def announce(go_on: bool = False) -> bool:
    """What the first process says, in all of them."""
    if size() == 1:
        return go_on
    said = torch.tensor(int(go_on))
    dist.broadcast(said, src=0)
    return bool(said)


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Give these tensors the values that they have in the first process."""
    if size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)


def agreed(number: int) -> bool:
    """Do all processes have the same number?"""
    if size() == 1:
        return True
    ends = torch.tensor([number, -number])
    dist.all_reduce(ends, dist.ReduceOp.MAX)
    return bool(ends[0] == -ends[1])


def gathered(x: Tensor) -> list[Tensor]:
    """This tensor of every process, by rank. They may differ in their first length alone."""
    if size() == 1:
        return [x]
    lengths = [torch.empty(1, dtype=torch.int64, device=x.device) for _ in range(size())]
    dist.all_gather(lengths, torch.tensor([len(x)], device=x.device))
    counts = [int(length) for length in lengths]
    # Only tensors of one shape can be gathered: the shorter ones are padded.
    sent = x.new_zeros(max(counts), *x.shape[1:])
    sent[: len(x)] = x
    received = [torch.empty_like(sent) for _ in counts]
    dist.all_gather(received, sent)
    return [part[:count] for part, count in zip(received, counts, strict=True)]


def exchanged(
    x: Tensor, sent: list[int] | None = None, received: list[int] | None = None
) -> Tensor:
    """What all processes have for this one, by rank, of which each has its part in x.

    sent: how many rows of x are for each process, one after another; received: how many each has
    for this one. Without them, the rows of x are in equal parts.
    """
    rows = len(x) if received is None else sum(received)
    found = x.new_empty(rows, *x.shape[1:])
    dist.all_to_all_single(found, x, received, sent)
    return found


def sum_gradients(parameters: Sequence[torch.nn.Parameter], losses_L: Tensor) -> Tensor:
    """Give every parameter the sum of its gradients; returns the sum of the losses, (L,).

    A sparse gradient lists the rows that the other processes read as well.
    """
    dense = [losses_L]
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None:
            continue
        if gradient.is_sparse:
            parameter.grad = sum_of_rows(gradient)
        else:
            dense.append(gradient)
    # In one message, because each has the cost of a round trip.
    flat = torch.cat([tensor.flatten() for tensor in dense])
    dist.all_reduce(flat)
    sums = flat.split([tensor.numel() for tensor in dense])
    for tensor, total in zip(dense[1:], sums[1:], strict=True):
        tensor.copy_(total.view_as(tensor))
    return sums[0]


def sum_of_rows(gradient: Tensor) -> Tensor:
    """The rows of all processes behind each other, in the order of their ranks: a sparse sum."""
    # Each sends the sum of a row that it has read several times.
    own_rows, own_sums = sum_by_row(gradient)
    rows = torch.cat(gathered(own_rows))
    sums = torch.cat(gathered(own_sums))
    return torch.sparse_coo_tensor(rows[None], sums, gradient.shape, check_invariants=False)


class Sum(torch.autograd.Function):
    """The sum over all processes. Its gradient is the sum of theirs: each sum enters all losses."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def total(x: Tensor) -> Tensor:
    """The sum over all processes, which gradients pass through."""
    return Sum.apply(x)
