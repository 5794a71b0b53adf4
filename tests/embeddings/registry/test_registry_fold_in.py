"""The fold-in of a version: any kind is published, checked, and comes back unchanged."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from registry_parts import DAY, SPACE, parts, publish

from embeddings.embedders.als import ALSConfig, als
from embeddings.fold_in.als import ALSFoldIn
from embeddings.fold_in.logistic import LogisticFoldIn
from embeddings.registry import files
from embeddings.registry.errors import BadRequest, BadVersion, DamagedVersion


def als_fold_in(producers: int = 5, dim: int = 3) -> ALSFoldIn:
    rng = np.random.default_rng(3)
    x = sp.random(30, producers, 0.5, format="csr", rng=rng, dtype=np.float32)
    cfg = ALSConfig(dim=dim, iterations=2)
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return ALSFoldIn.of(als(x, cfg), cfg).rotated(rotation)


def logistic_fold_in(noise: int = 2) -> LogisticFoldIn:
    """Of five producers, of which some stand for all that may be drawn."""
    vectors = np.random.default_rng(4).normal(size=(5, 3)).astype(np.float32)
    shares = np.full(noise, 1 / noise, np.float32)
    return LogisticFoldIn(vectors, vectors[:noise], shares, 5.0, 1.0)


SVD = parts()[1]
ALS = als_fold_in()
LOGISTIC = logistic_fold_in()


@pytest.mark.parametrize("model", [SVD, ALS, LOGISTIC], ids=["svd", "als", "logistic"])
def test_a_fold_in_of_any_kind_comes_back_unchanged(plain, model):
    """The registry's vector is that of the published object, bit for bit."""
    loaded = plain.load(plain.publish("author", DAY, SPACE, parts()[0], model, {}))
    assert type(loaded.fold_in) is type(model)
    assert loaded.fold_in.scalars() == model.scalars()
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(loaded.fold_in.arrays()[name], array)
    history = sp.csr_matrix([[0, 2, 0, 0.5, 0]], dtype=np.float64)
    folded = plain.fold_in("author", {"p3": 0.5, "p9": 9, "p1": 2})
    np.testing.assert_array_equal(folded.vector, model.fold(history)[0])
    assert (folded.known, folded.unknown, folded.version.space) == (2, ["p9"], SPACE)


def slow_residual(targets, weights, vector, producers) -> float:
    left = total = 0.0
    for target, weight, producer in zip(targets, weights, producers, strict=True):
        reached = sum(float(a) * float(b) for a, b in zip(vector, producer, strict=True))
        left += weight * (target - reached) ** 2
        total += weight * target**2
    return math.sqrt(left / total)


@pytest.mark.parametrize("dim", [None, 2])
def test_the_residual_of_svd_is_that_of_the_normalised_history(plain, dim):
    model = replace(SVD, row_extra=0.25)
    model.column_sums[4] = 0  # never engaged in the fit: left out
    plain.publish("author", DAY, SPACE, parts()[0], model, {})
    folded = plain.fold_in("author", {"p3": 0.5, "p4": 7.0, "p9": 9, "p1": 2}, dim=dim)
    total = 0.25 + 0.5 + 7 + 2
    targets = [s / math.sqrt(total * model.column_sums[j]) for j, s in ((3, 0.5), (1, 2))]
    producers = parts()[0]["producer"].vectors[[3, 1]][:, :dim]
    expected = slow_residual(targets, [1, 1], folded.vector, producers)
    assert folded.residual == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dim", [None, 2])
def test_the_residual_of_als_is_that_of_its_loss_over_the_history(plain, dim):
    plain.publish("author", DAY, SPACE, parts()[0], ALS, {})
    folded = plain.fold_in("author", {"p3": 0.5, "p9": 9, "p1": 2}, dim=dim)
    producers = parts()[0]["producer"].vectors[[3, 1]][:, :dim]
    expected = slow_residual([1, 1], [0.5, 2], folded.vector, producers)
    assert folded.residual == pytest.approx(expected, rel=1e-5)


def test_a_history_of_producers_without_engagements_has_a_zero_vector_and_no_neighbours(plain):
    model = replace(SVD, column_sums=np.array([0.0, 1, 1, 1, 1]))
    plain.publish("author", DAY, SPACE, parts()[0], model, {})
    folded = plain.fold_in("author", {"p0": 3.0}, k=3)
    assert (folded.vector.tolist(), folded.residual) == ([0, 0, 0], 0)
    assert folded.neighbours == []


@pytest.mark.parametrize("model", [SVD, ALS], ids=["svd", "als"])
def test_the_neighbours_of_a_folded_vector_are_those_of_an_equal_vector(plain, model):
    """A consumer with exactly that vector has the same neighbours."""
    entities = parts()[0]
    history = sp.csr_matrix([[0, 2, 0, 0.5, 0]], dtype=np.float64)
    entities["consumer"].vectors[4] = model.fold(history)[0]
    plain.publish("author", DAY, SPACE, entities, model, {})
    folded = plain.fold_in("author", {"p1": 2, "p3": 0.5}, k=4)
    assert folded.neighbours == plain.neighbours("author", "consumer:c4", 4, among="producer")
    assert plain.fold_in("author", {"p1": 2}).neighbours is None


@pytest.mark.parametrize("model", [SVD, ALS], ids=["svd", "als"])
@pytest.mark.parametrize("strength", [3e38, 1e-37])
def test_extreme_strengths_have_a_finite_vector_and_true_cosines(plain, model, strength):
    plain.publish("author", DAY, SPACE, parts()[0], model, {})
    folded = plain.fold_in("author", {"p1": strength, "p2": strength}, k=5)
    assert np.isfinite([*folded.vector, folded.residual]).all()
    producers = parts()[0]["producer"].vectors.astype(np.float64)
    for found in folded.neighbours:
        producer = producers[int(found.id[1:])]
        lengths = np.linalg.norm(producer) * np.linalg.norm(folded.vector.astype(np.float64))
        assert found.score == pytest.approx(producer @ folded.vector / lengths, abs=1e-6)


def test_a_vector_that_is_not_finite_is_refused_by_the_name_of_the_largest_strength(plain):
    model = replace(SVD, column_sums=SVD.column_sums * 1e-38, matrix=SVD.matrix * 1000)
    plain.publish("author", DAY, SPACE, parts()[0], model, {})
    with pytest.raises(BadRequest, match=r"not finite\. Use smaller .* is 3e\+38 of 'p1'"):
        plain.fold_in("author", {"p0": 1, "p1": 3e38})


def test_a_fold_in_with_other_settings_is_another_version(plain):
    """The arrays are equal, but the vectors they lead to are not."""
    for model in (ALS, replace(ALS, unobserved_weight=0.2)):
        plain.publish("author", DAY, SPACE, parts()[0], model, {})
    assert len(plain.versions("author")) == 2


INVALID = [
    (replace(SVD, matrix=SVD.matrix[:4]), "is for 4 producers, the version has 5"),
    (
        replace(SVD, column_sums=SVD.column_sums[:4]),
        r"fold_in\.column_sums has shape \(4,\), which does not match .* 5 producers",
    ),
    (
        replace(SVD, matrix=SVD.matrix[:, :2]),
        r"fold_in\.matrix has shape \(5, 2\), .* 3 dimensions",
    ),
    (replace(SVD, matrix=SVD.matrix * np.nan), r"fold_in\.matrix must be finite: row 0"),
    (replace(ALS, eigenvalues=ALS.eigenvalues[:2]), r"fold_in\.eigenvalues has shape \(2,\)"),
    (
        replace(ALS, axes=np.ones((5, 3), np.float32)),
        "returns vectors of length 5, but the version's vectors have length 3",
    ),
    (
        replace(ALS, regularization=math.inf),
        r"scalars must be finite; given: \{'regularization': inf\}",
    ),
]


@pytest.mark.parametrize(("model", "message"), INVALID)
def test_an_invalid_fold_in_is_named(plain, model, message):
    with pytest.raises(BadVersion, match=message):
        plain.publish("author", DAY, SPACE, parts()[0], model, {})
    assert not list(plain.root.rglob("*.npy"))


def test_a_version_with_a_newer_kind_of_fold_in_can_still_be_read(plain):
    """Its vectors are returned. Only the fold-in is refused, with the kinds that exist."""
    home = publish(plain).path
    manifest = json.loads((home / "manifest.json").read_text())
    manifest["content"]["fold_in"] = {"kind": "transformer"}
    manifest["digest"] = files.content_digest(manifest["content"])
    (home / "manifest.json").write_text(json.dumps(manifest))
    newer = files.open_files(plain.place, home.rename(home.with_name(manifest["digest"])))
    expected = parts()[0]["consumer"].vectors
    np.testing.assert_array_equal(newer.entities["consumer"].vectors, expected)
    message = (
        r"no fold-in of kind 'transformer'; "
        r"the kinds are \['als', 'bag', 'logistic', 'mean', 'svd', 'towers'\].*newer Evergreen"
    )
    with pytest.raises(DamagedVersion, match=message):
        _ = newer.fold_in
