"""Batches on the device: in order, no copy on a CPU, and an error of the reader comes through."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from models.features import Batch
from models.transfer import Copier, on_device


def batch(number: int) -> Batch:
    return Batch(
        categories=np.full((4, 2), number),
        numbers=np.full((4, 1), number, np.float32),
        vectors=np.full((4, 2, 3), number, np.float32),
        labels=np.full((4, 1), number % 2, np.float32),
    )


def test_batches_arrive_in_order_and_with_their_values():
    """All four parts of each."""
    arrived = list(on_device(batch(number) for number in range(5)))
    assert len(arrived) == 5
    for number, (inputs, labels_BL) in enumerate(arrived):
        expected = batch(number)
        parts = (expected.categories, expected.numbers, expected.vectors)
        for found, part in zip(inputs, parts, strict=True):
            np.testing.assert_array_equal(found.cpu(), part)
        np.testing.assert_array_equal(labels_BL.cpu(), expected.labels)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has memory of its own")
def test_on_a_cpu_nothing_is_copied():
    """The tensors are the arrays: what is written to one is in the other."""
    given = batch(1)
    (categories_BC, _, _), _ = Copier().start(given).wait()
    given.categories[0, 0] = 77
    assert categories_BC[0, 0] == 77


def test_an_error_of_the_reader_comes_through():
    """After the batches before it."""

    def reader() -> Iterator[Batch]:
        yield batch(0)
        raise OSError("the file is gone")

    arriving = on_device(reader())
    next(arriving)
    with pytest.raises(OSError, match="the file is gone"):
        next(arriving)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_reads_what_was_copied_beside_its_work():
    """Sums of many batches, each used while the next is copied, are those of the CPU."""
    rng = np.random.default_rng(0)
    given = [batch(int(number)) for number in rng.integers(0, 9, 200)]
    sums = []
    for (_, _, vectors_B2V), _ in on_device(iter(given)):
        torch.cuda._sleep(100_000)  # the stream is late, and its inputs must stay as they are
        sums.append(vectors_B2V.sum())
    expected = [float(each.vectors.sum()) for each in given]
    np.testing.assert_array_equal(torch.stack(sums).cpu(), expected)
