"""The network against the paper's equations, row by row in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.features import Categorical, FeatureSpec
from models.rankers.base import Statistics
from models.rankers.layers import Stacked, StackedNorm
from models.rankers.masknet import MaskBlocks, MaskNet, Options

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
    return as_if_trained(OPTIONS)


def as_if_trained(options: Options) -> MaskNet:
    """Fresh norms and projections are ones and zeros, and would hide a mistake."""
    torch.manual_seed(1)
    model = MaskNet(SPEC, options).eval()
    projections = (model.fields.consumer, model.fields.producer, model.fields.product)
    for parameter in (*model.norms.parameters(), *[layer.weight for layer in projections]):
        torch.nn.init.normal_(parameter)
    return model


def statistics(mean: np.ndarray, std: np.ndarray, log_odds: np.ndarray) -> Statistics:
    """Those of two columns; this network does not read the moments of their logarithms."""
    return Statistics(mean, std, np.zeros(2), np.ones(2), log_odds)


def layer_norm(x: np.ndarray, scale: torch.Tensor, shift: torch.Tensor) -> np.ndarray:
    standardised = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return standardised * scale.detach().numpy() + shift.detach().numpy()


def linear(x: np.ndarray, layer: torch.nn.Linear) -> np.ndarray:
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()
    return layer.weight.detach().numpy() @ x + bias


def slow_block(blocks: MaskBlocks, position: int, x: np.ndarray, e: np.ndarray) -> np.ndarray:
    """One row through one of the blocks, as the paper writes it."""

    def part(layer: torch.nn.Module, name: str) -> np.ndarray:
        return getattr(layer, name)[position].detach().numpy()

    if blocks.aggregate is not None:
        weight, bias = part(blocks.aggregate, "weight"), part(blocks.aggregate, "bias")[0]
        aggregated = np.maximum(e @ weight + bias, 0)
        x = x * (aggregated @ part(blocks.mask, "weight") + part(blocks.mask, "bias")[0])
    if blocks.project is None:
        return x
    projected = x @ part(blocks.project, "weight")
    if isinstance(blocks.norm, StackedNorm):
        projected = layer_norm(projected, blocks.norm.scale[position], blocks.norm.shift[position])
    return np.maximum(projected.ravel(), 0)


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


@pytest.mark.parametrize("structure", ["parallel", "serial"])
@pytest.mark.parametrize("left_out", [None, "mask", "layer_norm", "feed_forward"])
def test_the_network_is_the_papers_equation(structure, left_out):
    """A slow loop over rows, fields and blocks: all variants of the paper and of its ablation."""
    switches = {left_out: False} if left_out else {}
    model = as_if_trained(OPTIONS.model_copy(update={"structure": structure, **switches}))
    categories, numbers, vectors = inputs(4)
    slow = []
    for c, x, v in zip(categories.numpy(), numbers.numpy(), vectors.numpy(), strict=True):
        slow.append(slow_logits(model, slow_fields(model, c, x, v)))
    logits = model(categories, numbers, vectors).detach().numpy()
    assert np.ptp(logits, axis=0).min() > 1e-4  # the rows differ
    np.testing.assert_allclose(logits, slow, rtol=1e-4, atol=1e-5)


def slow_logits(model: MaskNet, fields: list[np.ndarray]) -> np.ndarray:
    """The logits of one row."""
    normed = fields
    if model.options.layer_norm:
        norms = zip(fields, model.norms.scale, model.norms.shift, strict=True)
        normed = [layer_norm(field, scale, shift) for field, scale, shift in norms]
    x = np.concatenate(normed)
    e = np.concatenate(fields)  # the masks read the raw fields, also in a series
    for blocks in model.stages:
        outputs = [slow_block(blocks, position, x, e) for position in range(blocks.count)]
        x = np.concatenate(outputs)
    return linear(np.maximum(linear(x, model.hidden[0]), 0), model.heads)


def test_a_series_has_one_block_after_another_and_parallel_blocks_read_the_same():
    """Widths: 7 fields of 6 enter every parallel block, and only the first of a series."""
    parallel = MaskNet(SPEC, OPTIONS)
    serial = MaskNet(SPEC, OPTIONS.model_copy(update={"structure": "serial"}))
    assert [tuple(stage.project.weight.shape) for stage in parallel.stages] == [(3, 42, 5)]
    shapes = [tuple(stage.project.weight.shape) for stage in serial.stages]
    assert shapes == [(1, 42, 5), (1, 5, 5), (1, 5, 5)]


def test_the_aggregation_layer_is_twice_as_wide_as_the_projection():
    """Ratio 2: P1 is (E, 2D), P2 is (2D, D)."""
    blocks = MaskBlocks(count=1, embed_width=9, in_width=6, options=OPTIONS)
    assert blocks.aggregate.weight.shape == (1, 9, 12)
    assert blocks.mask.weight.shape == (1, 12, 6)


def test_all_blocks_at_once_are_the_blocks_one_by_one():
    """The batched product against a loop over blocks of one: outputs and gradients."""
    torch.manual_seed(0)
    together = MaskBlocks(count=3, embed_width=9, in_width=6, options=OPTIONS)
    x, e = torch.randn(1, 5, 6), torch.randn(5, 9)
    together(x, e).square().sum().backward()
    for position, output in enumerate(together(x, e)):
        alone = MaskBlocks(count=1, embed_width=9, in_width=6, options=OPTIONS)
        slices = {name: w[position : position + 1] for name, w in together.state_dict().items()}
        alone.load_state_dict(slices)
        torch.testing.assert_close(alone(x, e)[0], output)
        alone(x, e).square().sum().backward()
        for one, all_of_them in zip(alone.parameters(), together.parameters(), strict=True):
            torch.testing.assert_close(one.grad[0], all_of_them.grad[position])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [(5, 7), (8, 7), (5, 16), (16, 8)])
def test_rounded_up_widths_give_the_same_products(widths, bias):
    """As a GPU computes them: outputs, and gradients of the input and of all weights."""
    torch.manual_seed(0)
    stacked = Stacked(3, *widths, bias=bias)
    x = torch.randn(3, 4, widths[0], requires_grad=True)
    found = []
    for product in (stacked, stacked.aligned):
        y = product(x)
        gradients = torch.autograd.grad(y.square().sum(), [x, *stacked.parameters()])
        found.append([y, *gradients])
    for plain, aligned in zip(*found, strict=True):
        assert plain.shape == aligned.shape
        torch.testing.assert_close(plain, aligned)


def test_the_mask_depends_on_the_example(model):
    """Instance-guided: two examples gate their features differently, one always the same way."""
    fields = model.fields(*inputs(2)).flatten(1)
    first, second = model.stages[0].masks(fields)[0]
    assert not torch.allclose(first, second)
    torch.testing.assert_close(first, model.stages[0].masks(fields)[0, 0])


def test_dropout_is_for_training_alone():
    """The same scores twice; in training, other ones every time."""
    model = MaskNet(SPEC, OPTIONS.model_copy(update={"dropout": 0.5})).eval()
    torch.testing.assert_close(model(*inputs(3)), model(*inputs(3)))
    model.train()
    assert not torch.allclose(model(*inputs(3)), model(*inputs(3)))


def test_the_published_recipe_for_frappe_has_its_number_of_parameters():
    """10 fields of 10 over 5,369 rows, 3 blocks of 50, 400-400-400: 571,691."""
    sizes = [5369 - 9, *[1] * 9]
    columns = [Categorical(f"hash_{i}", size, f"field_{i}") for i, size in enumerate(sizes)]
    spec = FeatureSpec(tuple(columns), (), ("label_click",), 0)
    recipe = Options(field_width=10, blocks=3, block_width=50, ratio=2, hidden=(400, 400, 400))
    assert sum(p.numel() for p in MaskNet(spec, recipe).parameters()) == 571_691


def test_a_model_that_was_stored_block_by_block_is_read_as_it_was(model):
    """Every block had layers of its own, with the weights transposed, and norms other names."""
    state = model.state_dict()
    old = {name: w for name, w in state.items() if not name.startswith(("stages", "norms"))}
    old["norms.scale_FK"], old["norms.shift_FK"] = state["norms.scale"], state["norms.shift"]
    blocks = model.stages[0]
    for i in range(3):
        old[f"blocks.{i}.mask.0.weight"] = blocks.aggregate.weight[i].T.detach()
        old[f"blocks.{i}.mask.0.bias"] = blocks.aggregate.bias[i, 0].detach()
        old[f"blocks.{i}.mask.2.weight"] = blocks.mask.weight[i].T.detach()
        old[f"blocks.{i}.mask.2.bias"] = blocks.mask.bias[i, 0].detach()
        old[f"blocks.{i}.project.weight"] = blocks.project.weight[i].T.detach()
        old[f"blocks.{i}.norm.weight"] = blocks.norm.scale[i, 0].detach()
        old[f"blocks.{i}.norm.bias"] = blocks.norm.shift[i, 0].detach()
    read = MaskNet(SPEC, OPTIONS).eval()
    read.load_state_dict(old)
    torch.testing.assert_close(read(*inputs(3)), model(*inputs(3)), rtol=0, atol=0)


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
    model.initialise(statistics(np.array([3.0, -1.0]), np.array([2.0, 5.0]), np.zeros(2)))
    categories, _, vectors = inputs(2)

    def logits(x: float, y: float) -> torch.Tensor:
        return model(categories, torch.tensor([[x, y]] * 2), vectors)

    unknown = logits(torch.nan, torch.nan)
    torch.testing.assert_close(unknown, logits(3.0, -1.0))
    assert not torch.allclose(unknown, logits(4.0, -1.0))


def test_every_head_starts_at_the_odds_of_its_label(model):
    """With everything else silent, the first prediction is the rate of each label."""
    rates = np.array([0.3, 0.02])
    model.initialise(statistics(np.zeros(2), np.ones(2), np.log(rates / (1 - rates))))
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
        if parameter.grad is None or not parameter.grad.to_dense().any():
            idle.append(name)
    assert idle == []


def test_a_weight_that_no_row_uses_has_no_gradient(model):
    """The check above can fail: without missing vectors, their stand-ins learn nothing."""
    model(*inputs(64)).sum().backward()
    assert not model.fields.unknown.grad.any()
