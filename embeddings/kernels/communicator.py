"""Tasks that factorise one matrix together, each with some of its rows: threads here, Spark tasks in `jobs`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from embeddings.kernels.simd import empty_aligned

T = TypeVar("T")


class Group(Protocol):
    """What a member knows and can ask for; every member makes the same calls in the same order."""

    rank: int  # 0 … size − 1
    size: int

    def sum(self, x: np.ndarray) -> np.ndarray:
        """Σ of the members' arrays, added in rank order. One shape and type everywhere; returns a new array."""
        ...

    def sum_own(self, x: np.ndarray) -> np.ndarray:
        """This member's rows `own(len(x), group)` of the sum."""
        ...

    def gather(self, rows: np.ndarray, total: int | None = None) -> np.ndarray:
        """The members' rows one after the other, by rank. Lengths may differ, widths and types may not.

        total: where each member has its `own(total, group)`; saves telling each other how many rows there are.
        The members may share what is returned: it is for reading.
        """
        ...


def bounds(total: int, size: int) -> np.ndarray:
    """Where the members' shares of `total` rows begin, and where the last ends: (size + 1,)."""
    return total * np.arange(size + 1) // size


def own(total: int, group: Group) -> slice:
    """Which of `total` rows are this member's, where they are shared out evenly."""
    first, last = bounds(total, group.size)[group.rank :][:2]
    return slice(int(first), int(last))


class Alone:
    """A group of one."""

    rank, size = 0, 1

    def sum(self, x: np.ndarray) -> np.ndarray:
        return x

    def sum_own(self, x: np.ndarray) -> np.ndarray:
        return x

    def gather(self, rows: np.ndarray, total: int | None = None) -> np.ndarray:
        return rows


def together(size: int, work: Callable[[Group], T]) -> list[T]:
    """Run `work` in `size` threads that form a group, one BLAS thread each; what they return, by rank.

    The work must spend its time where Python's lock is free: NumPy, BLAS, numba kernels with nogil. Raises the first
    error of any member; the others then stop at their next exchange.
    """
    with threadpool_limits(1):
        if size == 1:
            return [work(Alone())]
        table = _Table(size)
        with ThreadPoolExecutor(size) as pool:
            futures = [pool.submit(table.seat, work, rank) for rank in range(size)]
        errors = [error for future in futures if (error := future.exception())]
        if errors:
            raise next(
                (e for e in errors if not isinstance(e, threading.BrokenBarrierError)), errors[0]
            )
        return [future.result() for future in futures]


class _Table:
    """Where the threads of one group lay down what they exchange."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.slots: list[np.ndarray] = [np.empty(0)] * size
        self.result = np.empty(0)
        self.barrier = threading.Barrier(size)

    def seat(self, work: Callable[[Group], T], rank: int) -> T:
        try:
            return work(_Seated(self, rank))
        except BaseException:
            self.barrier.abort()
            raise


class _Seated:
    """One thread of a group."""

    def __init__(self, table: _Table, rank: int) -> None:
        self.table, self.rank, self.size = table, rank, table.size

    def sum(self, x: np.ndarray) -> np.ndarray:
        flat = np.ascontiguousarray(x).reshape(-1)
        total = self.gather(self.sum_own(flat), len(flat))
        return total.reshape(np.shape(x)).copy()  # nobody changes what another may still be reading

    def sum_own(self, x: np.ndarray) -> np.ndarray:
        table, mine = self.table, own(len(x), self)
        table.slots[self.rank] = x
        table.barrier.wait()
        total = table.slots[0][mine].copy()
        for other in table.slots[1:]:
            total += other[mine]
        table.barrier.wait()
        return total

    def gather(self, rows: np.ndarray, total: int | None = None) -> np.ndarray:
        table = self.table
        table.slots[self.rank] = rows
        if total is None:
            table.barrier.wait()
            total = sum(len(slot) for slot in table.slots)
        if self.rank == 0:
            table.result = empty((total, *rows.shape[1:]), rows.dtype)
        table.barrier.wait()
        whole, start = table.result, sum(len(slot) for slot in table.slots[: self.rank])
        whole[start : start + len(rows)] = rows
        table.barrier.wait()
        return whole


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Rows of vectors begin on a cache line, where the kernels like them."""
    return (
        empty_aligned(*shape) if len(shape) == 2 and dtype == np.float32 else np.empty(shape, dtype)
    )
