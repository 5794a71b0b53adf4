"""Layers that several rankers share.

Shapes: B batch, n parallel maps, I input, O output, F fields, K width of a field, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import processes

ALIGNMENT = 8  # numbers; bfloat16 rows of a multiple of 16 bytes take the fast kernels of a GPU


class Stacked(nn.Module):
    """n linear maps as one batched product: (n, B, I) -> (n, B, O).

    Each starts as `nn.Linear` does: uniform within ±1/√I.
    """

    def __init__(self, count: int, in_width: int, out_width: int, bias: bool = True) -> None:
        super().__init__()
        bound = in_width**-0.5
        weight = torch.empty(count, in_width, out_width)
        self.weight = nn.Parameter(nn.init.uniform_(weight, -bound, bound))
        self.bias: nn.Parameter | None = None
        if bias:
            shift = torch.empty(count, 1, out_width)
            self.bias = nn.Parameter(nn.init.uniform_(shift, -bound, bound))

    def forward(self, x_nBI: Tensor) -> Tensor:
        if x_nBI.is_cuda:
            return self.aligned(x_nBI)
        return product(x_nBI, self.weight, self.bias)

    def aligned(self, x_nBI: Tensor) -> Tensor:
        """The same, computed with all widths rounded up to multiples of ALIGNMENT."""
        weight = padded(padded(self.weight, 1), 2)
        bias = None if self.bias is None else padded(self.bias, 2)
        return product(padded(x_nBI, 2), weight, bias)[:, :, : self.weight.shape[2]]


def product(x_nBI: Tensor, weight_nIO: Tensor, bias_n1O: Tensor | None) -> Tensor:
    """x W + b for each of n: (n, B, O)."""
    if bias_n1O is None:
        return torch.bmm(x_nBI, weight_nIO)
    # In one call: inductor takes twice as long for a product and a sum on a CPU.
    return torch.baddbmm(bias_n1O, x_nBI, weight_nIO)


def padded(x: Tensor, axis: int) -> Tensor:
    """x with zeros behind it along an axis, up to a multiple of ALIGNMENT."""
    missing = -x.shape[axis] % ALIGNMENT
    if not missing:
        return x
    return F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [0, missing])


class StackedNorm(nn.Module):
    """A layer norm over the last axis, with several scales and shifts of the given shape."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(shape))
        self.shift = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:]) * self.scale + self.shift


class BatchNorm(nn.BatchNorm1d):
    """A batch norm that takes the averages for a training batch of one row, whose variance is 0."""

    def start(self, mean: Tensor, variance: Tensor) -> None:
        """Begin with these averages."""
        assert self.running_mean is not None, "built with averages"
        assert self.running_var is not None, "built with averages"
        self.running_mean.copy_(mean)
        self.running_var.copy_(variance)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and processes.size() > 1:
            return self.of_all_processes(x)
        if self.training and len(x) > 1:
            return super().forward(x)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )

    def of_all_processes(self, x: Tensor) -> Tensor:
        """The same, of a batch whose rows are spread over processes (SyncBatchNorm needs GPUs)."""
        assert self.running_mean is not None, "built with averages"
        assert self.running_var is not None, "built with averages"
        assert self.num_batches_tracked is not None, "built with averages"
        assert self.momentum is not None, "built with one"
        if x.dtype == torch.bfloat16:
            x = x.float()  # sums would lose too much
        rows = processes.total(x.new_tensor(len(x)))
        mean, variance = self.running_mean, self.running_var
        if rows > 1:
            mean = processes.total(x.sum(dim=0)) / rows
            variance = processes.total((x - mean).square().sum(dim=0)) / rows
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * rows / (rows - 1), self.momentum)
                self.num_batches_tracked.add_(1)
        scaled = (x - mean) * torch.rsqrt(variance + self.eps)
        return scaled * self.weight + self.bias if self.affine else scaled


class PairProducts(nn.Module):
    """Σ_{i<j} Σ_k a_lk v_ik v_jk of all pairs of fields, for every label l: (B, F, K) -> (B, L)."""

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.scale_LK = nn.Parameter(torch.ones(labels, width))

    def forward(self, v_BFK: Tensor) -> Tensor:
        # The square of the sum has every pair twice, and the squares: F products instead of F².
        twice_BK = v_BFK.sum(dim=1).square() - v_BFK.square().sum(dim=1)
        return twice_BK / 2 @ self.scale_LK.T


def perceptron(widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers between these widths, the input's first, each followed by ReLU and dropout.

    With one width alone it passes its input on.
    """
    layers: list[nn.Module] = []
    for in_width, out_width in pairwise(widths):
        layers += [nn.Linear(in_width, out_width), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)
