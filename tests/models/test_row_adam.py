"""Adam on the touched rows of a table, against torch.optim.SparseAdam and against a loop."""

from __future__ import annotations

import torch
from torch import nn

from models.row_adam import RowAdam, sum_by_row

STEPS = 6


def table() -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(40, 3, sparse=True)


def batches() -> list[torch.Tensor]:
    """Rows with repetitions; rows from 30 on never occur."""
    rng = torch.Generator().manual_seed(1)
    return [torch.randint(30, (25,), generator=rng) for _ in range(STEPS)]


def learn(embedding: nn.Embedding, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    target = torch.linspace(-1, 1, 3)
    for rows in batches():
        optimizer.zero_grad()
        (embedding(rows) - target).square().sum().backward()
        optimizer.step()
    return embedding.weight.detach()


def test_the_updates_are_those_of_sparse_adam():
    ours, theirs = table(), table()
    learn(ours, RowAdam([ours.weight], lr=0.1, betas=(0.8, 0.95)))
    learn(theirs, torch.optim.SparseAdam([theirs.weight], lr=0.1, betas=(0.8, 0.95)))
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_where_every_row_is_touched_it_is_plain_adam():
    """Adam's own equations, with gradients of the whole table."""
    ours, theirs = table(), table()
    theirs.sparse = False
    optimizers = (RowAdam([ours.weight], lr=0.1), torch.optim.Adam([theirs.weight], lr=0.1))
    for embedding, optimizer in zip((ours, theirs), optimizers, strict=True):
        for _ in range(STEPS):
            optimizer.zero_grad()
            embedding(torch.arange(40)).pow(3).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_rows_without_a_gradient_stay_as_they_are():
    embedding = table()
    before = embedding.weight.detach().clone()
    after = learn(embedding, RowAdam([embedding.weight], lr=0.1))
    torch.testing.assert_close(after[30:], before[30:], rtol=0, atol=0)
    assert (after[:30] != before[:30]).all()


def test_a_table_that_no_batch_read_is_left_alone():
    embedding = table()
    RowAdam([embedding.weight], lr=0.1).step()
    torch.testing.assert_close(embedding.weight, table().weight, rtol=0, atol=0)


def test_gradients_of_one_row_are_summed():
    """As coalescing does, and a loop."""
    embedding = table()
    embedding(torch.tensor([7, 2, 7, 7])).pow(2).sum().backward()
    gradient = embedding.weight.grad
    rows, sums = sum_by_row(gradient)
    assert rows.tolist() == [2, 7]
    torch.testing.assert_close(sums, gradient.to_dense()[rows])
