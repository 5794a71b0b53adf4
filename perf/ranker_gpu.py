"""Training steps of MaskNet on a GPU: samples per second, against what the card could do.

Two shapes, with the data on the device: the published heavy ranker (2117 numbers, 59 flags, 3 x 200
of embeddings, 10 labels) and the paper's network (23 fields x 10 over a table of 1.1 M rows, 3
parallel blocks of 64, 400-400-400). A step is forward, backward and Adam, on another batch each
time. First, losses and gradients of every kind are compared with float64 on a CPU, and captured
steps with plain ones. The floor is the larger of two times: counted operations over the rate of a
large matrix product, and counted bytes over the speed of a large copy, both measured here.

Needs torch, numpy and pydantic. To run:
    python -m perf.ranker_gpu [--budget SECONDS] [--tiny] [--only TEXT] [--out FILE] [--commit ID]
--tiny is a rehearsal on a CPU. Variants that no longer fit the budget are skipped.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.features import Categorical, FeatureSpec
from models.rankers import layers
from models.rankers.base import Statistics, build, kinds, read_options

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
N_BATCHES = 4  # resident batches that the steps take in turn
SECONDS = 2.0  # of measured steps per variant
SMALL = {
    "heavy_ranker": {"aggregation": 64, "block_width": 64, "hidden": 64, "tower": (32, 16)},
}


@dataclass(frozen=True)
class Shape:
    """A network and the rows that it reads, with its bar."""

    name: str
    kind: str
    options: dict
    spec: FeatureSpec
    bar: float  # samples per second
    # Elements per sample of every activation that has to reach memory, see `floor_bytes`.
    activations: int


@dataclass(frozen=True)
class Variant:
    """How steps are run."""

    shape: str
    batch: int
    precision: str = "bfloat16"  # or "float32", with TF32
    compiled: str = ""  # a mode of torch.compile, "" for none
    graph: bool = False  # the whole step captured as one CUDA graph
    aligned: bool = True  # products of the blocks with widths rounded up, as on every GPU

    @property
    def name(self) -> str:
        parts = [self.shape, str(self.batch), self.precision, self.compiled or "eager"]
        parts += ["graph"] * self.graph + ["unaligned"] * (not self.aligned)
        return " ".join(parts)


@dataclass
class Result:
    """Samples per second of a variant, or why there are none."""

    variant: str
    samples_s: float = 0.0
    step_ms: float = 0.0
    spread: float = 0.0  # (slowest − fastest) / median of five repetitions
    floor_ms: float = 0.0
    gap: float = 0.0  # step_ms / floor_ms
    met: bool | None = None
    warm_s: float = 0.0  # until the first measured step: compilation and capture
    memory_gib: float = 0.0
    error: str = ""


@dataclass
class Check:
    """The relative error of losses and gradients, and its bound; infinite where a check failed."""

    name: str
    error: float
    bound: float
    note: str = ""

    def __str__(self) -> str:
        verdict = "ok" if self.error < self.bound else "WRONG"
        return f"{verdict} {self.name}: {self.error:.1e} (bound {self.bound:.0e}) {self.note}"


@dataclass
class Report:
    device: str
    torch: str
    copy_tb_s: float = 0.0
    matmul_tflop_s: float = 0.0
    checks: list[Check] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)


# Shapes


def heavy_shape(tiny: bool) -> Shape:
    continuous, flags, width = (21, 5, 8) if tiny else (2117, 59, 200)
    names = [f"num_{i}" for i in range(continuous)] + [f"flag_{i}" for i in range(flags)]
    options = {"binary": tuple(names[continuous:]), "field_width": width}
    if tiny:
        options |= SMALL["heavy_ranker"]
    spec = FeatureSpec(
        categorical=(Categorical("hash_third", 50 if tiny else 100_000, "third"),),
        numeric=tuple(names),
        labels=tuple(f"label_{i}" for i in range(10)),
        vector_dim=width,
    )
    # x, 4 x (aggregated, masks, gated, projected, normalised), hidden, towers twice (before BN).
    per_sample = 2776 + 4 * (1024 + 2776 + 2776 + 1024 + 1024) + 2048 + 2 * 10 * (256 + 128)
    return Shape("heavy", "heavy_ranker", options, spec, 800_000, per_sample)


def paper_shape(tiny: bool) -> Shape:
    sizes = np.geomspace(4, 400 if tiny else 400_000, 23).astype(int).tolist()
    columns = [Categorical(f"hash_{i}", size, f"field_{i}") for i, size in enumerate(sizes)]
    spec = FeatureSpec(tuple(columns), (), ("label_click",), 0)
    options = {"field_width": 10, "block_width": 64, "hidden": (400, 400, 400), "ratio": 2.0}
    # e and LN(e), 3 x (aggregated, masks, gated, projected, normalised), three hidden layers.
    per_sample = 2 * 230 + 3 * (460 + 230 + 230 + 64 + 64) + 3 * 400
    return Shape("paper", "masknet", options, spec, 10_000_000, per_sample)


def variants(tiny: bool) -> list[Variant]:
    """The most promising first: the budget may end early."""
    if tiny:
        return [
            Variant("heavy", 64),
            Variant("paper", 64, "float32"),
            Variant("paper", 64, compiled="default"),
        ]
    return [
        Variant("heavy", 16384, compiled="default", graph=True),
        Variant("paper", 65536, compiled="default", graph=True),
        Variant("paper", 65536, compiled="default", graph=True, aligned=False),
        Variant("heavy", 32768, compiled="default", graph=True),
        Variant("paper", 262144, compiled="default", graph=True),
        Variant("heavy", 16384, graph=True),
        Variant("paper", 65536, graph=True),
        Variant("paper", 4096, compiled="default", graph=True),
        Variant("heavy", 4096, compiled="default", graph=True),
        Variant("heavy", 16384),
        Variant("paper", 65536),
        Variant("paper", 65536, aligned=False),
        Variant("heavy", 16384, "float32"),
        Variant("paper", 65536, "float32"),
    ]


def random_batches(spec: FeatureSpec, size: int, count: int, seed: int) -> list[list[Tensor]]:
    """Categories (popular ones first), numbers with 1 % unknown, vectors and labels."""
    rng = torch.Generator(DEVICE).manual_seed(seed)
    buckets = torch.tensor([column.buckets for column in spec.categorical], device=DEVICE)
    batches = []
    for _ in range(count):
        drawn = torch.rand(size, len(buckets), generator=rng, device=DEVICE)
        numbers = torch.randn(size, len(spec.numeric), generator=rng, device=DEVICE)
        unknown = torch.rand(numbers.shape, generator=rng, device=DEVICE) < 0.01
        numbers[unknown] = torch.nan
        flags = [name.startswith("flag") for name in spec.numeric]
        if any(flags):
            columns = torch.tensor(flags, device=DEVICE).nonzero()[:, 0]
            numbers[:, columns] = (numbers[:, columns].nan_to_num() > 0).float()
        vectors = torch.randn(size, 2, spec.vector_dim, generator=rng, device=DEVICE)
        labels = torch.rand(size, len(spec.labels), generator=rng, device=DEVICE) < 0.1
        categories = (drawn.square() * buckets).long()
        batches.append([categories, numbers, vectors, labels.float()])
    return batches


def fresh_model(shape: Shape) -> nn.Module:
    """The network with gradients of whole tables, which take no sorting on a GPU."""
    torch.manual_seed(0)
    model = build(shape.kind, shape.spec, read_options(shape.kind, shape.options))
    n = len(shape.spec.numeric)
    odds = np.full(len(shape.spec.labels), np.log(0.1 / 0.9))
    model.initialise(Statistics(np.zeros(n), np.ones(n), np.zeros(n), np.full(n, 0.6), odds))
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = False
    return model.to(DEVICE).train()


# Steps


class Steps:
    """Training steps of a model, run as a variant says."""

    def __init__(self, model: nn.Module, variant: Variant, batches: list[list[Tensor]]) -> None:
        self.model = model
        self.batches = batches
        self.reduced = variant.precision == "bfloat16"
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=1e-3, fused=True, capturable=variant.graph
        )
        self.loss_of = self.loss
        if variant.compiled:
            mode = None if variant.compiled == "default" else variant.compiled
            self.loss_of = torch.compile(self.loss, mode=mode, dynamic=False)
        self.inputs = [tensor.clone() for tensor in batches[0]]
        self.turn = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        if variant.graph and CUDA:
            self.capture()

    def loss(self, categories: Tensor, numbers: Tensor, vectors: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(DEVICE.type, torch.bfloat16, self.reduced, cache_enabled=False):
            logits = self.model(categories, numbers, vectors)
        return F.binary_cross_entropy_with_logits(logits.float(), labels)

    def compute(self) -> Tensor:
        """One step on `self.inputs`; returns its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_of(*self.inputs)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def capture(self) -> None:
        """Record a step. The warm-up does not count: weights and moments are restored."""
        weights = copy.deepcopy(self.model.state_dict())
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.compute()
        torch.cuda.current_stream().wait_stream(side)
        self.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.static_loss = self.compute()
        self.model.load_state_dict(weights)
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()

    def step(self) -> Tensor:
        """One step on the next batch, which is copied to where the network reads it."""
        for target, source in zip(self.inputs, self.batches[self.turn], strict=True):
            target.copy_(source)
        self.turn = (self.turn + 1) % len(self.batches)
        if self.graph is None:
            return self.compute()
        self.graph.replay()
        return self.static_loss


def measure(shape: Shape, variant: Variant, report: Report) -> Result:
    started = time.perf_counter()
    batches = random_batches(shape.spec, variant.batch, N_BATCHES, seed=1)
    layers.ALIGNMENT = 8 if variant.aligned else 1
    model = fresh_model(shape)
    steps = Steps(model, variant, batches)
    for _ in range(3):
        steps.step()
    synchronize()
    result = Result(variant.name, warm_s=time.perf_counter() - started)
    one_s = timed(steps.step, 2)
    repetitions = max(1, int(SECONDS / 5 / one_s))
    times = sorted(timed(steps.step, repetitions) for _ in range(5))
    step_s = statistics.median(times)
    result.samples_s = variant.batch / step_s
    result.step_ms = 1e3 * step_s
    result.spread = (times[-1] - times[0]) / step_s
    result.floor_ms = 1e3 * floor_s(shape, variant, model, report)
    result.gap = result.step_ms / result.floor_ms
    result.met = result.samples_s >= shape.bar
    if CUDA:
        result.memory_gib = torch.cuda.max_memory_allocated() / 2**30
    return result


def timed(work: Callable[[], object], times: int) -> float:
    """Mean seconds of a call, with the device finished at both ends."""
    synchronize()
    started = time.perf_counter()
    for _ in range(times):
        work()
    synchronize()
    return (time.perf_counter() - started) / times


def synchronize() -> None:
    if CUDA:
        torch.cuda.synchronize()


# The floor


def floor_s(shape: Shape, variant: Variant, model: nn.Module, report: Report) -> float:
    """The larger of the times that the counted operations and the counted bytes take at least."""
    operations = 6 * multiplied_weights(model) * variant.batch
    seconds_of_operations = operations / (report.matmul_tflop_s * 1e12)
    return max(
        seconds_of_operations, floor_bytes(shape, variant, model) / (report.copy_tb_s * 1e12)
    )


def multiplied_weights(model: nn.Module) -> int:
    """Weights of matrix products: each costs two operations forward and four backward a sample."""
    tables = [id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)]
    return sum(
        p.numel()
        for p in model.parameters()
        if p.ndim > 1 and 1 not in p.shape[:-1] and id(p) not in tables
    )


def floor_bytes(shape: Shape, variant: Variant, model: nn.Module) -> int:
    """Inputs read once; activations written, read forward, read backward; their gradients written
    and read; weights and two moments read and written in float32, gradients written and read.
    """
    width = 2 if variant.precision == "bfloat16" else 4
    activations = 5 * width * shape.activations
    inputs = 8 * len(shape.spec.categorical) + 4 * len(shape.spec.numeric)
    inputs += 4 * (2 * shape.spec.vector_dim + len(shape.spec.labels))
    per_weight = 4 * (3 + 3 + 2)
    weights = sum(parameter.numel() for parameter in model.parameters())
    return variant.batch * (activations + inputs) + per_weight * weights


def ceilings(report: Report, tiny: bool) -> None:
    """What a large copy and a large product of random bfloat16 matrices reach here."""
    n = 512 if tiny else 8192
    a, b = torch.randn(2, n, n, device=DEVICE, dtype=torch.bfloat16)
    for _ in range(3):
        a @ b
    report.matmul_tflop_s = 2 * n**3 / timed(lambda: a @ b, 10) / 1e12
    source = torch.randn(2**20 if tiny else 2**30, device=DEVICE)
    target = torch.empty_like(source)
    target.copy_(source)
    report.copy_tb_s = 2 * source.nbytes / timed(lambda: target.copy_(source), 10) / 1e12


# Correctness


def check_kinds(report: Report) -> None:
    """Loss and gradients of every kind, here in float32 and bfloat16, and in float64 on a CPU."""
    # Several numbers: a layer norm over two is nearly a step function.
    names = tuple(f"num_{i}" for i in range(8))
    columns = (Categorical("hash_a", 40, "a"), Categorical("hash_b", 7, "b"))
    spec = FeatureSpec((*columns, Categorical("hash_c", 9, "b")), names, ("label_1", "label_2"), 6)
    batch = random_batches(spec, 256, 1, seed=3)[0]
    for kind in kinds():
        shape = Shape(kind, kind, SMALL.get(kind, {}), spec, 0, 0)
        model = fresh_model(shape)
        # As if trained: vectors enter through zeros at first.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        exact = copy.deepcopy(model).cpu().double()
        expected = losses_and_gradients(exact, [as_exact(tensor) for tensor in batch], False)
        for reduced, bound in ((False, 1e-4), (True, 2e-1)):
            found = losses_and_gradients(copy.deepcopy(model), batch, reduced)
            precision = "bfloat16" if reduced else "float32"
            error = relative_error(found, expected)
            report.checks.append(Check(f"{kind}, {precision} here less float64", error, bound))


def as_exact(tensor: Tensor) -> Tensor:
    tensor = tensor.cpu()
    return tensor.double() if tensor.is_floating_point() else tensor


def losses_and_gradients(model: nn.Module, batch: list[Tensor], reduced: bool) -> Tensor:
    """All gradients behind each other, and the loss, in float64 on the CPU."""
    *inputs, labels = batch
    device = inputs[0].device.type
    with torch.autocast(device, torch.bfloat16, enabled=reduced):
        logits = model(*inputs)
    loss = F.binary_cross_entropy_with_logits(logits.to(labels.dtype), labels)
    loss.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat([*gradients, loss.detach()[None]]).cpu().double()


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def check_steps(shapes: dict[str, Shape], report: Report, tiny: bool) -> None:
    """Losses of some steps, compiled, captured and aligned, against those of plain ones."""
    batch = 64 if tiny else 512
    for shape in shapes.values():
        batches = random_batches(shape.spec, batch, N_BATCHES, seed=5)
        plain = Variant(shape.name, batch, aligned=False)
        faster = Variant(shape.name, batch, compiled="" if tiny else "default", graph=CUDA)
        losses = []
        for variant in (plain, faster):
            layers.ALIGNMENT = 8 if variant.aligned else 1
            steps = Steps(fresh_model(shape), variant, batches)
            losses.append(torch.stack([steps.step().clone() for _ in range(8)]).cpu())
        error = relative_error(losses[1], losses[0])
        note = f"the loss falls by {float(losses[1][0] - losses[1][-1]):.4f}"
        name = f"8 steps of {shape.name}, captured less plain"
        report.checks.append(Check(name, error, 1e-2, note))


# The run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=float, default=420, help="seconds in total")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", default="", help="variants whose names contain this")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")) / "gpu.json")
    parser.add_argument("--commit", default="", help="of this code, to be written down")
    options = parser.parse_args()
    started = time.perf_counter()
    name = torch.cuda.get_device_name() if CUDA else "CPU"
    report = Report(name, torch.__version__)
    shapes = {shape.name: shape for shape in (heavy_shape(options.tiny), paper_shape(options.tiny))}
    ceilings(report, options.tiny)
    print(f"{name}: {report.matmul_tflop_s:.0f} TFLOP/s, {report.copy_tb_s:.2f} TB/s", flush=True)
    attempt(lambda: check_kinds(report), report, "check of kinds")
    attempt(lambda: check_steps(shapes, report, options.tiny), report, "check of steps")
    print(
        "\n".join(map(str, report.checks)), f"\n{time.perf_counter() - started:.0f} s", flush=True
    )
    if CUDA:
        torch.set_float32_matmul_precision("high")  # TF32, for the variants in float32
    for variant in variants(options.tiny):
        if options.only not in variant.name:
            continue
        if time.perf_counter() - started > options.budget:
            print(f"{variant.name}: skipped, the budget is spent", flush=True)
            continue
        run(shapes[variant.shape], variant, report)
        content = document(report, {s.name: s.bar for s in shapes.values()}, options.commit)
        options.out.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{time.perf_counter() - started:.0f} s in all; written to {options.out}")


def document(report: Report, bars: dict[str, float], commit: str) -> dict:
    """The result file as `perf.report` writes it, which needs more than a GPU's machine may have.

    The peer of a speed is the floor. bars: shape -> samples per second.
    """
    rows = [
        figure("copy", report.copy_tb_s, "TB/s"),
        figure("product of bfloat16 matrices", report.matmul_tflop_s, "TFLOP/s"),
    ]
    for check in report.checks:
        row = figure(check.name, check.error, "relative", bar=check.bound)
        rows.append(row | {"at_most": True, "met": check.error < check.bound})
    for result in report.results:
        if result.error:
            continue
        shape, batch = result.variant.split()[:2]
        floor = 1e3 * int(batch) / result.floor_ms
        row = figure(result.variant, result.samples_s, "samples/s", "the floor", floor, bars[shape])
        rows.append(row | {"met": result.samples_s >= bars[shape]})
    return {
        "command": " ".join(["python", "-m", "perf.ranker_gpu", *sys.argv[1:]]),
        "commit": commit,
        "machine": f"one {report.device}, torch {report.torch}",
        "seed": 0,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "figures": rows,
    }


def figure(
    name: str,
    value: float,
    unit: str,
    peer: str = "",
    peer_value: float | None = None,
    bar: float | None = None,
) -> dict:
    """A row as that of `perf.report.Figure`; its bar is a lower one, and not judged yet."""
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "peer": peer,
        "peer_value": peer_value,
        "bar": bar,
        "at_most": False,
        "bar_on_ratio": False,
        "ratio": value / peer_value if peer_value else None,
        "met": None,
    }


def attempt(work: Callable[[], None], report: Report, name: str) -> None:
    """A fault in one part should not cost the rest of the lease."""
    try:
        work()
    except Exception as error:
        traceback.print_exc()
        note = f"{type(error).__name__}: {error}"[:300]
        report.checks.append(Check(name, float("inf"), 0.0, note))


def run(shape: Shape, variant: Variant, report: Report) -> None:
    """Measure one variant and print its line."""
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    torch.compiler.reset()
    try:
        result = measure(shape, variant, report)
    except Exception as error:
        traceback.print_exc()
        result = Result(variant.name, error=f"{type(error).__name__}: {error}"[:300])
    report.results.append(result)
    print(
        f"{result.variant:62s} {result.samples_s:12,.0f}/s {result.step_ms:8.3f} ms"
        f" ±{result.spread:.1%} floor {result.floor_ms:7.3f} ms gap {result.gap:5.2f}"
        f" warm {result.warm_s:4.0f} s {result.memory_gib:5.1f} GiB"
        f" {'bar met' if result.met else 'bar missed'} {result.error[:120]}",
        flush=True,
    )


if __name__ == "__main__":
    main()
