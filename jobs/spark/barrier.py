"""One barrier job whose tasks work together on one matrix: Spark starts them all at once, gloo carries what they sum.

Spark moves nothing but each task's small answer; what is large is mapped from the lake and written to it by the tasks.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from embeddings.kernels.communicator import Group, bounds, empty
from jobs.errors import EvergreenError
from jobs.lake.store import replace_text
from jobs.settings import Settings

if TYPE_CHECKING:
    from pyspark import BarrierTaskContext
    from pyspark.sql import SparkSession

FAULT, PROGRESS = "fault.txt", "progress.txt"  # in the meeting place
Tell = Callable[[str], None]
Work = Callable[[Group, Tell], dict[str, Any]]
TIMEOUT = timedelta(
    minutes=30
)  # for one exchange: how long the slowest task may keep the others waiting


def run_together(spark: SparkSession, settings: Settings, work: Work) -> list[dict]:
    """Run `work` in `spark.members` tasks that form a group; what they return (small, JSON), by rank.

    What the first of them tells is printed here while it goes on.

    Raises EvergreenError when Spark cannot run that many tasks at the same moment, and with the first task's fault.
    """
    members = settings.spark.members
    seats = spark.range(0, members, 1, members)
    meeting = settings.lake.root / "_staging" / f"meeting-{uuid.uuid4().hex}"
    meeting.mkdir(parents=True)
    job = seats.mapInArrow(member(work, str(meeting)), "rank int, answer string", barrier=True)
    try:
        with told(meeting / PROGRESS):
            rows = job.collect()
    except Exception as error:
        if "SPARK-24819" in str(error) or "requires more slots" in str(error):
            raise EvergreenError(
                f"Spark cannot run {members} tasks at once, which a barrier job of spark.members = {members} needs. "
                "Lower spark.members, or give Spark more cores."
            ) from None
        if (fault := meeting / FAULT).exists():
            raise EvergreenError(
                f"A task of the barrier job failed with {fault.read_text()}"
            ) from error
        raise
    finally:
        shutil.rmtree(meeting, ignore_errors=True)
    return [json.loads(row.answer) for row in sorted(rows, key=lambda row: row.rank)]


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Print what the file says, each time that it says something else, for as long as the block runs."""
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
    """The task: find the others, work with them, answer."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import BarrierTaskContext

        for _ in batches:
            pass
        context = BarrierTaskContext.get()

        def teller(text: str) -> None:
            if context.partitionId() == 0:
                replace_text(Path(meeting) / PROGRESS, text)

        try:
            with threadpool_limits(1):
                answer = json.dumps(work(GlooGroup.of(context, meeting), teller))
        except BaseException as error:
            tell_fault(Path(meeting) / FAULT, error)
            raise
        yield pa.record_batch(
            {"rank": pa.array([context.partitionId()], pa.int32()), "answer": [answer]}
        )

    return run


def tell_fault(path: Path, error: BaseException) -> None:
    """Write down what failed first; the others then fail as well, of a connection that is closed."""
    try:
        with path.open("x") as stream:
            stream.write(f"{type(error).__name__}: {error}")
    except OSError:
        pass  # somebody has told already, or nobody waits any more


class GlooGroup:
    """The tasks of a barrier job as a `Group`; sums are made in one order that depends on the size alone."""

    def __init__(self, rank: int, size: int, processes: Any) -> None:
        self.rank, self.size, self.processes = rank, size, processes

    @classmethod
    def of(cls, context: BarrierTaskContext, meeting: str) -> GlooGroup:
        """The group of this task. They meet in a folder that all of them see: Spark's own exchange polls by the second.

        A stage that is tried again meets at a place of its own.
        """
        import torch
        from torch.distributed import FileStore, ProcessGroupGloo

        torch.set_num_threads(1)
        hosts = {info.address.split(":")[0] for info in context.getTaskInfos()}
        if hosts <= {"127.0.0.1", "localhost"}:
            os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        rank, size = context.partitionId(), len(context.getTaskInfos())
        store = FileStore(
            str(Path(meeting) / f"{context.stageId()}-{context.attemptNumber()}"), size
        )
        return cls(rank, size, ProcessGroupGloo(store, rank, size, TIMEOUT))

    def sum(self, x: np.ndarray) -> np.ndarray:
        import torch

        total = torch.from_numpy(np.array(x, order="C"))
        self.processes.allreduce([total]).wait()
        return total.numpy()

    def sum_own(self, x: np.ndarray) -> np.ndarray:
        import torch

        lengths = np.diff(bounds(len(x), self.size))
        parts = torch.empty(
            (self.size, lengths[self.rank], *x.shape[1:]), dtype=torch.from_numpy(x[:0]).dtype
        )
        given = torch.from_numpy(np.ascontiguousarray(x))
        received = parts.flatten(0, 1)
        self.processes.alltoall_base(
            received, given, [int(lengths[self.rank])] * self.size, lengths.tolist()
        ).wait()
        return parts.numpy().sum(axis=0, dtype=x.dtype)

    def gather(self, rows: np.ndarray, total: int | None = None) -> np.ndarray:
        import torch

        if total is None:
            lengths = self.sum(np.bincount([self.rank], [len(rows)], self.size)).astype(int)
        else:
            lengths = np.diff(bounds(total, self.size))
        longest = int(lengths.max())
        mine, received = (
            padded(rows, longest),
            empty((self.size * longest, *rows.shape[1:]), rows.dtype),
        )
        self.processes.allgather(
            [list(torch.from_numpy(received).chunk(self.size))], [torch.from_numpy(mine)]
        ).wait()
        if lengths.min() == longest:
            return received
        parts = [part[:n] for part, n in zip(np.split(received, self.size), lengths, strict=True)]
        return np.concatenate(parts, out=empty((int(lengths.sum()), *rows.shape[1:]), rows.dtype))


def padded(rows: np.ndarray, n: int) -> np.ndarray:
    """The rows, C-contiguous, and zeros below them up to n."""
    missing = n - len(rows)
    return (
        np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1))
        if missing
        else np.ascontiguousarray(rows)
    )
