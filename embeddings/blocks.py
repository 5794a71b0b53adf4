"""The consumer-producer matrix on disk, in CSR blocks of consumers, and a worker's share of it.

    producers.npy                  (n_producers,) bytes, the ids of the columns
    column_sums.npy                (n_producers,) float64, the sum of each fitted column
    fitted/block-00000/{ids,engagements,indptr,indices,strengths}.npy
    sessions/block-00000/{indptr,indices,strengths}.npy    with `matrix.session_minutes`

A block is a folder of plain arrays, written by one task and memory-mapped by others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import scipy.sparse as sp

from embeddings.features import Features
from embeddings.kernels.communicator import Communicator

T = TypeVar("T")


@dataclass(frozen=True)
class Block:
    """Some consumers and the strengths of their pairs: n consumers, nnz pairs.

    A column is a producer's row number. The columns of each consumer ascend.
    """

    ids: np.ndarray  # (n,) bytes, sorted
    engagements: np.ndarray  # (n,) int32, number of engagements of each consumer
    indptr: np.ndarray  # (n + 1,) int64
    indices: np.ndarray  # (nnz,) int32
    strengths: np.ndarray  # (nnz,) float64

    def matrix(self, n_columns: int) -> sp.csr_matrix:
        """The block as a matrix, (n, n_columns) float64."""
        shape = (len(self.ids), n_columns)
        return sp.csr_matrix((self.strengths, self.indices, self.indptr), shape=shape)

    def sums(self) -> np.ndarray:
        """The sum of each consumer's strengths, (n,) float64."""
        cumulated = np.concatenate([[0.0], np.cumsum(self.strengths)])
        return cumulated[self.indptr[1:]] - cumulated[self.indptr[:-1]]

    def rows(self, keep: np.ndarray) -> Block:
        """The block of the chosen consumers. keep: (n,) bool."""
        lengths = np.diff(self.indptr)
        pairs = np.repeat(keep, lengths)
        indptr = np.concatenate([[0], np.cumsum(lengths[keep])]).astype(np.int64)
        return Block(
            self.ids[keep],
            self.engagements[keep],
            indptr,
            self.indices[pairs],
            self.strengths[pairs],
        )


@dataclass(frozen=True)
class SessionBlock:
    """Sessions of some consumers, n of them, and the strengths of their producers: a matrix as CSR.

    Each has two producers or more.
    """

    indptr: np.ndarray  # (n + 1,) int64
    indices: np.ndarray  # (nnz,) int32
    strengths: np.ndarray  # (nnz,) float64

    def matrix(self, n_columns: int) -> sp.csr_matrix:
        """The block as a matrix, (n, n_columns) float64."""
        shape = (len(self.indptr) - 1, n_columns)
        return sp.csr_matrix((self.strengths, self.indices, self.indptr), shape=shape)


def save_arrays(folder: Path, record: object) -> None:
    """Save every array of a dataclass as <field name>.npy in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in vars(record).items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def load_arrays(folder: Path, kind: type[T]) -> T:
    """Memory-map the arrays of a dataclass of this kind that `save_arrays` wrote."""
    arrays = {}
    for field in fields(kind):  # type: ignore[arg-type]
        arrays[field.name] = np.load(
            folder / f"{field.name}.npy", mmap_mode="r", allow_pickle=False
        )
    return kind(**arrays)


def save_block(folder: Path, block: Block) -> None:
    """Write a block."""
    save_arrays(folder, block)


def load_block(folder: Path) -> Block:
    """Memory-map a block."""
    return load_arrays(folder, Block)


def load_blocks(folder: Path) -> list[Block]:
    """Memory-map all blocks of a folder, in order."""
    return [load_block(home) for home in sorted(folder.glob("block-*"))]


def stack(blocks: list[Block], n_columns: int) -> sp.csr_matrix:
    """One matrix of all blocks, (consumers, n_columns), rows in block order."""
    return sp.vstack([block.matrix(n_columns) for block in blocks], format="csr")


class MatrixShare:
    """One worker's share of the fitted matrix (n_consumers, n_producers): an embedder's input.

    A share is whole blocks of consumers, so that a worker writes the vectors of exactly the blocks
    it has read. The workers' blocks follow each other by rank.
    """

    def __init__(self, folder: Path, comm: Communicator) -> None:
        """Open a share. All workers must do so together: they exchange their numbers of consumers.

        folder: a committed partition of the step `matrix`, laid out as above.
        """
        self.comm = comm
        # By name: all workers must cut the same list.
        self._homes = sorted((folder / "fitted").glob("block-*"))
        self.column_sums = np.load(folder / "column_sums.npy")  # (n_producers,) float64
        self.producer_ids = np.load(folder / "producers.npy")  # (n_producers,) bytes
        self.block_homes = own_part(self._homes, comm)
        self._session_homes = sorted((folder / "sessions").glob("block-*"))
        self.block_sizes: dict[str, int] = {}  # consumers of each own block, by name and in order
        for home in self.block_homes:
            self.block_sizes[home.name] = len(load_block(home).ids)
        n_own = np.array([sum(self.block_sizes.values())])
        self.n_consumers = int(comm.allreduce(n_own)[0])  # of all workers
        # For an embedder that reads features, see `Embedder`: of the worker's own consumers and of
        # all producers; None where the log has none. The vocabularies are equal on all workers.
        self.consumer_features: Features | None = None
        self.producer_features: Features | None = None

    def consumer_ids(self) -> np.ndarray:
        """The ids of this worker's rows, (own consumers,) bytes."""
        ids = [load_block(home).ids for home in self.block_homes]
        return np.concatenate(ids) if ids else np.empty(0, "S1")

    @property
    def n_producers(self) -> int:
        """Number of producers, which every worker has in full."""
        return len(self.column_sums)

    def by_consumer(self, transform: Callable[[sp.csr_matrix], sp.csr_matrix]) -> sp.csr_matrix:
        """This worker's rows, (own consumers, n_producers), in the type that `transform` returns.

        transform: applied to each block of float64 strengths before the blocks are stacked, so that
        the share is never in memory in float64.
        """
        blocks = []
        for home in self.block_homes:
            blocks.append(transform(load_block(home).matrix(self.n_producers)))
        return stacked(blocks, self.n_producers)

    def by_session(self) -> sp.csr_matrix:
        """This worker's sessions, (own sessions, n_producers) float32.

        They are not those of its own consumers alone: sessions of consumers who have too few
        engagements to be fitted are among them. Raises ValueError where the matrix has none.
        """
        if not self._session_homes:
            raise ValueError("The matrix has no sessions. Set matrix.session_minutes above 0.")
        blocks = []
        for home in own_part(self._session_homes, self.comm):
            block = load_arrays(home, SessionBlock).matrix(self.n_producers)
            blocks.append(block.astype(np.float32))
        return stacked(blocks, self.n_producers)

    def by_producer(self) -> sp.csr_matrix:
        """A row range of the transposed matrix, (own producers, n_consumers) float32.

        The ranges of the workers follow each other by rank and hold about equally many pairs. Every
        worker reads all blocks and keeps its own columns.
        """
        # Counted first, because the ranges depend on the pairs of all blocks.
        counts = np.zeros(self.n_producers, np.int64)
        for home in self._homes:
            counts += np.bincount(load_block(home).indices, minlength=self.n_producers)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        own = even_split(indptr, self.comm.size)[self.comm.rank]
        # Block by block: only this worker's columns are ever in memory together.
        columns = []
        for home in self._homes:
            strengths = load_block(home).matrix(self.n_producers).astype(np.float32)
            columns.append(strengths[:, own].T.tocsr())
        return sp.hstack(columns, format="csr")


def own_part(homes: list[Path], comm: Communicator) -> list[Path]:
    """The blocks of this worker: those of all workers follow each other by rank."""
    return list(np.array_split(np.array(homes, dtype=object), comm.size)[comm.rank])


def stacked(blocks: list[sp.csr_matrix], n_columns: int) -> sp.csr_matrix:
    """The blocks of a worker as one matrix."""
    if len(blocks) == 1:
        return blocks[0]  # stacking would copy it
    if not blocks:
        # Fewer blocks than workers: this worker takes part in the exchanges without rows.
        return sp.csr_matrix((0, n_columns), dtype=np.float32)
    return sp.vstack(blocks, format="csr")


def even_split(indptr: np.ndarray, parts: int) -> list[slice]:
    """Contiguous row ranges with about equally many entries each. indptr: (n + 1,), as in CSR."""
    bounds = np.searchsorted(indptr, np.linspace(0, indptr[-1], parts + 1))
    # The first and the last range also take the empty rows at either end.
    bounds[0] = 0
    bounds[-1] = len(indptr) - 1
    ranges = []
    for start, stop in pairwise(bounds):
        ranges.append(slice(int(start), int(stop)))
    return ranges
