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
from embeddings.registry import files
from embeddings.registry.errors import BadVersion, DamagedVersion


def als_fold_in(producers: int = 5, dim: int = 3) -> ALSFoldIn:
    rng = np.random.default_rng(3)
    x = sp.random(30, producers, 0.5, format="csr", rng=rng, dtype=np.float32)
    cfg = ALSConfig(dim=dim, iterations=2)
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return ALSFoldIn.of(als(x, cfg), cfg).rotated(rotation)


SVD = parts()[1]
ALS = als_fold_in()


@pytest.mark.parametrize("model", [SVD, ALS], ids=["svd", "als"])
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
    newer = files.open_files(home.rename(home.with_name(manifest["digest"])))
    expected = parts()[0]["consumer"].vectors
    np.testing.assert_array_equal(newer.entities["consumer"].vectors, expected)
    message = r"no fold-in of kind 'transformer'; the kinds are \['als', 'svd'\].*newer Evergreen"
    with pytest.raises(DamagedVersion, match=message):
        _ = newer.fold_in
