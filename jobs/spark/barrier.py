"""A Spark barrier job whose tasks compute on one matrix together.

Spark starts all tasks at the same moment; torch.distributed's gloo backend carries what they
exchange. Spark itself moves only each task's small JSON result: anything large is memory-mapped
from the lake and written to it by the tasks.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from embeddings.durable import replace_text
from embeddings.kernels.communicator import Communicator, empty, share_bounds
from jobs.errors import EvergreenError
from jobs.settings import Settings

if TYPE_CHECKING:
    from pyspark import BarrierTaskContext
    from pyspark.sql import SparkSession

FAULT = "fault.txt"  # in the meeting folder: the first task's error
PROGRESS = "progress.txt"  # in the meeting folder: the latest progress line of rank 0
TIMEOUT = timedelta(minutes=30)  # of one exchange: how long the slowest task may delay the others

ATTEMPTS = 3  # at a job of which a task dies

log = logging.getLogger(__name__)

Progress = Callable[[str], None]
Work = Callable[[Communicator, Progress], dict[str, Any]]


class LostTask(EvergreenError):
    """A task of a barrier job died with its executor, again and again."""


def run_barrier(spark: SparkSession, settings: Settings, work: Work) -> list[dict]:
    """Run `work` in `spark.members` communicating tasks; return their small JSON results by rank.

    The progress lines of the first task are printed here while the job runs. Spark gives up a
    barrier job as soon as a task of it dies with its executor; such a job is run again here.

    Raises EvergreenError where Spark cannot run that many tasks at once, and with the error of the
    first task that fails.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return run_once(spark, settings, work)
        except LostTask as lost:
            if attempt == ATTEMPTS:
                raise
            log.warning("%s It is run again.", lost)
    raise AssertionError("the last attempt returns or raises")


def run_once(spark: SparkSession, settings: Settings, work: Work) -> list[dict]:
    """One attempt. Raises LostTask where a task was gone, EvergreenError where one has failed."""
    members = settings.spark.members
    # One row per partition, so that Spark starts exactly one task for each member.
    ranks = spark.range(0, members, 1, members)
    meeting = settings.lake.root / "_staging" / f"meeting-{uuid.uuid4().hex}"
    meeting.mkdir(parents=True)
    job = ranks.mapInArrow(member(work, str(meeting)), "rank int, result string", barrier=True)
    try:
        with printing(meeting / PROGRESS):
            rows = job.collect()
    except Exception as error:
        reason = explained(error, meeting / FAULT, members)
        if reason is error:
            raise
        raise reason from error
    finally:
        shutil.rmtree(meeting, ignore_errors=True)
    by_rank = sorted(rows, key=lambda row: row.rank)
    return [json.loads(row.result) for row in by_rank]


def explained(error: Exception, fault: Path, members: int) -> Exception:
    """What to raise for a job that Spark has ended with an error.

    fault: the file with the first error of a task. Spark may report any of the tasks, usually one
    that only lost its connection.
    """
    text = str(error)
    if "SPARK-24942" in text:
        return EvergreenError(
            "Spark runs no barrier job while it may take executors away, and the matrix is "
            "factorised by one: set spark.dynamicAllocation.enabled to false."
        )
    # Spark's code for a barrier job that needs more slots than there are.
    if "SPARK-24819" in text or "requires more slots" in text:
        return EvergreenError(
            f"Spark cannot run {members} tasks at once, as the barrier job needs "
            f"(spark.members = {members}). Lower spark.members, or give Spark more cores."
        )
    first = fault.read_text() if fault.exists() else ""
    # A task that dies with its executor leaves no error; its peers find a closed connection.
    if "gloo" in first or (not first and "ExecutorLostFailure" in text):
        return LostTask(f"A task of the barrier job died with its executor. {first}".rstrip())
    if first:
        return EvergreenError(f"A task of the barrier job failed with {first}")
    return error


@contextmanager
def printing(path: Path) -> Iterator[None]:
    """Print the content of a file whenever it changes, for as long as the block runs."""
    done = threading.Event()

    def watch() -> None:
        last = ""
        while not done.wait(1.0):
            text = path.read_text() if path.exists() else ""
            if text != last:
                print(text, file=sys.stderr, flush=True)
            last = text

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def member(
    work: Work, meeting: str
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The task of one member: connect to the others, work, return the result as JSON."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import BarrierTaskContext

        for _ in batches:  # nothing is in them: the row of this task only starts it
            pass
        context = BarrierTaskContext.get()
        rank = context.partitionId()

        def progress(text: str) -> None:
            if rank == 0:
                replace_text(Path(meeting) / PROGRESS, text)

        try:
            # Spark runs one task per core; threads of BLAS would compete with other tasks.
            with threadpool_limits(1):
                result = work(GlooCommunicator.connect(context, meeting), progress)
        except BaseException as error:
            record_fault(Path(meeting) / FAULT, error)
            raise
        yield pa.record_batch(
            {"rank": pa.array([rank], pa.int32()), "result": [json.dumps(result)]}
        )

    return run


def record_fault(path: Path, error: BaseException) -> None:
    """Keep the first error; the other tasks then fail too, with a closed connection."""
    # An OSError: the file exists already, or the driver has given up and removed the folder.
    with suppress(OSError), path.open("x") as stream:
        stream.write(f"{type(error).__name__}: {error}")


class GlooCommunicator:
    """The tasks of a barrier job as a `Communicator`.

    Sums are added in an order that depends on the number of tasks alone.
    """

    def __init__(self, rank: int, size: int, processes: Any) -> None:
        self.rank = rank
        self.size = size
        self.processes = processes

    @classmethod
    def connect(cls, context: BarrierTaskContext, meeting: str) -> GlooCommunicator:
        """Connect this task to the others through a folder that all of them see.

        Spark's own exchange (`allGather`) polls once a second, which is too slow here. Each attempt
        of a stage meets in a separate file.
        """
        import torch
        from torch.distributed import FileStore, ProcessGroupGloo

        torch.set_num_threads(1)
        infos = context.getTaskInfos()
        hosts = {info.address.split(":")[0] for info in infos}
        # Otherwise gloo listens on the address that the host's name resolves to.
        if hosts <= {"127.0.0.1", "localhost"}:
            os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        rank = context.partitionId()
        size = len(infos)
        file = Path(meeting) / f"{context.stageId()}-{context.attemptNumber()}"
        store = FileStore(str(file), size)
        return cls(rank, size, ProcessGroupGloo(store, rank, size, TIMEOUT))

    def allreduce(self, x: np.ndarray) -> np.ndarray:
        import torch

        total = torch.from_numpy(np.array(x, order="C"))  # a copy: gloo writes the sum into it
        self.processes.allreduce([total]).wait()
        return total.numpy()

    def reduce_scatter(self, x: np.ndarray) -> np.ndarray:
        import torch

        # gloo's reduce_scatter does not take uneven shares, so each task receives everyone's part
        # of its share and adds them itself.
        lengths = np.diff(share_bounds(len(x), self.size))
        own = int(lengths[self.rank])
        dtype = torch.from_numpy(x[:0]).dtype
        parts = torch.empty((self.size, own, *x.shape[1:]), dtype=dtype)
        sent = torch.from_numpy(np.ascontiguousarray(x))
        received = parts.flatten(0, 1)
        self.processes.alltoall_base(received, sent, [own] * self.size, lengths.tolist()).wait()
        return parts.numpy().sum(axis=0, dtype=x.dtype)

    def allgather(self, rows: np.ndarray, total: int | None = None) -> np.ndarray:
        import torch

        if total is None:
            own_length = np.bincount([self.rank], [len(rows)], self.size)
            lengths = self.allreduce(own_length).astype(int)
        else:
            lengths = np.diff(share_bounds(total, self.size))
        # gloo gathers equal lengths only: shorter parts are padded, and the padding is dropped.
        longest = int(lengths.max())
        sent = torch.from_numpy(padded(rows, longest))
        received = empty((self.size * longest, *rows.shape[1:]), rows.dtype)
        slots = list(torch.from_numpy(received).chunk(self.size))
        self.processes.allgather([slots], [sent]).wait()
        if lengths.min() == longest:
            return received
        parts = []
        for slot, length in zip(np.split(received, self.size), lengths, strict=True):
            parts.append(slot[:length])
        return np.concatenate(parts, out=empty((int(lengths.sum()), *rows.shape[1:]), rows.dtype))


def padded(rows: np.ndarray, n: int) -> np.ndarray:
    """The rows, C-contiguous, followed by rows of zeros up to n."""
    missing = n - len(rows)
    if not missing:
        return np.ascontiguousarray(rows)
    return np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1))
