"""Every way to shorten vectors: what all share, and each against a slow or a literal version."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from embeddings.lengths import autoencoder, matryoshka
from embeddings.lengths.base import linear, names, reducer
from embeddings.lengths.encoder import Encoder, load_encoder, save_encoder, shortened

LENGTHS = (8, 4, 3)
WHOLE = 12


@pytest.fixture(scope="module")
def sides() -> tuple[np.ndarray, np.ndarray]:
    """Consumers and producers of whom the first numbers say most."""
    rng = np.random.default_rng(0)
    strength = 1 / np.arange(1, WHOLE + 1)
    rotation = np.linalg.qr(rng.normal(size=(WHOLE, WHOLE)))[0]
    consumers = rng.normal(size=(90, WHOLE)) * strength @ rotation
    producers = rng.normal(size=(40, WHOLE)) * strength @ rotation + 0.2
    return consumers.astype(np.float32), producers.astype(np.float32)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    for trained in (autoencoder, matryoshka):
        monkeypatch.setattr(trained, "STEPS", 30)


@pytest.fixture(scope="module")
def encoders(sides) -> dict[str, Encoder]:
    with pytest.MonkeyPatch.context() as patch:
        for trained in (autoencoder, matryoshka):
            patch.setattr(trained, "STEPS", 30)
        return {name: reducer(name).fit(*sides, LENGTHS, 7) for name in names()}


# What all share


@pytest.mark.parametrize("name", names())
def test_a_second_fit_on_another_number_of_threads_gives_the_same_bytes(name, sides):
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(reducer(name).fit(*sides, LENGTHS, 7).arrays())
    torch.set_num_threads(before)
    first, second = found
    assert first.keys() == second.keys()
    for field, array in first.items():
        assert array.tobytes() == second[field].tobytes(), field


@pytest.mark.parametrize("name", names())
def test_every_length_is_there_and_one_by_one_is_as_all_at_once(name, sides, encoders):
    encoder = encoders[name]
    assert (encoder.method, encoder.whole, encoder.lengths) == (name, WHOLE, [8, 4, 3])
    for length in LENGTHS:
        whole = encoder.encode(sides[1], length)
        assert (whole.shape, whole.dtype) == ((40, length), np.float32)
        alone = np.concatenate([encoder.encode(sides[1][[row]], length) for row in range(40)])
        np.testing.assert_allclose(alone, whole, atol=1e-6)


@pytest.mark.parametrize("name", names())
def test_who_is_unknown_stays_unknown(name, encoders):
    """A vector of zeros says that nothing is known; a bias must not say otherwise."""
    assert not encoders[name].encode(np.zeros((2, WHOLE), np.float32), 4).any()


@pytest.mark.parametrize("name", names())
def test_a_stored_encoder_is_the_same(name, sides, encoders, tmp_path):
    save_encoder(tmp_path / "encoder", encoders[name])
    restored = load_encoder(tmp_path / "encoder")
    for length in LENGTHS:
        expected = encoders[name].encode(sides[0], length)
        np.testing.assert_array_equal(restored.encode(sides[0], length), expected)


def test_a_length_that_is_not_there_and_vectors_that_do_not_fit_are_refused(encoders):
    with pytest.raises(ValueError, match=r"no length 5; pca has \[8, 4, 3\]"):
        encoders["pca"].encode(np.ones((1, WHOLE)), 5)
    with pytest.raises(ValueError, match="Vectors of length 3, an encoder of vectors of length 12"):
        encoders["pca"].encode(np.ones((1, 3)), 4)
    with pytest.raises(ValueError, match="no reducer 'pcs'. There are: autoencoder, "):
        reducer("pcs")


def test_a_length_that_was_not_learned_is_a_prefix(sides, encoders):
    pca = encoders["pca"]
    np.testing.assert_array_equal(shortened(sides[0], 4, pca), pca.encode(sides[0], 4))
    for length, encoder in ((5, pca), (4, None), (None, pca)):
        np.testing.assert_array_equal(shortened(sides[0], length, encoder), sides[0][:, :length])


# Each by another road


def test_the_first_columns_are_as_they_come(sides, encoders):
    np.testing.assert_array_equal(encoders["first_columns"].encode(sides[0], 3), sides[0][:, :3])


def test_prefixes_keep_the_products_as_a_truncated_svd_does():
    """Of vectors with equal axes on both sides, in any coordinates."""
    rng = np.random.default_rng(1)
    u, _ = np.linalg.qr(rng.normal(size=(30, 6)))
    v, _ = np.linalg.qr(rng.normal(size=(20, 6)))
    values = np.array([9.0, 5, 3, 2, 1, 0.5])
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    consumers, producers = (side * np.sqrt(values) @ rotation for side in (u, v))
    encoder = reducer("prefixes").fit(consumers, producers, (2,), 0)
    found = encoder.encode(consumers, 2) @ encoder.encode(producers, 2).T
    np.testing.assert_allclose(found, u[:, :2] * values[:2] @ v[:, :2].T, atol=1e-5)


def test_pca_is_that_of_scikit_learn(sides, encoders):
    """But for the signs of the axes."""
    both = np.concatenate(sides)
    expected = PCA(4).fit(both).transform(sides[1])
    found = encoders["pca"].encode(sides[1], 4)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-5)


def test_an_encoder_is_the_literal_sum_over_its_layers(sides, encoders):
    """h = max(0, Σ_f h_f W_fg), number by number."""
    encoder, vector = encoders["autoencoder"], sides[0][3]
    for weight, length in zip(encoder.weights, LENGTHS, strict=True):
        units = []
        for unit in range(length):
            total = sum(float(vector[f]) * float(weight[f, unit]) for f in range(len(vector)))
            units.append(max(0.0, total))
        vector = np.array(units)
        np.testing.assert_allclose(encoder.encode(sides[0][[3]], length)[0], vector, atol=1e-5)


def test_an_autoencoder_begins_with_what_the_axes_know(monkeypatch):
    """Vectors along the first axes go down through every layer and come up again unchanged."""
    monkeypatch.setattr(autoencoder, "NOISE", 0.0)
    rng = np.random.default_rng(2)
    axes, _ = np.linalg.qr(rng.normal(size=(WHOLE, WHOLE)))
    vectors = rng.normal(size=(9, 2)) @ axes[:, :2].T
    weights = [torch.from_numpy(one) for one in autoencoder.first_weights(axes, (12, 9, 6, 4), 0)]
    found = autoencoder.through(torch.from_numpy(vectors), weights)
    np.testing.assert_allclose(found.numpy(), vectors, atol=1e-9)


def test_an_autoencoder_keeps_how_long_a_vector_is(sides, encoders):
    encoder = encoders["autoencoder"]
    once, thrice = encoder.encode(sides[0], 4), encoder.encode(3 * sides[0], 4)
    np.testing.assert_allclose(thrice, 3 * once, rtol=1e-4, atol=1e-5)


def test_the_nested_loss_is_the_sum_over_consumers_lengths_and_their_own_negatives(monkeypatch):
    """Written as the docstring has it, for one consumer and one producer at a time."""
    monkeypatch.setattr(matryoshka, "TOP", 3)
    rng = np.random.default_rng(3)
    users, targets, weight = (rng.normal(size=shape) for shape in ((5, 6), (11, 6), (6, 4)))
    heat, lengths = 1.7, (4, 2)
    total, own_negatives = 0.0, set()
    for length in lengths:
        for user in users:
            t = [user @ target / heat for target in targets]
            s = [(user @ weight)[:length] @ (one @ weight)[:length] / heat for one in targets]
            best_s = sorted(range(11), key=lambda j: -s[j])[:3]
            judged = sorted({*sorted(range(11), key=lambda j: -t[j])[:3], *best_s})
            own_negatives.add(tuple(best_s))
            share = [np.exp(t[j]) / sum(np.exp(t[i]) for i in judged) for j in judged]
            guess = [np.exp(s[j]) / sum(np.exp(s[i]) for i in judged) for j in judged]
            total -= sum(p * np.log(q) for p, q in zip(share, guess, strict=True))
    assert len(own_negatives) > 5, "the lengths have negatives of their own"
    tensors = [torch.from_numpy(array) for array in (users, targets, weight)]
    found = matryoshka.nested_loss(*tensors, lengths, heat)
    assert float(found) == pytest.approx(total / (5 * 2))


def test_the_temperature_is_the_deviation_of_all_products(sides):
    products = sides[0].astype(np.float64) @ sides[1].astype(np.float64).T
    assert matryoshka.temperature(*sides) == pytest.approx(products.std())


def test_training_an_autoencoder_lowers_the_error_of_what_comes_up_again(sides, monkeypatch):
    losses = []
    minimise = autoencoder.minimise
    monkeypatch.setattr(autoencoder, "minimise", lambda *given: losses.extend(minimise(*given)))
    monkeypatch.setattr(autoencoder, "STEPS", 120)
    monkeypatch.setattr(autoencoder, "RATE", 6e-3)
    reducer("autoencoder").fit(*sides, LENGTHS, 0)
    assert len(losses) == 120
    assert np.mean(losses[-20:]) < 0.97 * np.mean(losses[:20])


def test_training_a_matryoshka_improves_on_the_axes_that_it_begins_with(sides, monkeypatch):
    monkeypatch.setattr(matryoshka, "TOP", 5)
    losses = []
    for steps in (0, 60):
        monkeypatch.setattr(matryoshka, "STEPS", steps)
        weight = reducer("matryoshka").fit(*sides, LENGTHS, 0).weights[0]
        tensors = map(torch.from_numpy, (*sides, weight))
        heat = matryoshka.temperature(*sides)
        losses.append(float(matryoshka.nested_loss(*tensors, LENGTHS, heat)))
    assert losses[1] < losses[0] - 1e-3


def test_a_linear_encoder_keeps_no_more_columns_than_its_longest_length():
    encoder = linear("pca", np.eye(5), (2, 3), np.arange(5.0))
    assert [weight.shape for weight in encoder.weights] == [(5, 3)]
    np.testing.assert_array_equal(encoder.encode(np.ones((1, 5)), 3), [[1, 2, 3]])
