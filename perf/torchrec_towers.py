"""The two towers of `embeddings.towers` on TorchRec's collection of bags, for `perf.towers`.

The same batches, first weights, loss and schedule of the rate. The tables are TorchRec's, weighted
bags that are summed. All weights are learned by torch's Adam: TorchRec's own optimizers have none
on CPUs. So Adam moves every row of a table in each step, also those that the batch has not read.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch.nn import functional

from embeddings.torch_threads import one_thread
from embeddings.towers.batches import Pairs
from embeddings.towers.tower import Tower
from embeddings.towers.training import (
    TABLE,
    Config,
    Trained,
    first_tower,
    first_vectors,
    own_ids,
)


class PeerTower(nn.Module):
    """(n, m) bags and (n, F) features -> (n, k), from the weights of a tower of ours."""

    def __init__(self, start: Tower) -> None:
        from torchrec import EmbeddingBagCollection, EmbeddingBagConfig

        super().__init__()
        arrays = {name: torch.from_numpy(array.copy()) for name, array in vars(start).items()}
        first = {name: arrays.pop(name) for name in ("inputs", "features")}
        self.names = [name for name, rows in first.items() if len(rows)]
        configs = []
        for name in self.names:
            rows, width = first[name].shape
            configs.append(
                EmbeddingBagConfig(
                    name=name, num_embeddings=rows, embedding_dim=width, feature_names=[name]
                )
            )
        self.tables = EmbeddingBagCollection(tables=configs, is_weighted=True)
        with torch.no_grad():
            for name in self.names:
                self.tables.embedding_bags[name].weight.copy_(first[name])
        self.layers = nn.ParameterDict(arrays)

    def forward(self, bags: sp.csr_matrix, features: sp.csr_matrix) -> Tensor:
        from torchrec import KeyedJaggedTensor

        sums = np.asarray(bags.sum(axis=1), np.float32).ravel()
        empty = sums <= 0
        shares = bags.data / np.repeat(np.where(empty, np.float32(1), sums), np.diff(bags.indptr))
        means = sp.csr_matrix((shares, bags.indices, bags.indptr), bags.shape)
        read = {"inputs": means, "features": features}
        rows = [read[name] for name in self.names]
        found = self.tables(
            KeyedJaggedTensor(
                keys=self.names,
                values=joined([each.indices for each in rows], np.int64),
                lengths=joined([np.diff(each.indptr) for each in rows], np.int64),
                weights=joined([each.data for each in rows], np.float32),
            )
        )
        layers = self.layers
        z = layers["bias"][torch.from_numpy(empty.astype(np.int64))]
        for name in self.names:
            z = z + found[name]
        units = torch.relu(z @ layers["hidden"] + layers["hidden_bias"])
        return torch.cat([z, units], dim=1) @ layers["out"]

    def tower(self) -> Tower:
        arrays = {name: weights.detach().numpy() for name, weights in self.layers.items()}
        width = len(self.layers["hidden"])
        for name in ("inputs", "features"):
            arrays[name] = np.zeros((0, width), np.float32)
        for name in self.names:
            arrays[name] = self.tables.embedding_bags[name].weight.detach().numpy()
        return Tower(**arrays)


def joined(parts: list[np.ndarray], kind: type) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(kind, copy=False))


def train(
    x: sp.csr_matrix,
    profiles: sp.csr_matrix,
    traits: sp.csr_matrix,
    producer_ids: np.ndarray,
    cfg: Config,
) -> Trained:
    """As `embeddings.towers.training.train`, without hard negatives."""
    start = first_tower(first_vectors(producer_ids, cfg), profiles.shape[1], cfg, side=0)
    own = np.zeros((len(producer_ids) if cfg.ids else 0, cfg.dim), np.float32)
    consumer = PeerTower(start)
    producer = PeerTower(first_tower(own, traits.shape[1], cfg, side=1))
    optimizer = torch.optim.Adam(groups(consumer, producer), fused=True)
    losses = np.zeros(cfg.epochs)
    with one_thread():
        pairs = Pairs(x, cfg.draw)
        rng = np.random.default_rng(cfg.seed)
        for epoch in range(cfg.epochs):
            total = 0.0
            for number, batch in enumerate(pairs.epoch(rng)):
                rate = cfg.learning_rate * (1 - (epoch + number / pairs.batches) / cfg.epochs)
                for group in optimizer.param_groups:
                    group["lr"] = group["factor"] * rate
                own_id = own_ids(batch.producers, batch.known, len(producer_ids), cfg.ids)
                vectors = producer(own_id, traits[batch.producers])
                consumers = consumer(batch.bags, profiles[batch.rows])
                products = torch.addmm(torch.from_numpy(batch.shifts), consumers, vectors.T)
                loss = functional.cross_entropy(products, torch.from_numpy(batch.targets))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach())
            losses[epoch] = total / pairs.batches
    return Trained(consumer.tower(), producer.tower(), losses)


def groups(*towers: PeerTower) -> list[dict]:
    """The tables of ids at a higher rate, as ours."""
    tables = [
        tower.tables.embedding_bags["inputs"].weight for tower in towers if "inputs" in tower.names
    ]
    known = {id(table) for table in tables}
    others = [
        weights for tower in towers for weights in tower.parameters() if id(weights) not in known
    ]
    return [{"params": tables, "factor": TABLE}, {"params": others, "factor": 1.0}]
