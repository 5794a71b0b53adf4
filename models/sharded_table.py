"""Tables of embeddings whose rows are spread over the processes that train one model together.

Of n processes, process p has the rows p, p + n, p + 2n, …, and its optimizer has their moments. A
batch reads many rows of some columns and few of others, and a column's rows lie side by side: in
blocks, one process would answer for the columns of the ids and another one for next to nothing.

Shapes: R rows of the whole table, K width, u distinct rows that this process reads, w rows that all
processes read from this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models import processes

INITIAL_STD = 0.01  # of the entries of a new table
# Rows that are drawn or collected at a time. A multiple of 16: torch draws normal numbers by 16.
BLOCK = 16_384
wanted: ContextVar[bool] = ContextVar("wanted", default=False)


@contextmanager
def sharding(on: bool = True) -> Iterator[None]:
    """Within this, new tables are sharded where several processes train together."""
    before = wanted.set(on)
    try:
        yield
    finally:
        wanted.reset(before)


def new_table(rows: int, width: int) -> nn.Embedding | ShardedTable:
    """A table of embeddings with sparse gradients, drawn from N(0, 0.01²).

    From the same random state, a sharded one has the same weights and leaves the same state.
    """
    if wanted.get() and processes.size() > 1:
        return ShardedTable(rows, width)
    table = nn.Embedding(rows, width, sparse=True)
    nn.init.normal_(table.weight, std=INITIAL_STD)
    return table


class ShardedTable(nn.Module):
    """Row numbers of any shape -> (…, K), as `nn.Embedding(R, K, sparse=True)` on one process.

    Forward and backward are exchanges: all processes call them alike, also without any row. The
    gradient of `weight`, (rows of this process, K), is that of the rows which all of them read.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.rows = rows
        self.width = width
        self.weight = nn.Parameter(own_rows(rows, width))

    def forward(self, rows: Tensor) -> Tensor:
        # Ascending keys are grouped by owner; within an owner, they are its rows, from 0.
        most = -(-self.rows // processes.size())  # rows of one process
        keys = rows % processes.size() * most + rows // processes.size()
        keys_u, positions = torch.unique(keys, return_inverse=True)
        vectors_uK = LookUp.apply(self.weight, keys_u, most)
        return vectors_uK.index_select(0, positions.flatten()).view(*rows.shape, self.width)

    def collected(self) -> nn.Embedding | None:
        """The whole table in the first process, None in the others. All call this, on the CPU."""
        whole = torch.empty(self.rows, self.width) if processes.rank() == 0 else None
        most = -(-self.rows // processes.size())
        for start in range(0, most, BLOCK):
            parts = processes.gathered(self.weight.detach()[start : start + BLOCK])
            if whole is not None:
                for owner, part in enumerate(parts):
                    whole[owner :: processes.size()][start : start + BLOCK] = part
        return None if whole is None else nn.Embedding.from_pretrained(whole, False, sparse=True)


class LookUp(torch.autograd.Function):
    """The vectors of distinct rows from their owners: weight, (u,) ascending keys -> (u, K)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, keys_u: Tensor, most: int) -> Tensor:
        firsts = torch.arange(processes.size() + 1, device=keys_u.device) * most
        asked = torch.searchsorted(keys_u, firsts).diff()  # of every owner
        answered = processes.exchanged(asked).tolist()  # for every asker
        ctx.counts = asked.tolist(), answered
        rows_w = processes.exchanged(keys_u % most, *ctx.counts)
        ctx.save_for_backward(rows_w)
        ctx.shape = weight.shape
        return processes.exchanged(weight.index_select(0, rows_w), *reversed(ctx.counts))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_uK: Tensor) -> tuple[Tensor, None, None]:
        (rows_w,) = ctx.saved_tensors
        values_wK = processes.exchanged(gradient_uK.contiguous(), *ctx.counts)
        # Without the check, which would wait for a GPU.
        gradient = torch.sparse_coo_tensor(
            rows_w[None], values_wK, ctx.shape, check_invariants=False
        )
        return gradient, None, None


def own_rows(rows: int, width: int) -> Tensor:
    """The rows of this process of a table that `new_table` draws whole."""
    own = torch.empty(len(range(processes.rank(), rows, processes.size())), width)
    for _ in drawn(rows, width, 1.0):
        pass  # the numbers that nn.Embedding draws for itself
    done = 0
    for start, block in drawn(rows, width, INITIAL_STD):
        mine = block[(processes.rank() - start) % processes.size() :: processes.size()]
        own[done : done + len(mine)] = mine
        done += len(mine)
    return own


def drawn(rows: int, width: int, std: float) -> Iterator[tuple[int, Tensor]]:
    """The rows of `empty(rows, width).normal_(std=std)` block by block, each with its first row."""
    # The last 16 numbers are drawn on their own, so that no block may have fewer.
    bounds = [*range(0, max(1, rows - 16), BLOCK), rows]
    for start, end in pairwise(bounds):
        yield start, torch.empty(end - start, width).normal_(std=std)


def resharded(parts: Sequence[Tensor], share: int, shares: int) -> Tensor:
    """The rows share, share + shares, … of a table that is spread likewise over parts: a copy.

    parts: (rows of each, K).
    """
    rows = torch.arange(share, sum(map(len, parts)), shares)
    found = parts[0].new_empty(len(rows), *parts[0].shape[1:])
    for owner, part in enumerate(parts):
        theirs = torch.nonzero(rows % len(parts) == owner)[:, 0]
        found[theirs] = part[rows[theirs] // len(parts)]
    return found


def tables(model: Any) -> dict[str, nn.Module]:
    """The tables of a model with sparse gradients, whole or sharded, by their names in it."""
    found: dict[str, nn.Module] = {}
    for name, module in cast(nn.Module, model).named_modules():
        if isinstance(module, ShardedTable) or (isinstance(module, nn.Embedding) and module.sparse):
            found[name] = module
    return found


def is_sharded(model: Any) -> bool:
    """Does any process have only a share of the tables?"""
    return any(isinstance(table, ShardedTable) for table in tables(model).values())


def collect_tables(model: Any) -> None:
    """Make every sharded table whole, in the first process. All processes call this."""
    for name, table in tables(model).items():
        if isinstance(table, ShardedTable) and (whole := table.collected()) is not None:
            model.set_submodule(name, whole)
