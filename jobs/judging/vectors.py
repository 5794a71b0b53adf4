"""A version as the steps of its day left it, for the consumers that are judged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from embeddings.benchmarks.tasks.base import Case
from embeddings.blocks import Block, load_blocks
from embeddings.lengths.encoder import load_encoder, shortened
from embeddings.registry.shards import read_shards
from embeddings.registry.vectors import Index, Vectors
from embeddings.sampling import smallest_hashes

ENCODER = "encoder"  # in the partition of `align`, where the settings learn shorter lengths


@dataclass(frozen=True)
class Learned:
    """The folders of a day's partitions of `matrix`, `align` and `fold_in`."""

    matrix: Path
    align: Path
    fold_in: Path

    def consumers(self) -> list[Vectors]:
        """The vectors of all consumers, in shards that are not empty."""
        return [shard for shard in read_shards(self.fold_in / "consumer") if len(shard.ids)]


def some_consumers(learned: Learned, most: int) -> np.ndarray:
    """At most so many ids of a version's consumers, sorted; the same ones on every day."""
    ids = np.concatenate([shard.ids for shard in learned.consumers()])
    return np.sort(ids[smallest_hashes(ids, most)])


def case_of(learned: Learned, consumer_ids: np.ndarray) -> Case:
    """The vectors of these consumers, and of all producers, without any labels.

    consumer_ids: (n,) bytes, sorted.
    """
    producers = np.load(learned.align / "producers.npy")
    vectors = np.zeros((len(consumer_ids), producers.shape[1]), np.float32)
    counts = np.zeros(len(consumer_ids), np.int64)
    for shard in learned.consumers():
        rows = Index(shard.ids).find(consumer_ids)
        known = rows >= 0
        vectors[known] = shard.vectors[rows[known]]
        counts[known] = shard.counts[rows[known]]
    fitted = load_blocks(learned.matrix / "fitted")
    blocks = [*fitted, *load_blocks(learned.matrix / "rest")]
    return Case(
        consumer_ids=consumer_ids,
        consumers=vectors,
        consumer_counts=counts,
        producer_ids=np.load(learned.align / "ids.npy"),
        producers=producers,
        producer_counts=consumers_of_each(fitted, len(producers)),
        window=rows_of(blocks, consumer_ids, len(producers)),
        shorten=partial(shortened, encoder=load_encoder(learned.align / ENCODER)),
    )


def consumers_of_each(blocks: list[Block], n_producers: int) -> np.ndarray:
    """How many of the fitted consumers engaged with each producer, (m,)."""
    counts = np.zeros(n_producers, np.int64)
    for block in blocks:
        counts += np.bincount(block.indices, minlength=n_producers)
    return counts


def rows_of(blocks: list[Block], consumer_ids: np.ndarray, n_producers: int) -> sp.csr_matrix:
    """The rows of these consumers, (n, m) float64; empty for one who is in no block."""
    found = []
    place = np.zeros(len(consumer_ids), np.int64)  # of each consumer in `found`; 0: nowhere
    n_found = 1
    for block in blocks:
        rows = Index(block.ids).find(consumer_ids)
        known = np.flatnonzero(rows >= 0)
        place[known] = n_found + np.arange(len(known))
        n_found += len(known)
        found.append(block.matrix(n_producers)[rows[known]])
    nobody = sp.csr_matrix((1, n_producers))
    return sp.vstack([nobody, *found], format="csr")[place]
