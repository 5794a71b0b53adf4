"""Every rival against its paper's equation, one row at a time in NumPy, with loops."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from test_masknet import SPEC
from torch import nn

from models.features import FeatureSpec
from models.rankers.base import RankerError, build, read_options

ROWS = 4
DEEP = {"field_width": 6, "number_fields": 2, "hidden": (8, 6)}


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    columns = [torch.randint(c.buckets, (ROWS,), generator=rng) for c in SPEC.categorical]
    numbers = torch.randn(ROWS, 2, generator=rng).double()
    return torch.stack(columns, dim=1), numbers, torch.randn(ROWS, 2, 4, generator=rng).double()


def drawn(kind: str, **options: object) -> nn.Module:
    """A ranker as if trained: fresh weights are partly zeros and ones, and would hide a mistake."""
    torch.manual_seed(1)
    model = build(kind, SPEC, read_options(kind, options)).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def fields_of(model: nn.Module) -> np.ndarray:
    """(ROWS, F, K); tests/models/rankers/test_masknet.py compares them with their own equation."""
    return model.fields(*inputs()).detach().numpy()


def check(model: nn.Module, slow: list[np.ndarray]) -> None:
    """The slow logits, and the bias of each label, are those of the model."""
    expected = np.array(slow) + array(model.bias_L)
    assert np.ptp(expected, axis=0).min() > 1e-3  # the rows differ
    np.testing.assert_allclose(model(*inputs()).detach().numpy(), expected, atol=1e-9)


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    return array(layer.weight) @ x + (0 if layer.bias is None else array(layer.bias))


def perceptron(layers: nn.Sequential, x: np.ndarray) -> np.ndarray:
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x = relu(linear(layer, x))
    return x


def layer_norm(layer: nn.LayerNorm, x: np.ndarray) -> np.ndarray:
    standard = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return standard * array(layer.weight) + array(layer.bias)


def first_order(model: nn.Module, row: int) -> np.ndarray:
    """Weights of the categories, numbers and vectors of a row, summed by hand: (L,)."""
    categories, numbers, vectors = (array(tensor)[row] for tensor in inputs())
    weights = model.first_order.fields
    table = array(weights.table.weight)
    u, p = (2 * vector / np.linalg.norm(vector) for vector in vectors)  # 2 = √4
    total = table[categories[0]] + table[7 + categories[1]] + table[10 + categories[2]]
    total = total + linear(weights.numbers, numbers)
    return total + sum(
        linear(layer, x)
        for layer, x in ((weights.consumer, u), (weights.producer, p), (weights.product, u * p))
    )


def pairs(fields_FK: np.ndarray, scale_LK: np.ndarray) -> np.ndarray:
    """Σ_{i<j} Σ_k a_lk v_ik v_jk, pair by pair."""
    total = np.zeros(len(scale_LK))
    for v, w in combinations(fields_FK, 2):
        total += scale_LK @ (v * w)
    return total


def test_logistic_regression():
    model = drawn("logistic")
    check(model, [first_order(model, row) for row in range(ROWS)])


def test_factorisation_machine():
    """All pairs, one by one, against the trick with the sum of squares."""
    model = drawn("fm", field_width=6, number_fields=2)
    slow = []
    for row, fields in enumerate(fields_of(model)):
        slow.append(first_order(model, row) + pairs(fields, array(model.pairs.scale_LK)))
    check(model, slow)


def test_a_fresh_factorisation_machine_weighs_all_dimensions_alike():
    """So with one label it is the paper's: the scalar product of every pair."""
    fresh = build("fm", SPEC, read_options("fm", {}))
    assert (fresh.pairs.scale_LK == 1).all()


@pytest.mark.parametrize("kind", ["dnn", "wide_deep", "deepfm"])
def test_networks_with_and_without_a_shallow_part(kind):
    model = drawn(kind, **DEEP)
    slow = []
    for row, fields in enumerate(fields_of(model)):
        logits = linear(model.heads, perceptron(model.hidden, fields.ravel()))
        if kind != "dnn":
            logits = logits + first_order(model, row)
        if kind == "deepfm":
            logits = logits + pairs(fields, array(model.pairs.scale_LK))
        slow.append(logits)
    check(model, slow)


def test_dlrm():
    """The numbers' vector, and its scalar products and those of the fields."""
    model = drawn("dlrm", field_width=6, bottom=(5,), hidden=(8, 6))
    slow = []
    for numbers, fields in zip(array(inputs()[1]), fields_of(model), strict=True):
        z = perceptron(model.bottom, numbers)
        products = [v @ w for v, w in combinations([z, *fields], 2)]
        hidden = perceptron(model.hidden, np.concatenate([z, products]))
        slow.append(linear(model.heads, hidden))
    check(model, slow)


@pytest.mark.parametrize("rank", [0, 2])
def test_dcn_v2(rank):
    """x₀ ⊙ (W x + b) + x, with W in full or as U V."""
    model = drawn("dcn_v2", **DEEP, layers=3, rank=rank)
    slow = []
    for fields in fields_of(model):
        first = fields.ravel()
        x = first
        for cross in model.crosses:
            mapped = linear(cross[1], linear(cross[0], x)) if rank else linear(cross, x)
            x = first * mapped + x
        both = np.concatenate([x, perceptron(model.hidden, first)])
        slow.append(linear(model.heads, both))
    check(model, slow)


def test_autoint():
    """Field by field, head by head: softmax of the scalar products weighs the values."""
    model = drawn("autoint", field_width=6, number_fields=2, layers=2, attention_heads=2)
    slow = []
    for fields in fields_of(model):
        x = fields
        for layer in model.attention:
            x = np.stack([attend(layer, x, position) for position in range(len(x))])
        slow.append(linear(model.heads, x.ravel()))
    check(model, slow)


def attend(layer: nn.Module, x_FI: np.ndarray, position: int) -> np.ndarray:
    """The new vector of one field."""
    width = layer.project.weight.shape[0] // 3
    queries, keys, values = array(layer.project.weight).reshape(3, layer.heads, -1, x_FI.shape[1])
    outputs = []
    for q, k, v in zip(queries, keys, values, strict=True):
        scores = np.array([(q @ x_FI[position]) @ (k @ other) for other in x_FI])
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        outputs.append(sum(s * (v @ other) for s, other in zip(shares, x_FI, strict=True)))
    attended = np.concatenate(outputs)
    assert attended.shape == (width,)
    return relu(attended + linear(layer.residual, x_FI[position]))


@pytest.mark.parametrize("contexts", [("", ""), ("item", "profile")])
def test_final_mlp(contexts):
    """Gates, two networks, and a bilinear form of like parts of their outputs."""
    model = drawn("final_mlp", **DEEP, contexts=contexts, fusion_heads=2, gate_hidden=5)
    slow = []
    for fields in fields_of(model):
        outputs = []
        for position, stream in enumerate((model.first, model.second)):
            context = fields[position] if contexts[0] else array(stream.learned_K)
            gate = linear(stream.gate[2], relu(linear(stream.gate[0], context)))
            gated = fields.ravel() * 2 / (1 + np.exp(-gate))
            outputs.append(perceptron(stream.hidden, gated))
        x, y = outputs
        logits = linear(model.heads, np.concatenate(outputs))
        for label, form in enumerate(array(model.form_LHXY)):
            logits[label] += x[:3] @ form[0] @ y[:3] + x[3:] @ form[1] @ y[3:]
        slow.append(logits)
    check(model, slow)


def test_final_net():
    """ReLU(a + a ⊙ b), twice in each of two blocks, and the mean of their logits."""
    model = drawn("final_net", **DEEP)
    slow = []
    for fields in fields_of(model):
        logits = []
        for block in model.blocks:
            x = fields.ravel()
            for layer in (block[0], block[2]):
                a, b = linear(layer.both, x).reshape(2, -1)
                x = relu(a + a * b)
            logits.append(linear(block[4], x))
        slow.append(np.mean(logits, axis=0))
    check(model, slow)


def test_dcn_v3():
    """c, c ⊙ ReLU(LN(c)) times the input or times what is there, plus what is there."""
    model = drawn("dcn_v3", field_width=6, number_fields=2)
    slow = []
    for fields in fields_of(model):
        first = fields.ravel()
        ends = []
        for network in (model.linear, model.exponential):
            x = first
            for cross in network:
                c = linear(cross.linear, x)
                both = np.concatenate([c, c * relu(layer_norm(cross.norm, c))])
                x = (first if network is model.linear else x) * both + x
            ends.append(x)
        heads = (model.linear_heads, model.exponential_heads)
        slow.append(np.mean([linear(h, x) for h, x in zip(heads, ends, strict=True)], axis=0))
    check(model, slow)


def test_exponential_layers_reach_a_degree_that_doubles():
    """With inputs scaled by t, n layers grow like t to the power of 2ⁿ, linear ones of n + 1."""
    model = drawn("dcn_v3", field_width=6, linear_layers=3, exponential_layers=3)
    x = torch.randn(1, model.width).double()
    for network, degree in ((model.linear, 4), (model.exponential, 8)):
        sizes = []
        for t in (1e4, 1e5):
            y = t * x
            for cross in network:
                nn.init.zeros_(cross.linear.bias)
                y = cross(y, by_BE=t * x if network is model.linear else y)
            sizes.append(y.detach().norm().item())
        assert np.log10(sizes[1] / sizes[0]) == pytest.approx(degree, abs=0.01)


def quadratic_logits(layers: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """The input of every layer and its product with each map, entry by entry; then the heads."""
    *quadratic, heads = layers
    for layer in quadratic:
        norm = layer.norm
        standard = (linear(layer.linear, x) - array(norm.running_mean)) / np.sqrt(
            array(norm.running_var) + 1e-5
        )
        maps = relu(standard * array(norm.weight) + array(norm.bias))
        after = x.copy()
        for position in range(len(maps)):
            entry = position % len(x)
            after[entry] += x[entry] * maps[position]
        x = after
    return linear(heads, x)


def test_qnn():
    """x + x ⊙ Σ_r ReLU(BN(W_r x + b_r)), twice."""
    model = drawn("qnn", field_width=6, number_fields=2, maps=3)
    for layer in model.quadratic[:-1]:  # fresh averages are zeros and ones
        nn.init.normal_(layer.norm.running_mean)
        nn.init.uniform_(layer.norm.running_var, 0.5, 2)
    check(model, [quadratic_logits(model.quadratic, x.ravel()) for x in fields_of(model)])


def test_quadratic_layers_reach_a_degree_that_doubles():
    """With inputs scaled by t, n layers without shifts grow like t to the power of 2ⁿ."""
    model = drawn("qnn", field_width=6, layers=3)
    for layer in model.quadratic[:-1]:
        nn.init.zeros_(layer.linear.bias)
        nn.init.zeros_(layer.norm.bias)
    x = torch.randn(1, model.width).double()
    sizes = [model.quadratic[:-1](t * x).detach().norm().item() for t in (1e4, 1e5)]
    assert np.log10(sizes[1] / sizes[0]) == pytest.approx(8, abs=0.01)


def test_a_field_that_does_not_exist_cannot_gate():
    with pytest.raises(RankerError, match="no categorical field 'user' to gate with.*item, profi"):
        drawn("final_mlp", contexts=("user", ""))


def test_a_width_that_cannot_be_cut_into_equal_parts_is_named():
    with pytest.raises(RankerError, match="last hidden width 64 into fusion_heads = 3"):
        drawn("final_mlp", fusion_heads=3)


def test_features_without_numbers_and_vectors_are_enough_for_every_rival():
    """Such as those of Frappe: categories alone."""
    spec = FeatureSpec(SPEC.categorical, (), SPEC.labels, 0)
    categories = inputs()[0]
    nothing = torch.zeros(ROWS, 0)
    for kind in ("logistic", "fm", "deepfm", "dlrm", "dcn_v2", "autoint", "final_mlp", "masknet"):
        model = build(kind, spec, read_options(kind, {}))
        assert model(categories, nothing, torch.zeros(ROWS, 2, 0)).shape == (ROWS, 2)
