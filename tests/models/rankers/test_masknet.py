"""The network against the paper's equations, row by row in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.features import Categorical, FeatureSpec
from models.rankers.base import Statistics
from models.rankers.masknet import MaskBlock, MaskNet, Options

SPEC = FeatureSpec(
    categorical=(
        Categorical("hash_item", 7, "item"),
        Categorical("hash_a", 3, "profile"),
        Categorical("hash_b", 5, "profile"),
    ),
    numeric=("num_x", "num_y"),
    labels=("label_click", "label_like"),
    vector_dim=4,
)
OPTIONS = Options(field_width=6, number_fields=2, blocks=3, block_width=5, hidden=(8,))


def inputs(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    categories = torch.stack(
        [torch.randint(c.buckets, (n,), generator=rng) for c in SPEC.categorical], dim=1
    )
    return categories, torch.randn(n, 2, generator=rng), torch.randn(n, 2, 4, generator=rng)


@pytest.fixture
def model() -> MaskNet:
    torch.manual_seed(1)
    model = MaskNet(SPEC, OPTIONS).eval()
    # As if trained: fresh norms and projections are ones and zeros, and would hide a mistake.
    projections = (model.fields.consumer, model.fields.producer, model.fields.product)
    drawn = [projection.weight for projection in projections]
    for parameter in (model.norms.scale_FK, model.norms.shift_FK, *drawn):
        torch.nn.init.normal_(parameter)
    return model


def layer_norm(x: np.ndarray, scale: torch.Tensor, shift: torch.Tensor) -> np.ndarray:
    standardised = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return standardised * scale.detach().numpy() + shift.detach().numpy()


def linear(x: np.ndarray, layer: torch.nn.Linear) -> np.ndarray:
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()
    return layer.weight.detach().numpy() @ x + bias


def slow_block(block: MaskBlock, x: np.ndarray, e: np.ndarray) -> np.ndarray:
    """One row through one block, as the paper writes it."""
    aggregated = np.maximum(linear(e, block.mask[0]), 0)
    mask = linear(aggregated, block.mask[2])
    projected = linear(x * mask, block.project)
    return np.maximum(layer_norm(projected, block.norm.weight, block.norm.bias), 0)


def slow_fields(model: MaskNet, c: np.ndarray, x: np.ndarray, v: np.ndarray) -> list[np.ndarray]:
    """The fields of one row: item, profile (a sum), two of numbers, consumer, producer, product."""
    layer = model.fields
    table = layer.table.weight.detach().numpy()
    u, p = (2 * w / np.linalg.norm(w) for w in v)  # 2 = √4, the length of a vector
    return [
        table[c[0]],
        table[7 + c[1]] + table[10 + c[2]],
        *linear(x, layer.numbers).reshape(2, 6),
        linear(u, layer.consumer),
        linear(p, layer.producer),
        linear(u * p, layer.product),
    ]


def test_a_block_is_the_papers_equation():
    """Mask, gate, project, normalise, rectify: row by row, the same numbers."""
    torch.manual_seed(0)
    block = MaskBlock(embed_width=9, in_width=6, out_width=4, ratio=2.0).eval()
    x = torch.randn(5, 6)
    e = torch.randn(5, 9)
    slow = []
    for row_x, row_e in zip(x.numpy(), e.numpy(), strict=True):
        slow.append(slow_block(block, row_x, row_e))
    np.testing.assert_allclose(block(x, e).detach().numpy(), slow, atol=1e-5)


def test_the_aggregation_layer_is_twice_as_wide_as_the_projection():
    """Ratio 2: P1 is (2D, E), P2 is (D, 2D)."""
    block = MaskBlock(embed_width=9, in_width=6, out_width=4, ratio=2.0)
    assert [tuple(p.shape) for p in block.mask.parameters()] == [(12, 9), (12,), (6, 12), (6,)]


def test_the_whole_network_is_its_parts_side_by_side(model):
    """A slow loop over rows, fields and blocks gives the same logits."""
    categories, numbers, vectors = inputs(4)
    slow = []
    for c, x, v in zip(categories.numpy(), numbers.numpy(), vectors.numpy(), strict=True):
        fields = slow_fields(model, c, x, v)
        normed = []
        for field, scale, shift in zip(
            fields, model.norms.scale_FK, model.norms.shift_FK, strict=True
        ):
            normed.append(layer_norm(field, scale, shift))
        x_D = np.concatenate(normed)
        e_E = np.concatenate(fields)
        h_H = np.concatenate([slow_block(block, x_D, e_E) for block in model.blocks])
        slow.append(linear(np.maximum(linear(h_H, model.hidden[0]), 0), model.heads))
    logits = model(categories, numbers, vectors).detach().numpy()
    np.testing.assert_allclose(logits, slow, atol=1e-5)


def test_the_mask_depends_on_the_example(model):
    """Instance-guided: two examples gate their features differently, one always the same way."""
    fields = model.fields(*inputs(2)).flatten(1)
    first, second = model.blocks[0].mask(fields)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(first, model.blocks[0].mask(fields)[0])


def test_blocks_are_independent(model):
    """Three blocks read the same fields, each with its own weights."""
    assert len(model.blocks) == 3
    fields = model.fields(*inputs(2)).flatten(1)
    outputs = [block(fields, fields) for block in model.blocks]
    assert not torch.allclose(outputs[0], outputs[1])


def test_a_missing_vector_is_replaced_by_the_learned_one(model):
    """Vectors of zeros give the same fields as the learned stand-ins."""
    with torch.no_grad():
        model.fields.unknown.copy_(torch.randn(2, 4))
    categories, numbers, _ = inputs(3)
    unknown = torch.zeros(3, 2, 4)
    u, p = model.fields.unknown
    fields = model.fields(categories, numbers, unknown)
    torch.testing.assert_close(fields[:, -3], model.fields.consumer(u).expand(3, -1))
    torch.testing.assert_close(fields[:, -1], model.fields.product(u * p).expand(3, -1))


def test_vectors_change_nothing_until_something_is_learned_about_them():
    """What was learned on days without vectors holds when the first vectors arrive."""
    fresh = MaskNet(SPEC, OPTIONS).eval()
    categories, numbers, vectors = inputs(5)
    scores = fresh(categories, numbers, vectors)
    torch.testing.assert_close(scores, fresh(categories, numbers, torch.zeros(5, 2, 4)))
    scores.sum().backward()
    assert fresh.fields.product.weight.grad.any()


def test_an_unknown_number_counts_as_the_mean(model):
    """NaN scores like the mean of its column, and another number does not."""
    model.initialise(Statistics(np.array([3.0, -1.0]), np.array([2.0, 5.0]), np.zeros(2)))
    categories, _, vectors = inputs(2)

    def logits(x: float, y: float) -> torch.Tensor:
        return model(categories, torch.tensor([[x, y]] * 2), vectors)

    unknown = logits(torch.nan, torch.nan)
    torch.testing.assert_close(unknown, logits(3.0, -1.0))
    assert not torch.allclose(unknown, logits(4.0, -1.0))


def test_every_head_starts_at_the_odds_of_its_label(model):
    """With everything else silent, the first prediction is the rate of each label."""
    rates = np.array([0.3, 0.02])
    model.initialise(Statistics(np.zeros(2), np.ones(2), np.log(rates / (1 - rates))))
    torch.nn.init.zeros_(model.heads.weight)
    probabilities = torch.sigmoid(model(*inputs(3))).detach().numpy()
    np.testing.assert_allclose(probabilities, np.tile(rates, (3, 1)), rtol=1e-5)


def test_every_weight_is_learned(model):
    """Every parameter has a gradient that is not zero, once some vectors are missing."""
    categories, numbers, vectors = inputs(64)
    vectors[:8] = 0
    model(categories, numbers, vectors).sum().backward()
    idle = []
    for name, parameter in model.named_parameters():
        if parameter.grad is None or not parameter.grad.any():
            idle.append(name)
    assert idle == []


def test_a_weight_that_no_row_uses_has_no_gradient(model):
    """The check above can fail: without missing vectors, their stand-ins learn nothing."""
    model(*inputs(64)).sum().backward()
    assert not model.fields.unknown.grad.any()
