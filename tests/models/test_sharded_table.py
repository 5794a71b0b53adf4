"""A table that is spread over processes does what one table does in one process."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from process_group import together
from torch import nn

from models import processes, sharded_table
from models.row_adam import RowAdam
from models.sharded_table import ShardedTable, collect_tables, new_table, resharded, sharding

WIDTH = 3


def whole_table(rows: int) -> nn.Embedding:
    torch.manual_seed(0)
    return new_table(rows, WIDTH)


def shard(rows: int) -> ShardedTable:
    torch.manual_seed(0)
    with sharding():
        table = new_table(rows, WIDTH)
    assert isinstance(table, ShardedTable)
    return table


@pytest.mark.parametrize("rows", [1, 17, 100])
def test_a_process_draws_its_rows_of_the_whole_table(rows, monkeypatch):
    """Block by block, and what is drawn after the table is the same too."""
    monkeypatch.setattr(sharded_table, "BLOCK", 32)
    expected = whole_table(rows).weight.detach()
    next_draw = torch.rand(3)

    def work() -> None:
        own = shard(rows).weight.detach()
        torch.testing.assert_close(own, expected[processes.rank() :: 2], rtol=0, atol=0)
        torch.testing.assert_close(torch.rand(3), next_draw, rtol=0, atol=0)

    together(2, work)


@pytest.mark.parametrize(
    ("rows", "read"),
    [
        (20, [[[3, 4], [3, 19], [0, 3]], [[3, 4]]]),
        (20, [[[7, 7]], np.empty((0, 2))]),  # nothing is read by one process
        (20, [[[1, 3]], [[5, 1]]]),  # nothing is read from one
        (2, [[[0, 1]], [[0, 0]], [[1, 1]]]),  # more processes than rows
    ],
)
def test_look_ups_and_steps_are_those_of_one_table(rows, read):
    """Vectors, and the whole table after two steps of RowAdam on the batches of all processes."""
    batches = [torch.tensor(batch, dtype=torch.int64) for batch in read]
    table = whole_table(rows)
    vectors = table(torch.cat(batches)).detach()
    expected = learned(table, torch.cat(batches))
    firsts = np.cumsum([0, *map(len, batches)])

    def work() -> None:
        own = batches[processes.rank()]
        ours = shard(rows)
        found = ours(own)
        mine = slice(firsts[processes.rank()], firsts[processes.rank() + 1])
        torch.testing.assert_close(found, vectors[mine], rtol=0, atol=0)
        found.sum().backward()  # an exchange, which all take part in
        learned(ours, own)
        whole = ours.collected()
        if processes.rank() == 0:
            torch.testing.assert_close(whole.weight.detach(), expected)
        else:
            assert whole is None

    together(len(batches), work)


def learned(table: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """The weights after two steps towards a constant."""
    optimizer = RowAdam(table.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (table(rows) - torch.linspace(-1, 1, WIDTH)).square().sum().backward()
        optimizer.step()
    return next(table.parameters()).detach()


def test_a_process_has_the_moments_of_its_rows_alone():
    def work() -> None:
        table = shard(101)
        optimizer = RowAdam(table.parameters(), lr=0.1)
        table(torch.arange(101)).sum().backward()
        optimizer.step()
        (state,) = optimizer.state.values()
        expected = 51 if processes.rank() == 0 else 50
        assert [len(table.weight), len(state["moments"])] == [expected, expected]

    together(2, work)


def test_the_first_process_puts_the_tables_of_a_model_together():
    expected = [whole_table(5).weight, whole_table(40).weight]

    def work() -> None:
        model = nn.Sequential(shard(5), nn.ModuleDict({"inner": shard(40)}))
        collect_tables(model)
        if processes.rank() == 0:
            for found, wanted in zip(model.parameters(), expected, strict=True):
                torch.testing.assert_close(found, wanted, rtol=0, atol=0)

    together(2, work)


def test_a_process_alone_has_the_whole_table():
    with sharding():
        table = new_table(5, WIDTH)
    assert isinstance(table, nn.Embedding)


@pytest.mark.parametrize("before", [1, 2, 5])
@pytest.mark.parametrize("after", [1, 3, 4])
def test_rows_go_from_any_number_of_shards_to_any_other(before, after):
    whole = torch.arange(22.0).view(11, 2)
    parts = [whole[share::before] for share in range(before)]
    for share in range(after):
        expected = [whole[row].tolist() for row in range(11) if row % after == share]
        assert resharded(parts, share, after).tolist() == expected
