"""Training: one pass over the days in time order, with the same code on a GPU and on a CPU.

The days are read piece by piece, twice: for the statistics of their rows, and to learn from them.
What is in memory does not grow with the number of rows.

Days without vectors are spread over the days that have some. A new space would otherwise begin with
many such days: the ranker would first read vectors when its learning rate is nearly zero.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from models import processes
from models.admission import BucketCounts
from models.ahead import ahead
from models.checkpoint import Checkpoint
from models.features import Batch, Day, Examples, FeatureSpec, InvalidExamples, one_space
from models.losses import label_losses
from models.rankers.base import Ranker, RankerOptions, build
from models.row_adam import RowAdam
from models.row_statistics import statistics_of
from models.sampling import Sampled
from models.sharded_table import collect_tables, is_sharded, sharding, tables
from models.start import Admitted, Start, go_on_from
from models.transfer import Copier, Copy, device, on_device

# Called after every batch with: name of the day, rows done, rows in total, running loss.
Progress = Callable[[str, int, int, float], None]
SMOOTHED_STEPS = 50  # that the running loss is averaged over
Precision = Literal["float32", "bfloat16"]
Tables = Literal["whole", "sharded"]


@dataclass(frozen=True)
class TrainingConfig:
    batch_size: int = 512  # rows per step
    learning_rate: float = 2e-3  # of Adam, at its peak
    # Share of the steps in which the rate climbs to its peak; then it falls linearly.
    warmup_share: float = 0.05
    last_rate: float = 0.0  # share of the peak that is left after the last step
    threads: int = 1  # of torch on a CPU; another number may round differently
    precision: Precision = "float32"  # of matrix products
    # Fuse the steps with torch.compile: that takes half a minute and a C++ compiler.
    compiled: bool = False
    seed: int = 0
    negatives_kept: float = 1.0  # share of the negatives that is trained on: models.sampling
    tables: Tables = "whole"  # in every process, or spread over them: models.sharded_table
    # Rows in which a bucket must be read to get a vector of its own: models.admission. 0: all do.
    admit_after: int = 0


@dataclass(frozen=True)
class Trained:
    """A model, the space of its vectors, and the mean loss of each label at every step.

    rows: that it was trained on. admitted: its buckets, where not all have a vector of their own.
    """

    model: Ranker
    space: str
    losses: np.ndarray  # (steps, L) float32
    rows: int
    admitted: Admitted | None = None


def train(
    days: Sequence[Examples],
    spec: FeatureSpec,
    kind: str,
    options: RankerOptions,
    cfg: TrainingConfig,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    start: Start | None = None,
) -> Trained:
    """Fit a ranker of this kind with one pass of Adam over the rows of the days, as `in_order`.

    The same rows, options, config and machine give the same weights, to the bit, whether the days
    are in memory or in files, and whether the training goes on from a checkpoint or not. Rows are
    not shuffled, so of the days with vectors the newest is learned last. Within
    `processes.connected()`, all processes call this alike and learn one model. Where its tables are
    sharded, only the first process returns it whole.

    start: the model of an earlier day to go on from, of the same kind, spec and options; then the
    days are those after it.

    Raises SpaceMismatch when the vectors of the days are in two spaces, RankerError when the kind
    cannot be built, InvalidExamples when there are no rows or a row cannot be read.
    """
    spaces = {day.name: day.space for day in days}
    if start is not None:
        spaces["the model to go on from"] = start.space
    space = one_space(spaces)
    if not any(len(day) for day in days):
        names = ", ".join(day.name for day in days) or "none"
        raise InvalidExamples(
            f"There is no row to train a ranker on (days: {names}). Add days with impressions."
        )
    with reproducible(cfg.seed, cfg.threads):
        model, admitted = untrained(days, spec, kind, options, cfg, start)
        model.to(device())
        processes.copy_from_first(common_state(model).values())
        drawn = sampled(days, cfg)
        losses = one_pass(Trainer(model, cfg), drawn, progress, checkpoint)
        model.to(torch.device("cpu")).eval()
        collect_tables(model)
    rows = sum(len(day) for day in drawn)
    return Trained(model, space, losses, rows, admitted)


def untrained(
    days: Sequence[Examples],
    spec: FeatureSpec,
    kind: str,
    options: RankerOptions,
    cfg: TrainingConfig,
    start: Start | None,
) -> tuple[Ranker, Admitted | None]:
    """The model before the first step, and its buckets where not all have a vector of their own.

    The first process looks at the rows, for all.
    """
    buckets = BucketCounts(spec) if cfg.admit_after else None
    statistics = statistics_of(days, spec, buckets) if processes.rank() == 0 else None
    admitted = None
    if buckets is not None:
        processes.copy_from_first([torch.from_numpy(buckets.counts)])
        admitted = Admitted.of(spec, buckets.counts, cfg.admit_after, start)
    with sharding(cfg.tables == "sharded"):
        model = build(kind, spec if admitted is None else admitted.spec, options)
    if statistics is not None:
        model.initialise(statistics)
    else:
        torch.manual_seed(cfg.seed + processes.rank())  # each leaves out other outputs
    if admitted is not None:
        admitted.give_rows(model)
    if start is not None:
        go_on_from(start, model, admitted)
    return model, admitted


def sampled(days: Sequence[Examples], cfg: TrainingConfig) -> Sequence[Examples]:
    """The days with the share of the negatives that is trained on.

    Raises InvalidExamples where no row is drawn.
    """
    if cfg.negatives_kept == 1:
        return days
    drawn = [Sampled(day, cfg.negatives_kept, cfg.seed) for day in days]
    if not any(len(day) for day in drawn):
        raise InvalidExamples(
            f"No row has a positive label, and negatives_kept = {cfg.negatives_kept:g} draws none "
            "of the others. Train on more days, or keep more of the negatives."
        )
    return drawn


def one_pass(
    trainer: Trainer,
    days: Sequence[Examples],
    progress: Progress | None,
    checkpoint: Checkpoint | None,
) -> np.ndarray:
    """Learn from every batch of the days; returns the losses, (steps, L) float32."""
    cfg = trainer.cfg
    rows = sum(len(day) for day in days)
    # Rounded up for each day: no batch has rows of two days.
    steps = sum(-(-len(day) // cfg.batch_size) for day in days)
    losses = np.zeros((steps, len(trainer.model.spec.labels)), dtype=np.float32)
    done = checkpoint.restore(trainer) if checkpoint else None
    resumed = 0 if done is None else len(done)
    if not processes.agreed(resumed):
        raise RuntimeError(
            f"Process {processes.rank()} goes on from step {resumed}, others from another one: "
            "they read different checkpoints. The lake must be the same folder on all machines."
        )
    losses[:resumed] = 0 if done is None else done
    rows_done = 0
    # A batch is looked up, and copied to a GPU, while the one before it is learned. The copier is
    # made here, where the GPU of this process is the current one.
    shares = own_shares(days, cfg.batch_size, resumed, Copier())
    for step, (name, whole, copy) in enumerate(ahead(shares)):
        rows_done += whole
        if copy is None:
            continue
        share = rate(step, steps, cfg.warmup_share, cfg.last_rate)
        losses[step] = trainer.step(*copy.wait(), share, whole)
        if progress:
            recent = losses[max(0, step + 1 - SMOOTHED_STEPS) : step + 1]
            progress(name, rows_done, rows, float(recent.sum(axis=1).mean()))
        if checkpoint and checkpoint.due(step + 1):
            checkpoint.save(trainer, losses[: step + 1])
    return losses


def own_shares(
    days: Sequence[Examples], size: int, passed: int, copier: Copier
) -> Iterator[tuple[str, int, Copy | None]]:
    """Of every batch: the name of its day, its rows, and this process's share of them.

    passed: how many of the first batches are read and passed over, which is quick.
    """
    for step, (name, batch) in enumerate(in_order(days, size)):
        rows = len(batch.labels)
        own = None if step < passed else copier.start(batch.part(processes.share(rows)))
        yield name, rows, own


class Trainer:
    """A model and its optimizers: `step` is one step of training.

    Tables of embeddings have an optimizer of their own, which touches only the rows of the batch.
    """

    def __init__(self, model: Ranker, cfg: TrainingConfig) -> None:
        self.model = model
        self.cfg = cfg
        self.compiled = fused(model) if cfg.compiled else model
        rows = sparse_tables(model)
        known = {id(table) for table in rows}
        others = [parameter for parameter in model.parameters() if id(parameter) not in known]
        # The gradient of a sharded table is already the sum over all processes.
        self.summed = others if is_sharded(model) else list(model.parameters())
        lr = cfg.learning_rate
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(others, lr=lr, fused=True)]
        if rows:
            self.optimizers.append(RowAdam(rows, lr=lr))

    def step(
        self,
        inputs: tuple[Tensor, Tensor, Tensor],
        labels_BL: Tensor,
        rate: float,
        rows: int | None = None,
    ) -> Tensor:
        """Learn from one batch; returns the loss of every label before it: (L,), on the CPU.

        rate: share of the peak learning rate. rows: of the whole batch, where these are the share
        of one process.
        """
        rows = len(labels_BL) if rows is None else rows
        # The last batch of a day is shorter: compiling for its length as well would not pay.
        network = self.compiled if rows == self.cfg.batch_size else self.model
        alone = processes.size() == 1
        reduced = self.cfg.precision == "bfloat16"
        with torch.autocast(labels_BL.device.type, torch.bfloat16, enabled=reduced):
            logits_BL = network(*inputs)
        logits_BL = logits_BL.float()
        losses_L = label_losses(
            logits_BL, labels_BL, None if alone else rows, self.cfg.negatives_kept
        )
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        losses_L.sum().backward()
        if not alone:
            losses_L = processes.sum_gradients(self.summed, losses_L.detach())
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * self.cfg.learning_rate
            optimizer.step()
        return losses_L.detach().cpu()


def fused(model: Ranker) -> Callable[..., Tensor]:
    """The model as torch.compile fuses it, without the look-ups: that has no sparse gradients."""
    for table in tables(model).values():
        table.forward = torch.compiler.disable(table.forward)  # type: ignore[method-assign]
    return torch.compile(model, dynamic=False)


def sparse_tables(model: Ranker) -> list[nn.Parameter]:
    """The weights whose gradients list only the rows that were read."""
    return [parameter for table in tables(model).values() for parameter in table.parameters()]


def common_state(model: Ranker) -> dict[str, Tensor]:
    """The part of a model's state that is the same in all processes."""
    own = {f"{name}.weight" for name in tables(model)} if is_sharded(model) else set()
    return {name: value for name, value in model.state_dict().items() if name not in own}


def in_order(days: Sequence[Examples], size: int) -> Iterator[tuple[str, Batch]]:
    """The batches of all days, each with the name of its day.

    Days with vectors are in time order, and so are days without; at every moment, the same share of
    the rows of both is done.
    """
    unknown = [day for day in days if not day.has_vectors]
    known = [day for day in days if day.has_vectors]
    # At the same share, a batch with vectors is the later one: the very last one has vectors.
    parts = heapq.merge(by_share(unknown, size), by_share(known, size), key=itemgetter(0))
    for _, name, batch in parts:
        yield name, batch


def by_share(days: list[Examples], size: int) -> Iterator[tuple[float, str, Batch]]:
    """The batches of days, each with the share of all their rows that is done after it."""
    rows = sum(len(day) for day in days)
    done = 0
    for day in days:
        for batch in day.batches(size):
            done += len(batch.labels)
            yield done / rows, day.name, batch


def predict(
    model: Ranker, day: Day, space: str, batch_size: int = 1024, threads: int = 1
) -> np.ndarray:
    """The probability of every label for every row: (n, L) float32, whatever the threads.

    space: that of the vectors which the model was trained on. threads: each scores a share of the
    rows. Raises SpaceMismatch when the day's vectors are in another one, InvalidExamples when a row
    cannot be read.
    """
    one_space({"the model": space, day.name: day.space})
    scores = np.zeros((len(day), len(model.spec.labels)), dtype=np.float32)
    shares = whole_batches(len(day), batch_size, threads)
    with reproducible(seed=0, threads=1), one_thread_each(threads) as pool:
        model = model.to(device()).eval()
        fills = [
            pool.submit(fill, scores[rows], model, day.part(rows), batch_size) for rows in shares
        ]
        for each in fills:
            each.result()
    return scores


def whole_batches(rows: int, batch_size: int, shares: int) -> list[slice]:
    """Consecutive rows in shares of about equally many batches; none without rows.

    Each begins where a batch would begin without shares, so that all batches are the same.
    """
    batches = -(-rows // batch_size)
    size = -(-batches // shares) * batch_size
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size or 1)]


def one_thread_each(threads: int) -> ThreadPoolExecutor:
    """So many threads, in each of which torch computes without further ones."""
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


def fill(scores_BL: np.ndarray, model: Ranker, rows: Day, batch_size: int) -> None:
    """Write the probabilities of these rows to an array."""
    rows.check(model.spec)
    start = 0
    with torch.inference_mode():
        for inputs, labels_BL in on_device(rows.batches(batch_size)):
            end = start + len(labels_BL)
            scores_BL[start:end] = torch.sigmoid(model(*inputs)).cpu().numpy()
            start = end


def fastest_precision() -> Precision:
    """bfloat16 on a GPU or CPU that has instructions for it, float32 elsewhere."""
    if torch.cuda.is_available():
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        cpu = torch.cpu.get_capabilities()
        has_it = cpu.get("avx512_bf16", False) or cpu.get("amx_bf16", False)
    return "bfloat16" if has_it else "float32"


def rate(step: int, steps: int, warmup_share: float, last: float = 0.0) -> float:
    """Share of the peak learning rate at a step: up linearly, then down linearly to `last`."""
    warmup = max(1, int(warmup_share * steps))
    left = (steps - step) / max(1, steps - warmup)
    return min((step + 1) / warmup, last + (1 - last) * left)


@contextmanager
def reproducible(seed: int, threads: int) -> Iterator[None]:
    """A fixed seed, thread count and choice of kernels, restored when the block ends."""
    # CUDA needs this workspace to add in the same order every time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads_before = torch.get_num_threads()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(deterministic_before)
