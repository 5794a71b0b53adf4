"""TorchRec's row-wise sharded tables on CPUs, for comparisons with ours.

Imported in processes of their own: TorchRec registers operators of FBGEMM and warns of itself.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from models import processes

INSTALLED = find_spec("torchrec") is not None
SGD, ADAGRAD = "EXACT_SGD", "EXACT_ROWWISE_ADAGRAD"  # FBGEMM has no Adam on CPUs


class ShardedByTorchRec:
    """A table for each column, learned by an optimizer of FBGEMM in the backward pass.

    Bags of one row: of its collections this is the fastest one, three times as fast as one table
    for all columns. All processes build and call it alike. weights: the whole tables, (C, R, K).
    """

    def __init__(self, weights: Tensor, lr: float, optimizer: str = SGD) -> None:
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
        from torchrec.distributed import comm_ops
        from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
        from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
        from torchrec.distributed.types import ShardingEnv

        # The loss is the sum of what the processes have; by default they would take the mean.
        comm_ops.set_gradient_division(False)
        cpu = torch.device("cpu")
        self.names = [f"column_{column}" for column in range(len(weights))]
        rows, width = weights.shape[1:]
        tables = [
            EmbeddingBagConfig(
                name=name, num_embeddings=rows, embedding_dim=width, feature_names=[name]
            )
            for name in self.names
        ]
        whole = EmbeddingBagCollection(tables=tables, device=cpu)
        options = {"optimizer": EmbOptimType[optimizer], "learning_rate": lr}
        sharder = EmbeddingBagCollectionSharder(fused_params=options)
        plan = construct_module_sharding_plan(
            whole,
            {name: row_wise(compute_kernel="fused") for name in self.names},
            sharder=sharder,
            local_size=dist.get_world_size(),
            world_size=dist.get_world_size(),
            device_type="cpu",
        )
        env = ShardingEnv.from_process_group(dist.group.WORLD)
        self.module: Any = sharder.shard(whole, plan, env, cpu)
        for name, table in zip(self.names, weights, strict=True):
            shard = self._shard(name)
            first = shard.metadata.shard_offsets[0]
            shard.tensor.copy_(table[first : first + len(shard.tensor)])

    def __call__(self, rows_BC: Tensor) -> Tensor:
        """Row numbers, each in the table of its column: (B, C) -> (B, C, K)."""
        from torchrec import KeyedJaggedTensor

        lengths = torch.ones(rows_BC.numel(), dtype=torch.int64)
        bags = KeyedJaggedTensor(keys=self.names, values=rows_BC.T.flatten(), lengths=lengths)
        return self.module(bags).values().view(*rows_BC.shape, -1)

    def collected(self) -> Tensor:
        """The whole tables, (C, R, K), in every process."""
        shards = [self._shard(name).tensor for name in self.names]
        return torch.stack([torch.cat(processes.gathered(shard)) for shard in shards])

    def _shard(self, name: str) -> Any:
        """The rows of a table that this process has, a block."""
        (shard,) = self.module.state_dict()[f"embedding_bags.{name}.weight"].local_shards()
        return shard
