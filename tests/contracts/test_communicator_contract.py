"""One suite for every kind of group: alone, as threads, and as tasks of a Spark barrier job."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from embeddings.kernels.communicator import Group, own, together
from jobs.spark.barrier import run_together

SIZE = 2
Run = Callable[[Callable[[Group], dict]], list[dict]]


@pytest.fixture(params=["threads", "Spark tasks"])
def run(request, tmp_path) -> Run:
    """Runs work in a group of two and returns the answers by rank."""
    if request.param == "threads":
        return partial(together, SIZE)
    settings = request.getfixturevalue("settings")
    spark = request.getfixturevalue("spark")
    return lambda work: run_together(spark, settings, lambda group, _: work(group))


def test_every_member_knows_its_place(run):
    assert run(lambda group: {"rank": group.rank, "size": group.size}) == [
        {"rank": r, "size": SIZE} for r in range(SIZE)
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_a_sum_is_everybodys(run, dtype):
    """In the members' own type and shape; what was given stays as it was."""

    def work(group: Group) -> dict:
        mine = np.full((3, 2), group.rank + 1, dtype)
        total = group.sum(mine)
        return {"total": total.tolist(), "dtype": str(total.dtype), "mine": mine.tolist()}

    for rank, answer in enumerate(run(work)):
        assert answer == {"total": [[3, 3]] * 3, "dtype": dtype, "mine": [[rank + 1] * 2] * 3}


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_everybody_gets_its_own_rows_of_a_sum(run, rows):
    """Shared out as `own` says, and gathered again without a word about their number."""

    def work(group: Group) -> dict:
        mine = group.sum_own(
            np.arange(2.0 * rows, dtype=np.float32).reshape(rows, 2) * (group.rank + 1)
        )
        share = own(rows, group)
        return {
            "mine": mine.tolist(),
            "share": [share.start, share.stop],
            "all": group.gather(mine, rows).tolist(),
        }

    total = (np.arange(2.0 * rows).reshape(rows, 2) * 3).tolist()
    for rank, answer in enumerate(run(work)):
        start, stop = answer["share"]
        assert [start, stop] == [rows * rank // SIZE, rows * (rank + 1) // SIZE]
        assert answer == {"mine": total[start:stop], "share": [start, stop], "all": total}


def test_rows_are_gathered_by_rank_whatever_their_number(run):
    """The first member has none."""

    def work(group: Group) -> dict:
        rows = np.arange(3 * group.rank * 2, dtype=np.float32).reshape(-1, 2)
        return {"rows": group.gather(rows).tolist()}

    assert run(work) == [{"rows": [[0, 1], [2, 3], [4, 5]]}] * SIZE


def test_exchanges_follow_each_other(run):
    """What one holds is not touched by the next."""

    def work(group: Group) -> dict:
        first = group.sum(np.array([1.0]))
        for _ in range(20):
            group.sum(np.array([7.0]))
            group.gather(np.array([[float(group.rank)]], np.float32))
        return {"first": first.tolist()}

    assert run(work) == [{"first": [SIZE]}] * SIZE


def test_one_members_error_ends_the_work(run):
    """The others do not wait for ever; the error is the one that happened."""

    def work(group: Group) -> dict:
        if group.rank == 1:
            raise ZeroDivisionError("the second gave up")
        group.sum(np.ones(1))
        return {}

    with pytest.raises(Exception, match="the second gave up"):
        run(work)


def test_alone_is_a_group_of_one():
    assert together(
        1, lambda group: (group.sum(np.ones(2)).tolist(), group.gather(np.ones((2, 1))).tolist())
    ) == [([1, 1], [[1], [1]])]


def test_what_the_first_task_tells_is_printed_meanwhile(spark, settings, capsys):
    def work(group: Group, tell) -> dict:
        for step in range(3):
            tell(f"task {group.rank}, step {step}")
            time.sleep(1.3)
        return {}

    run_together(spark, settings, work)
    printed = capsys.readouterr().err
    assert "task 0, step 1" in printed
    assert "task 1" not in printed
