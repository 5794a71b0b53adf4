"""The network against the paper's equations, row by row in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.features import Categorical, FeatureSpec
from models.rankers.masknet import MaskBlock, MaskNet, MaskNetConfig

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
NET = MaskNetConfig(field_width=6, number_fields=2, blocks=3, block_width=5, hidden=(8,))


def inputs(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    categories = torch.stack(
        [torch.randint(c.buckets, (n,), generator=rng) for c in SPEC.categorical], dim=1
    )
    return categories, torch.randn(n, 2, generator=rng), torch.randn(n, 2, 4, generator=rng)


@pytest.fixture
def model() -> MaskNet:
    torch.manual_seed(1)
    model = MaskNet(SPEC, NET).eval()
    for parameter in (model.norms.scale_FK, model.norms.shift_FK):
        torch.nn.init.normal_(parameter)  # as if trained: fresh ones are all ones and zeros
    return model


def layer_norm(x: np.ndarray, scale: torch.Tensor, shift: torch.Tensor) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(
        x.var() + 1e-5
    ) * scale.detach().numpy() + shift.detach().numpy()


def linear(x: np.ndarray, layer: torch.nn.Linear) -> np.ndarray:
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()
    return layer.weight.detach().numpy() @ x + bias


def slow_block(block: MaskBlock, x: np.ndarray, e: np.ndarray) -> np.ndarray:
    """One row through one block, as the paper writes it."""
    aggregated = np.maximum(linear(e, block.mask[0]), 0)
    mask = linear(aggregated, block.mask[2])
    return np.maximum(
        layer_norm(linear(x * mask, block.project), block.norm.weight, block.norm.bias), 0
    )


def test_a_block_is_the_papers_equation():
    """Mask, gate, project, normalise, rectify: row by row, the same numbers."""
    torch.manual_seed(0)
    block = MaskBlock(embed_width=9, in_width=6, out_width=4, ratio=2.0).eval()
    x, e = torch.randn(5, 6), torch.randn(5, 9)
    slow = np.stack([slow_block(block, a, b) for a, b in zip(x.numpy(), e.numpy(), strict=True)])
    np.testing.assert_allclose(block(x, e).detach().numpy(), slow, atol=1e-5)


def test_the_aggregation_layer_is_twice_as_wide_as_the_projection():
    """Ratio 2: P1 is (2D, E), P2 is (D, 2D)."""
    block = MaskBlock(embed_width=9, in_width=6, out_width=4, ratio=2.0)
    assert [tuple(p.shape) for p in block.mask.parameters()] == [(12, 9), (12,), (6, 12), (6,)]


def test_the_whole_network_is_its_parts_side_by_side(model):
    """Every field by hand, normalised on its own, through each block, then the layers: the same logits."""
    categories, numbers, vectors = inputs(4)
    f = model.fields
    table = f.table.weight.detach().numpy()
    slow = []
    for c, x, v in zip(categories.numpy(), numbers.numpy(), vectors.numpy(), strict=True):
        numeric = linear(x, f.numbers).reshape(2, 6)
        u, p = (2 * w / np.linalg.norm(w) for w in v)  # 2 = √4
        fields = [
            table[c[0]],
            table[7 + c[1]] + table[10 + c[2]],
            *numeric,
            linear(u, f.consumer),
            linear(p, f.producer),
        ]
        fields.append(linear(u * p, f.product))
        norms = zip(fields, model.norms.scale_FK, model.norms.shift_FK, strict=True)
        normed = np.concatenate([layer_norm(field, scale, shift) for field, scale, shift in norms])
        hidden = np.concatenate(
            [slow_block(b, normed, np.concatenate(fields)) for b in model.blocks]
        )
        slow.append(linear(np.maximum(linear(hidden, model.hidden[0]), 0), model.heads))
    np.testing.assert_allclose(
        model(categories, numbers, vectors).detach().numpy(), slow, atol=1e-5
    )


def test_the_mask_depends_on_the_example(model):
    """Instance-guided: two examples gate their features differently, the same one twice the same way."""
    fields = model.fields(*inputs(2)).flatten(1)
    first, second = model.blocks[0].mask(fields)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(first, model.blocks[0].mask(fields)[0])


def test_blocks_are_independent(model):
    """Three blocks see the same fields, each with its own weights."""
    assert len(model.blocks) == 3
    fields = model.fields(*inputs(2)).flatten(1)
    outputs = [block(fields, fields) for block in model.blocks]
    assert not torch.allclose(outputs[0], outputs[1])


def test_nobody_known_gets_the_learned_vector(model):
    """Vectors of zeros give what the learned stand-in would give."""
    with torch.no_grad():
        model.fields.unknown.copy_(torch.randn(2, 4))
    categories, numbers, _ = inputs(3)
    unknown = torch.zeros(3, 2, 4)
    u, p = model.fields.unknown
    fields = model.fields(categories, numbers, unknown)
    torch.testing.assert_close(fields[:, -3], model.fields.consumer(u).expand(3, -1))
    torch.testing.assert_close(fields[:, -1], model.fields.product(u * p).expand(3, -1))


def test_an_unknown_number_is_an_average_one(model):
    """NaN stands for the mean of the column."""
    model.fields.mean_N.copy_(torch.tensor([3.0, -1.0]))
    categories, _, vectors = inputs(2)
    missing = model(categories, torch.full((2, 2), torch.nan), vectors)
    torch.testing.assert_close(missing, model(categories, torch.tensor([[3.0, -1.0]] * 2), vectors))


def test_rows_do_not_see_each_other(model):
    """A batch gives what its rows give one by one."""
    batch = inputs(6)
    alone = torch.cat([model(*(x[i : i + 1] for x in batch)) for i in range(6)])
    torch.testing.assert_close(model(*batch), alone)


def test_every_weight_is_learned(model):
    """No parameter is left without a gradient."""
    categories, numbers, vectors = inputs(64)
    vectors[:8] = 0
    model(categories, numbers, vectors).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
