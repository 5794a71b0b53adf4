"""What is said of a barrier job that Spark has ended, by what its tasks have left."""

from __future__ import annotations

import pytest

from jobs.errors import EvergreenError
from jobs.spark.barrier import LostTask, explained

LOST = "Stage failed: ExecutorLostFailure (executor 3 exited) Reason: code 137"
CLOSED = "RuntimeError: [gloo/transport/tcp/pair.cc:534] Connection closed by peer"


@pytest.mark.parametrize(
    ("error", "fault", "kind", "said"),
    [
        (LOST, "", LostTask, "died with its executor"),
        ("PythonException", CLOSED, LostTask, "Connection closed"),
        (LOST, "ValueError: a NaN in block 3", EvergreenError, "failed with ValueError: a NaN"),
        ("[SPARK-24819] more slots", "", EvergreenError, "Lower spark.members"),
        ("[SPARK-24942] dynamic", "", EvergreenError, "dynamicAllocation"),
        ("the server is gone", "", OSError, "the server is gone"),
    ],
)
def test_the_first_fault_of_a_task_says_what_has_happened(tmp_path, error, fault, kind, said):
    file = tmp_path / "fault.txt"
    if fault:
        file.write_text(fault)
    found = explained(OSError(error), file, members=2)
    assert type(found) is kind
    assert said in str(found)
