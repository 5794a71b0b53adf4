"""Workers that compute on one matrix together, each holding some of its rows.

The exchanges have MPI's names. Here the workers are threads of one process (`run_threads`); on
Spark they are the tasks of a barrier job (`jobs.spark.barrier`). Solvers are written against the
Protocol and do not know which it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from embeddings.kernels.simd import empty_aligned

T = TypeVar("T")


class Communicator(Protocol):
    """One worker's connection to the others. All workers make the same calls in the same order."""

    rank: int  # 0 … size − 1
    size: int

    def allreduce(self, x: np.ndarray) -> np.ndarray:
        """The sum of all workers' arrays, added in rank order.

        x: the same shape and type on every worker. No other worker shares the result, which may be
        x itself.
        """
        ...

    def reduce_scatter(self, x: np.ndarray) -> np.ndarray:
        """This worker's rows, `share(len(x), comm)`, of the sum of all workers' arrays."""
        ...

    def allgather(self, rows: np.ndarray, total: int | None = None) -> np.ndarray:
        """The rows of all workers, concatenated by rank. Only the number of rows may differ.

        total: the number of all rows, if every worker holds its `share(total, comm)` of them; the
        workers then need not exchange lengths. Workers may share the result: it is read-only.
        """
        ...


def share_bounds(total: int, size: int) -> np.ndarray:
    """Where each worker's share of `total` rows begins, and the end of the last: (size + 1,)."""
    return total * np.arange(size + 1) // size


def share(total: int, comm: Communicator) -> slice:
    """This worker's part of `total` rows that are split evenly."""
    bounds = share_bounds(total, comm.size)
    return slice(int(bounds[comm.rank]), int(bounds[comm.rank + 1]))


class SingleWorker:
    """A communicator of one worker: every exchange is the identity."""

    rank = 0
    size = 1

    def allreduce(self, x: np.ndarray) -> np.ndarray:
        return x

    def reduce_scatter(self, x: np.ndarray) -> np.ndarray:
        return x

    def allgather(self, rows: np.ndarray, total: int | None = None) -> np.ndarray:
        return rows


def run_threads(size: int, work: Callable[[Communicator], T]) -> list[T]:
    """Run `work` in `size` communicating threads, one BLAS thread each; return the results by rank.

    The work must spend its time outside Python's lock: NumPy, BLAS, numba kernels with nogil. If a
    worker fails, the others stop at their next exchange and its error is raised; of several errors,
    that of the lowest rank.
    """
    with threadpool_limits(1):
        if size == 1:
            return [work(SingleWorker())]
        exchange = _Exchange(size)
        with ThreadPoolExecutor(size) as pool:
            futures = [pool.submit(exchange.run, work, rank) for rank in range(size)]
        outcomes = [future.exception() for future in futures]
        errors = [error for error in outcomes if error is not None]
        # A broken barrier is how the other workers notice a failure, not its cause.
        causes = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
        if errors:
            raise (causes or errors)[0]
        return [future.result() for future in futures]


class _Exchange:
    """The memory through which the threads of one run exchange arrays."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.slots: list[np.ndarray] = [np.empty(0)] * size
        self.result = np.empty(0)
        self.barrier = threading.Barrier(size)

    def run(self, work: Callable[[Communicator], T], rank: int) -> T:
        try:
            return work(_ThreadCommunicator(self, rank))
        except BaseException:
            self.barrier.abort()  # else the other threads would wait for this one forever
            raise


class _ThreadCommunicator:
    """One thread's connection to the others."""

    def __init__(self, exchange: _Exchange, rank: int) -> None:
        self.exchange = exchange
        self.rank = rank
        self.size = exchange.size

    def allreduce(self, x: np.ndarray) -> np.ndarray:
        flat = np.ascontiguousarray(x).reshape(-1)
        total = self.allgather(self.reduce_scatter(flat), len(flat))
        # A copy, because the gathered array is shared and the caller may write to its sum.
        return total.reshape(np.shape(x)).copy()

    def reduce_scatter(self, x: np.ndarray) -> np.ndarray:
        exchange = self.exchange
        own = share(len(x), self)
        exchange.slots[self.rank] = x
        exchange.barrier.wait()  # every slot is filled
        total = exchange.slots[0][own].copy()
        for other in exchange.slots[1:]:
            total += other[own]
        exchange.barrier.wait()  # no thread may reuse a slot that another still reads
        return total

    def allgather(self, rows: np.ndarray, total: int | None = None) -> np.ndarray:
        exchange = self.exchange
        exchange.slots[self.rank] = rows
        if total is None:
            exchange.barrier.wait()  # every slot is filled
            total = sum(len(slot) for slot in exchange.slots)
        if self.rank == 0:
            exchange.result = empty((total, *rows.shape[1:]), rows.dtype)
        exchange.barrier.wait()  # the result is allocated and every slot is filled
        gathered = exchange.result
        start = sum(len(slot) for slot in exchange.slots[: self.rank])
        gathered[start : start + len(rows)] = rows
        exchange.barrier.wait()  # every thread has written its rows
        return gathered


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array; float32 vectors begin on a cache line, as the kernels prefer."""
    if len(shape) == 2 and dtype == np.float32:
        return empty_aligned(*shape)
    return np.empty(shape, dtype)
