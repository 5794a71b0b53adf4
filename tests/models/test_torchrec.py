"""Our sharded table beside TorchRec's: the same weights from the same batches."""

from __future__ import annotations

import warnings

import pytest
import torch
from process_group import together

from models import processes
from models.sharded_table import ShardedTable
from perf import torchrec_peer

COLUMNS, ROWS, WIDTH, STEPS = 3, 37, 4, 5


def batches() -> list[torch.Tensor]:
    """(B, C) row numbers of both processes, with repetitions."""
    rng = torch.Generator().manual_seed(1)
    return [torch.randint(ROWS, (12, COLUMNS), generator=rng) for _ in range(STEPS)]


@pytest.mark.skipif(not torchrec_peer.INSTALLED, reason="TorchRec is not installed")
def test_plain_sgd_gives_the_weights_of_torchrec():
    """It has one table for every column; ours has the columns one after another."""

    def work() -> None:
        warnings.simplefilter("ignore")  # of TorchRec and FBGEMM about themselves
        start = torch.linspace(-1, 1, COLUMNS * ROWS * WIDTH).view(COLUMNS, ROWS, WIDTH)
        theirs = torchrec_peer.ShardedByTorchRec(start, lr=0.1)
        ours = ShardedTable(COLUMNS * ROWS, WIDTH)
        with torch.no_grad():
            ours.weight.copy_(start.flatten(0, 1)[processes.rank() :: 2])
        optimizer = torch.optim.SGD([ours.weight], lr=0.1)
        for rows in batches():
            own = rows[processes.share(len(rows))]
            optimizer.zero_grad()
            ours(own + torch.arange(COLUMNS) * ROWS).pow(3).sum().backward()
            optimizer.step()
            theirs(own).pow(3).sum().backward()
        expected = theirs.collected()
        assert (expected - start).abs().max() > 0.1
        whole = ours.collected()
        if whole is not None:
            torch.testing.assert_close(whole.weight.detach().view_as(expected), expected)

    together(2, work)
