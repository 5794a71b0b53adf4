"""One pass over the days, in time order: the same code on a GPU and on a CPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.features import Batch, Day, FeatureSpec, one_space
from models.losses import label_losses
from models.rankers.masknet import MaskNet, MaskNetConfig

Progress = Callable[
    [str, int, int, float], None
]  # name of the day, rows done, rows in all, running loss


@dataclass(frozen=True)
class TrainingConfig:
    batch_size: int = 512  # rows a step
    learning_rate: float = 2e-3  # of Adam, at its peak
    warmup_share: float = (
        0.05  # of the steps, in which the rate climbs to its peak; then it falls linearly to zero
    )
    threads: int = 1  # of torch on a CPU; another number may round differently
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """A model, the space its vectors come from, and the mean loss of each label at every step."""

    model: MaskNet
    space: str
    losses: np.ndarray  # (steps, L) float32


def train(
    days: list[Day],
    spec: FeatureSpec,
    net: MaskNetConfig,
    cfg: TrainingConfig,
    progress: Progress | None = None,
) -> Trained:
    """Fit a MaskNet by one pass of Adam over the days' rows. Raises SpaceMismatch when they mix two spaces.

    Same days, config and machine -> the same weights to the bit. Nothing is shuffled: what came last is learned last.
    """
    space = one_space({day.name: day.space for day in days})
    rows = sum(len(day) for day in days)
    steps = sum(-(-len(day) // cfg.batch_size) for day in days)
    losses = np.zeros((steps, len(spec.labels)), dtype=np.float32)
    with reproducible(cfg.seed, cfg.threads):
        model = MaskNet(spec, net)
        set_statistics(model, days)
        set_rates(model, days)
        model.to(device())
        optimizer = torch.optim.Adam(model.parameters(), lr=cfg.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate(step, steps, cfg.warmup_share)
        )
        step = done = 0
        for day in days:
            for batch in day.batches(cfg.batch_size):
                inputs, labels_BL = tensors(batch)
                losses_L = label_losses(model(*inputs), labels_BL)
                optimizer.zero_grad()
                losses_L.sum().backward()
                optimizer.step()
                schedule.step()
                losses[step] = losses_L.detach().cpu()
                step, done = step + 1, done + len(labels_BL)
                if progress:
                    progress(
                        day.name,
                        done,
                        rows,
                        float(losses[max(0, step - 50) : step].sum(axis=1).mean()),
                    )
    return Trained(model.cpu().eval(), space, losses)


def predict(
    model: MaskNet, day: Day, space: str, batch_size: int = 4096, threads: int = 1
) -> np.ndarray:
    """Probability of every label for every row, (n, L). Raises SpaceMismatch where the day's vectors are of another."""
    one_space({"the model": space, day.name: day.space})
    with reproducible(seed=0, threads=threads), torch.inference_mode():
        model = model.to(device()).eval()
        parts = [
            torch.sigmoid(model(*tensors(batch)[0])).cpu().numpy()
            for batch in day.batches(batch_size)
        ]
    return (
        np.concatenate(parts) if parts else np.zeros((0, len(model.spec.labels)), dtype=np.float32)
    )


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def tensors(batch: Batch) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """(inputs of the model, labels) on the device."""
    to = device()
    inputs = tuple(
        torch.from_numpy(x).to(to) for x in (batch.categories, batch.numbers, batch.vectors)
    )
    return inputs, torch.from_numpy(batch.labels).to(to)  # type: ignore[return-value]


def rate(step: int, steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate at a step: up linearly, then down linearly."""
    warmup = max(1, int(warmup_share * steps))
    return min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))


def set_statistics(model: MaskNet, days: list[Day]) -> None:
    """Mean and spread of each numeric column over the known values of all rows; a constant column becomes zero."""
    n = sum((~np.isnan(day.numbers)).sum(axis=0) for day in days)
    known = np.maximum(n, 1)
    mean = sum(np.nansum(day.numbers, axis=0, dtype=np.float64) for day in days) / known
    variance = (
        sum(np.nansum((day.numbers - mean) ** 2, axis=0, dtype=np.float64) for day in days) / known
    )
    std = np.sqrt(variance)
    model.fields.mean_N.copy_(torch.from_numpy(mean))
    model.fields.std_N.copy_(torch.from_numpy(np.where(std > 1e-6, std, np.inf)))


def set_rates(model: MaskNet, days: list[Day]) -> None:
    """Start every head at the log odds of its label over all rows, so that no step is spent on finding the rates."""
    positives = sum(day.labels.sum(axis=0, dtype=np.float64) for day in days) + 1
    negatives = sum(len(day) for day in days) + 2 - positives
    with torch.no_grad():
        model.heads.bias.copy_(torch.from_numpy(np.log(positives / negatives)))


@contextmanager
def reproducible(seed: int, threads: int) -> Iterator[None]:
    """A fixed seed, thread count and choice of kernels, for this block only."""
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # what CUDA needs to add in one order
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
