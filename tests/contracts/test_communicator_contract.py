"""One suite for communicators of several workers: threads, and tasks of a Spark barrier job."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from embeddings.kernels.communicator import Communicator, run_threads, share
from jobs.spark.barrier import run_barrier

SIZE = 2
Run = Callable[[Callable[[Communicator], dict]], list[dict]]


@pytest.fixture(params=["threads", "Spark tasks"])
def run(request, tmp_path) -> Run:
    """Runs work on two workers and returns the results by rank."""
    if request.param == "threads":
        return partial(run_threads, SIZE)
    settings = request.getfixturevalue("settings")
    spark = request.getfixturevalue("spark")
    return lambda work: run_barrier(spark, settings, lambda comm, _: work(comm))


def test_every_worker_knows_its_rank(run):
    assert run(lambda comm: {"rank": comm.rank, "size": comm.size}) == [
        {"rank": r, "size": SIZE} for r in range(SIZE)
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_allreduce_gives_every_worker_the_sum(run, dtype):
    """In the workers' type and shape; the arguments are unchanged."""

    def work(comm: Communicator) -> dict:
        mine = np.full((3, 2), comm.rank + 1, dtype)
        total = comm.allreduce(mine)
        return {"total": total.tolist(), "dtype": str(total.dtype), "mine": mine.tolist()}

    for rank, answer in enumerate(run(work)):
        assert answer == {"total": [[3, 3]] * 3, "dtype": dtype, "mine": [[rank + 1] * 2] * 3}


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_reduce_scatter_gives_every_worker_its_share_of_the_sum(run, rows):
    """The shares are those of `share`; gathered, they are the whole sum."""

    def work(comm: Communicator) -> dict:
        mine = comm.reduce_scatter(
            np.arange(2.0 * rows, dtype=np.float32).reshape(rows, 2) * (comm.rank + 1)
        )
        own = share(rows, comm)
        return {
            "mine": mine.tolist(),
            "share": [own.start, own.stop],
            "all": comm.allgather(mine, rows).tolist(),
        }

    total = (np.arange(2.0 * rows).reshape(rows, 2) * 3).tolist()
    for rank, answer in enumerate(run(work)):
        start, stop = answer["share"]
        assert [start, stop] == [rows * rank // SIZE, rows * (rank + 1) // SIZE]
        assert answer == {"mine": total[start:stop], "share": [start, stop], "all": total}


def test_rows_are_gathered_by_rank_whatever_their_number(run):
    """The first worker has no rows."""

    def work(comm: Communicator) -> dict:
        rows = np.arange(3 * comm.rank * 2, dtype=np.float32).reshape(-1, 2)
        return {"rows": comm.allgather(rows).tolist()}

    assert run(work) == [{"rows": [[0, 1], [2, 3], [4, 5]]}] * SIZE


def test_exchanges_follow_each_other(run):
    """A result is not changed by later exchanges."""

    def work(comm: Communicator) -> dict:
        first = comm.allreduce(np.array([1.0]))
        for _ in range(20):
            comm.allreduce(np.array([7.0]))
            comm.allgather(np.array([[float(comm.rank)]], np.float32))
        return {"first": first.tolist()}

    assert run(work) == [{"first": [SIZE]}] * SIZE


def test_an_error_of_one_worker_ends_the_work(run):
    """The other worker does not wait forever, and the original error is raised."""

    def work(comm: Communicator) -> dict:
        if comm.rank == 1:
            raise ZeroDivisionError("the second gave up")
        comm.allreduce(np.ones(1))
        return {}

    with pytest.raises(Exception, match="the second gave up"):
        run(work)


def test_a_single_worker_exchanges_with_itself():
    assert run_threads(
        1,
        lambda comm: (
            comm.allreduce(np.ones(2)).tolist(),
            comm.allgather(np.ones((2, 1))).tolist(),
        ),
    ) == [([1, 1], [[1], [1]])]


def test_progress_of_the_first_task_is_printed_while_the_job_runs(spark, settings, capsys):
    def work(comm: Communicator, progress) -> dict:
        for step in range(2):
            progress(f"task {comm.rank}, step {step}")
            time.sleep(1.3)
        return {}

    run_barrier(spark, settings, work)
    printed = capsys.readouterr().err
    assert "task 0, step 1" in printed
    assert "task 1" not in printed
