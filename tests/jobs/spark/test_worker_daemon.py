"""Spark's Python workers keep what they have imported, and drop the garbage of every task."""

from __future__ import annotations


def test_imports_are_frozen_after_a_task_and_its_garbage_is_not(spark):
    """The functions are pickled with their code: a worker cannot import this file."""

    def leave_garbage(batches):
        """Leave an object that only the collector can delete, and a reference to look at it."""
        import sys
        import weakref

        class Loop:
            def __init__(self):
                self.itself = self

        yield from batches
        sys.left_by_a_task = weakref.ref(Loop())

    def look(batches):
        """Was the object left in this worker, is it still there, and how many are frozen?"""
        import gc
        import sys

        import pyarrow as pa

        for _ in batches:
            pass
        left = getattr(sys, "left_by_a_task", None)
        columns = {
            "left": [left is not None],
            "kept": [left is not None and left() is not None],
            "frozen": [gc.get_freeze_count()],
        }
        yield pa.RecordBatch.from_pydict(columns)

    two = spark.range(0, 2, 1, 2)
    two.mapInArrow(leave_garbage, "id long", barrier=True).collect()
    found = two.mapInArrow(look, "left boolean, kept boolean, frozen long", barrier=True).collect()
    reused = [row for row in found if row.left]
    assert reused
    assert not any(row.kept for row in reused)
    assert min(row.frozen for row in reused) > 10_000
