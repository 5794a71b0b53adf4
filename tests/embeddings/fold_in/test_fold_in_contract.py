"""What every kind of fold-in must satisfy, and how a kind is found by its name."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import scipy.sparse as sp
from fold_in_parts import FITTED, random_rotation, random_strengths

import embeddings.fold_in
from embeddings.fold_in.base import FoldIn, kinds, restore

X = random_strengths(80, 50, 0.2)


@pytest.fixture(scope="module", params=kinds())
def model(request) -> FoldIn:
    """A fold-in of each kind, fitted on X with six dimensions."""
    return FITTED[request.param](X)


def test_there_is_an_example_of_every_kind():
    assert kinds() == sorted(FITTED)


def test_the_kind_is_the_name_of_the_file(model):
    kind = model.scalars()["kind"]
    assert type(model).__module__ == f"embeddings.fold_in.{kind}"
    assert sys.modules[f"embeddings.fold_in.{kind}"].FOLD_IN is type(model)


def test_a_batch_equals_its_rows_one_by_one(model):
    one_by_one = np.concatenate([model.fold(X[i]) for i in range(80)])
    np.testing.assert_allclose(model.fold(X), one_by_one, atol=1e-6)


def test_a_rotated_fold_in_returns_rotated_vectors(model):
    first, second = random_rotation(6), random_rotation(6, seed=1)
    expected = model.fold(X) @ first @ second
    np.testing.assert_allclose(model.rotated(first @ second).fold(X), expected, atol=1e-6)
    np.testing.assert_allclose(model.rotated(first).rotated(second).fold(X), expected, atol=1e-6)


def test_a_reordered_fold_in_takes_reordered_histories(model):
    order = np.random.default_rng(2).permutation(50)
    reordered = sp.csr_matrix(X.toarray()[:, order])
    np.testing.assert_allclose(model.in_order(order).fold(reordered), model.fold(X), atol=1e-6)
    assert model.in_order(order).n_producers == model.n_producers == 50


def test_a_stored_fold_in_returns_the_same_bytes(model, tmp_path):
    """Stored as .npy files, which are memory-mapped, and JSON."""
    mapped = {}
    for name, array in model.arrays().items():
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=False)
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    again = restore(mapped, json.loads(json.dumps(model.scalars())))
    assert again.fold(X).tobytes() == model.fold(X).tobytes()


def test_an_empty_history_has_a_zero_vector(model):
    new = sp.vstack([X[:1], sp.csr_matrix((1, 50)), X[1:2]], format="csr")
    vectors = model.fold(new)
    assert vectors.any(axis=1).tolist() == [True, False, True]
    assert model.fold(X[:0]).shape == (0, 6)


def test_a_history_with_another_number_of_producers_is_rejected(model):
    with pytest.raises(ValueError, match="must come from one version"):
        model.fold(random_strengths(2, 49, 0.5))


# Finding a kind by name

TOY = """
class Toy:
    def __init__(self, scale):
        self.scale = scale

FOLD_IN = Toy
"""


def test_adding_a_kind_is_adding_a_file(tmp_path, monkeypatch):
    (tmp_path / "toy.py").write_text(TOY)
    path = [*embeddings.fold_in.__path__, str(tmp_path)]
    monkeypatch.setattr(embeddings.fold_in, "__path__", path)
    assert kinds() == sorted([*FITTED, "toy"])
    assert restore({}, {"kind": "toy", "scale": 2.0}).scale == 2.0


@pytest.mark.parametrize(
    "kind", ["nmf", "base", "", None, ["svd"], "../svd", "svd.py", "svd.SVDFoldIn", "os"]
)
def test_a_kind_without_a_file_is_an_error_that_names_the_kinds(kind):
    """A manifest cannot make the registry import a module from elsewhere."""
    modules = set(sys.modules)
    with pytest.raises(
        ValueError, match=r"the kinds are \['als', 'bag', 'logistic', 'mean', 'svd', 'towers'\]"
    ):
        restore({}, {"kind": kind})
    assert set(sys.modules) == modules
