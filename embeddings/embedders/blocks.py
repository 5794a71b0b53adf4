"""CSR blocks on disk: some rows of the matrix in a folder of plain arrays, written by one task, mapped by others."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np
import scipy.sparse as sp

T = TypeVar("T")


@dataclass(frozen=True)
class Block:
    """Some consumers and their strengths. n consumers, nnz pairs; columns are producer rows, ascending per consumer."""

    ids: np.ndarray  # (n,) bytes, sorted
    engagements: np.ndarray  # (n,) int32, how many engagements stand behind the consumer
    indptr: np.ndarray  # (n + 1,) int64
    indices: np.ndarray  # (nnz,) int32
    strengths: np.ndarray  # (nnz,) float64

    def matrix(self, n_columns: int) -> sp.csr_matrix:
        return sp.csr_matrix(
            (self.strengths, self.indices, self.indptr), shape=(len(self.ids), n_columns)
        )

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


def save_arrays(folder: Path, record: object) -> None:
    """Every array of a dataclass as a file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in vars(record).items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def load_arrays(folder: Path, kind: type[T]) -> T:
    """The arrays of a dataclass, mapped."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(
        **{
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in names
        }
    )


def save_block(folder: Path, block: Block) -> None:
    save_arrays(folder, block)


def load_block(folder: Path) -> Block:
    return load_arrays(folder, Block)


def load_blocks(folder: Path) -> list[Block]:
    """All blocks below a folder, in their order."""
    return [load_block(home) for home in sorted(folder.glob("block-*"))]


def stack(blocks: list[Block], n_columns: int) -> sp.csr_matrix:
    """One matrix of all blocks, rows in block order."""
    return sp.vstack([block.matrix(n_columns) for block in blocks], format="csr")
