"""The published heavy ranker: its size, and its equation row by row in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from models.features import Categorical, FeatureSpec
from models.rankers.base import RankerError, Statistics
from models.rankers.heavy_ranker import HeavyRanker, Options
from models.rankers.layers import BatchNorm

SPEC = FeatureSpec(
    categorical=(Categorical("hash_item", 7, "item"), Categorical("hash_tag", 5, "tag")),
    numeric=("num_x", "flag_y", "num_z"),
    labels=("label_click", "label_like"),
    vector_dim=4,
)
OPTIONS = Options(
    binary=("flag_y",),
    field_width=6,
    blocks=2,
    aggregation=5,
    block_width=7,
    hidden=8,
    tower=(6, 3),
)


@pytest.fixture
def model() -> HeavyRanker:
    """As if trained: fresh norms and biases are ones and zeros, and would hide a mistake."""
    torch.manual_seed(4)
    model = HeavyRanker(SPEC, OPTIONS).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    for module in model.modules():
        if isinstance(module, BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def inputs(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    columns = [torch.randint(c.buckets, (n,), generator=rng) for c in SPEC.categorical]
    numbers = torch.randn(n, 3, generator=rng).double() * 30
    numbers[:, 1] = (numbers[:, 1] > 0).double()
    return torch.stack(columns, dim=1), numbers, torch.randn(n, 2, 4, generator=rng).double()


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def norm(x: np.ndarray, scale: torch.Tensor, shift: torch.Tensor) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * array(scale) + array(shift)


def batch_norm(layer: BatchNorm, x: np.ndarray) -> np.ndarray:
    standard = (x - array(layer.running_mean)) / np.sqrt(array(layer.running_var) + 1e-5)
    return standard if layer.weight is None else standard * array(layer.weight) + array(layer.bias)


def slow_inputs(model: HeavyRanker, c: np.ndarray, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Numbers, then flags, with one layer norm; every embedding with its own."""
    logs = np.sign(x[[0, 2]]) * np.log(1 + np.abs(x[[0, 2]]))
    scaled = np.clip(batch_norm(model.batch_norm, logs), -5, 5)
    numbers = np.append(scaled, x[1])
    table = array(model.fields.table.weight)
    parts = [norm(numbers, model.number_norm.weight, model.number_norm.bias)]
    embeddings = [table[c[0]], table[7 + c[1]], v[0], v[1]]
    scales = [*model.field_norms.scale, *model.vector_norms.scale]
    shifts = [*model.field_norms.shift, *model.vector_norms.shift]
    for embedding, scale, shift in zip(embeddings, scales, shifts, strict=True):
        parts.append(norm(embedding, scale, shift))
    return np.concatenate(parts)


def slow_logits(model: HeavyRanker, d: np.ndarray) -> np.ndarray:
    """Blocks, the shared layer, and one tower per label."""
    blocks = model.blocks

    def stacked(layer: nn.Module, i: int, x: np.ndarray) -> np.ndarray:
        return x @ array(layer.weight[i]) + array(layer.bias[i, 0])

    outputs = []
    for i in range(2):
        mask = stacked(blocks.mask, i, np.maximum(stacked(blocks.aggregate, i, d), 0))
        projected = stacked(blocks.project, i, d * mask)
        outputs.append(norm(projected, blocks.norm.scale[i, 0], blocks.norm.shift[i, 0]))
    shared = array(model.hidden.weight) @ np.concatenate(outputs) + array(model.hidden.bias)
    towers = model.towers
    first = array(towers.first.weight) @ np.maximum(shared, 0) + array(towers.first.bias)
    first = np.maximum(batch_norm(towers.first_norm, first), 0).reshape(2, 6)
    second = np.concatenate([stacked(towers.second, i, first[i]) for i in range(2)])
    second = np.maximum(batch_norm(towers.second_norm, second), 0).reshape(2, 3)
    return np.concatenate([stacked(towers.last, i, second[i]) for i in range(2)])


def test_the_published_shape_has_its_number_of_parameters():
    """2117 numbers, 59 flags and 3 x 200 of embeddings, for 10 labels: 48.1 million."""
    flags = [f"flag_{i}" for i in range(59)]
    spec = FeatureSpec(
        categorical=(Categorical("hash_third", 1, "third"),),  # the third of the embeddings
        numeric=(*[f"num_{i}" for i in range(2117)], *flags),
        labels=tuple(f"label_{i}" for i in range(10)),
        vector_dim=200,
    )
    with torch.device("meta"):  # shapes alone: no memory, no random numbers
        model = HeavyRanker(spec, Options(binary=tuple(flags), field_width=200))
    parameters = sum(p.numel() for p in model.parameters()) - model.fields.table.weight.numel()
    d = 2117 + 59 + 3 * 200
    inputs_of_blocks = 2 * 2117 + 2 * (2117 + 59) + 2 * 3 * 200
    block = (d * 1024 + 1024) + (1024 * d + d) + (d * 1024 + 1024) + 2 * 1024
    tower = (2048 * 256 + 256) + (256 * 128 + 128) + (128 + 1)
    by_hand = inputs_of_blocks + 4 * block + (4 * 1024 * 2048 + 2048) + 10 * tower
    assert parameters == by_hand
    assert round(parameters / 1e6, 1) == 48.1


def test_the_network_is_the_published_one(model):
    """A slow loop over rows, blocks and towers gives the same logits."""
    categories, numbers, vectors = inputs(5)
    slow = []
    for c, x, v in zip(array(categories), array(numbers), array(vectors), strict=True):
        slow.append(slow_logits(model, slow_inputs(model, c, x, v)))
    logits = array(model(categories, numbers, vectors))
    assert np.ptp(logits, axis=0).min() > 1e-3  # the rows differ
    np.testing.assert_allclose(logits, slow, atol=1e-9)


def test_it_starts_at_the_statistics_of_the_rows():
    """Batch norm: the columns' own moments. Towers: the log odds, with everything else silent."""
    model = HeavyRanker(SPEC, OPTIONS).eval()
    odds = np.array([-1.0, -4.0])
    model.initialise(
        Statistics(np.ones(3), np.ones(3), np.array([1.0, 2, 3]), np.array([0.5, 1, 2]), odds)
    )
    assert model.batch_norm.running_mean.tolist() == [1, 3]
    assert model.batch_norm.running_var.tolist() == [0.25, 4]
    nn.init.zeros_(model.towers.last.weight)
    categories, numbers, vectors = inputs(3)
    logits = model(categories, numbers.float(), vectors.float())
    np.testing.assert_allclose(array(logits), np.tile(odds, (3, 1)), rtol=1e-6)


def test_a_training_batch_of_one_row_uses_the_averages(model):
    """The variance of one row is 0; PyTorch's own batch norm refuses it."""
    model.train()
    row = inputs(1)
    torch.testing.assert_close(model(*row), model.eval()(*row))


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_an_all_equal_row_has_finite_scores_and_gradients(value):
    """With the published epsilon of 0, its layer norm would be 0 / 0."""
    model = HeavyRanker(SPEC, OPTIONS)
    equal = (torch.full((4, 3), value), torch.full((4, 2, 4), value))
    logits = model(torch.zeros(4, 2).long(), *equal)
    logits.sum().backward()
    assert logits.isfinite().all()
    for parameter in model.parameters():
        assert parameter.grad is None or parameter.grad.to_dense().isfinite().all()


def test_a_flag_that_is_no_column_is_named():
    with pytest.raises(RankerError, match=r"no numeric columns \['flag_q'\].*num_x, flag_y, num_z"):
        HeavyRanker(SPEC, OPTIONS.model_copy(update={"binary": ("flag_q",)}))
