"""Batches on the device. To a GPU they are copied while the batch before is in use.

A copy runs on a stream of its own, from pinned memory, so that neither the CPU nor the kernels of
the batch in use wait for it. On a CPU nothing is copied: the tensors are the batch's own arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.ahead import ahead
from models.features import Batch

Inputs = tuple[Tensor, Tensor, Tensor]  # categories (B, C), numbers (B, N), vectors (B, 2, V)


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def tensors(batch: Batch) -> tuple[Inputs, Tensor]:
    """The three inputs of the model and the labels, on the device."""
    return Copier().start(batch).wait()


def on_device(batches: Iterator[Batch]) -> Iterator[tuple[Inputs, Tensor]]:
    """The same of every batch. To a GPU, the next one is copied while one is in use."""
    copier = Copier()
    copies = map(copier.start, batches)
    for copy in ahead(copies) if copier.stream is not None else copies:
        yield copy.wait()


@dataclass(frozen=True)
class Copy:
    """A batch on its way to the device.

    done: follows the copies on their stream; None where nothing is copied.
    """

    inputs: Inputs
    labels_BL: Tensor
    done: torch.cuda.Event | None = None

    def wait(self) -> tuple[Inputs, Tensor]:
        """The inputs and the labels, for use on the current stream, which waits for the copies."""
        if self.done is not None:
            stream = torch.cuda.current_stream()
            stream.wait_event(self.done)
            # The memory belongs to the other stream, which could take it back while it is in use.
            for tensor in (*self.inputs, self.labels_BL):
                tensor.record_stream(stream)
        return self.inputs, self.labels_BL


class Copier:
    """Copies batches to the device that is current where it is made.

    `start` may be called by another thread.
    """

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream() if torch.cuda.is_available() else None

    def start(self, batch: Batch) -> Copy:
        """Begin to copy; returns before the copies have ended."""
        categories_BC, numbers_BN, vectors_B2V, labels_BL = map(
            torch.from_numpy, (batch.categories, batch.numbers, batch.vectors, batch.labels)
        )
        if self.stream is None:
            return Copy((categories_BC, numbers_BN, vectors_B2V), labels_BL)
        # Also makes the stream's GPU the current one: every thread begins with the first.
        with torch.cuda.stream(self.stream):
            inputs = (sent(categories_BC), sent(numbers_BN), sent(vectors_B2V))
            return Copy(inputs, sent(labels_BL), self.stream.record_event())


def sent(x: Tensor) -> Tensor:
    """The tensor on the GPU, once the current stream has come so far."""
    # Pinned memory is not used again before the copy has ended: its allocator follows the stream.
    return x.pin_memory().to("cuda", non_blocking=True)
