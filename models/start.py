"""Where a training begins: with new vectors, or with those of the model of an earlier day.

A model that goes on from another one has its weights, but for the scales of the numbers, which are
those of the new rows. Each row of its tables goes on from the row that its bucket had.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from models import processes
from models.admission import Rows, Seen, with_rows
from models.features import FeatureSpec
from models.rankers.base import Ranker
from models.rankers.inputs import Fields
from models.sharded_table import ShardedTable, tables

# What is the new model's own: scales of the numbers, and the rows of the buckets.
OWN = frozenset({"mean_N", "std_N", "row_of_R"})


@dataclass(frozen=True)
class Start:
    """The model that a training goes on from, on the CPU, and the space of its vectors.

    days: from its last day to that of the new one. seen: the buckets that it has read; None where
    each has a row. evict_after_days: a bucket that was not read for so long loses its row.
    """

    model: Ranker
    space: str
    days: int = 1
    seen: Seen | None = None
    evict_after_days: float = math.inf


@dataclass(frozen=True)
class Admitted:
    """The buckets of a model of which some have a vector of their own.

    before: the rows of the model that it goes on from.
    """

    spec: FeatureSpec  # with the rows of its tables
    seen: Seen
    rows: Rows
    before: Rows | None = None

    @classmethod
    def of(
        cls, spec: FeatureSpec, counts: np.ndarray, admit_after: int, start: Start | None
    ) -> Admitted:
        """counts: (R,) rows of the days in which each bucket is read."""
        seen = Seen.nothing(spec)
        before = None
        if start is None:
            seen = seen.after(counts, 0, math.inf)
        else:
            assert start.seen is not None, "a model of the same options has read its buckets"
            before = Rows.of(spec, start.seen.rows >= admit_after)
            seen = start.seen.after(counts, start.days, start.evict_after_days)
        rows = Rows.of(spec, seen.rows >= admit_after)
        return cls(with_rows(spec, rows), seen, rows, before)

    def give_rows(self, model: Ranker) -> None:
        """Tell a model which row each bucket has."""
        for module in model.modules():
            if isinstance(module, Fields):
                assert module.row_of_R is not None, "built from `spec`"
                module.row_of_R.copy_(torch.from_numpy(self.rows.of_bucket))

    @cached_property
    def older_rows(self) -> Tensor:
        """The row of the older model's tables that each row goes on from: (rows,)."""
        assert self.before is not None, "there is an older model"
        return torch.from_numpy(self.rows.found_in(self.before, self.spec))

    @property
    def changes(self) -> dict[str, int]:
        """How many buckets have a vector of their own, as they had, newly, and no longer."""
        now = self.rows.own(self.spec)
        then = self.before.own(self.spec) if self.before else np.zeros_like(now)
        return {
            "kept": int((now & then).sum()),
            "admitted": int((now & ~then).sum()),
            "evicted": int((then & ~now).sum()),
        }


@torch.no_grad()
def go_on_from(start: Start, model: Ranker, admitted: Admitted | None) -> None:
    """Give a new model the weights of the older one."""
    older = start.model.state_dict()
    by_row = {f"{name}.weight": table for name, table in tables(model).items()}
    by_bucket = {module.table for module in model.modules() if isinstance(module, Fields)}
    for name, value in model.state_dict().items():
        if table := by_row.get(name):
            rows = own_rows(table)
            if admitted is not None and table in by_bucket:
                rows = admitted.older_rows[rows]
            value.copy_(older[name][rows])
        elif name.rpartition(".")[2] not in OWN:
            value.copy_(older[name])


def own_rows(table: nn.Module) -> Tensor:
    """The rows of the whole table that are in this process, in their order."""
    if isinstance(table, ShardedTable):
        return torch.arange(processes.rank(), table.rows, processes.size())
    return torch.arange(cast(nn.Embedding, table).num_embeddings)
