"""A version's fold-in: of any kind, as it was published; and versions from before there were kinds."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from registry_parts import DAY, SPACE, parts

from embeddings.embedders.als import ALSConfig, als
from embeddings.fold_in import ALSFoldIn, SVDFoldIn
from embeddings.registry import files
from embeddings.registry.errors import BadVersion, DamagedVersion


def als_fold_in(producers: int = 5, dim: int = 3) -> ALSFoldIn:
    rng = np.random.default_rng(3)
    x = sp.random(30, producers, 0.5, format="csr", rng=rng, dtype=np.float32)
    cfg = ALSConfig(dim=dim, iterations=2)
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    return ALSFoldIn.of(als(x, cfg), cfg).rotated(rotation)


@pytest.mark.parametrize("model", [parts()[1], als_fold_in()], ids=["svd", "als"])
def test_a_fold_in_of_any_kind_comes_back_as_it_was(plain, model):
    """And answers online what it answers here, to the bit."""
    loaded = plain.load(plain.publish("author", DAY, SPACE, parts()[0], model, {}))
    assert type(loaded.fold_in) is type(model)
    assert loaded.fold_in.scalars() == model.scalars()
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(loaded.fold_in.arrays()[name], array)
    history = sp.csr_matrix([[0, 2, 0, 0.5, 0]], dtype=np.float64)
    found = plain.fold_in("author", {"p3": 0.5, "stranger": 9, "p1": 2})
    np.testing.assert_array_equal(found.vector, model.fold(history)[0])
    assert (found.known, found.unknown, found.version.space) == (2, ["stranger"], SPACE)


def test_other_settings_of_a_fold_in_are_another_version(plain):
    """The arrays are the same; what they mean is not."""
    model = als_fold_in()
    for each in (model, replace(model, unobserved_weight=0.2)):
        plain.publish("author", DAY, SPACE, parts()[0], each, {})
    assert len(plain.versions("author")) == 2


SVD, ALS = parts()[1], als_fold_in()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (replace(SVD, matrix=SVD.matrix[:4]), "speaks of 4 producers, the version has 5"),
        (
            replace(SVD, column_sums=SVD.column_sums[:4]),
            r"fold_in\.column_sums of shape \(4,\) is not of .* 5 producers",
        ),
        (
            replace(SVD, matrix=SVD.matrix[:, :2]),
            r"fold_in\.matrix of shape \(5, 2\) .* 3 dimensions",
        ),
        (replace(SVD, matrix=SVD.matrix * np.nan), r"fold_in\.matrix must be finite: row 0"),
        (replace(ALS, eigenvalues=ALS.eigenvalues[:2]), r"fold_in\.eigenvalues of shape \(2,\)"),
        (
            replace(ALS, axes=np.ones((5, 3), np.float32)),
            "makes vectors of length 5, the version's are of length 3",
        ),
        (
            replace(ALS, regularization=math.inf),
            r"scalars must be finite; given: \{'regularization': inf\}",
        ),
    ],
)
def test_a_broken_fold_in_is_named(plain, model, message):
    with pytest.raises(BadVersion, match=message):
        plain.publish("author", DAY, SPACE, parts()[0], model, {})
    assert not list(plain.root.rglob("*.npy"))


def test_a_fold_in_of_a_later_kind_is_said_to_be_that(root):
    entities, fold_in = parts()
    home = write_version(root, entities, fold_in, {"fold_in": {"kind": "transformer"}})
    with pytest.raises(DamagedVersion, match="no fold-in of kind 'transformer'.*newer Evergreen"):
        files.open_files(home)


def write_version(root: Path, entities: dict, fold_in: SVDFoldIn, content: dict) -> Path:
    """A version as it was written before there were shards and kinds: every array a file beside the manifest."""
    arrays = {
        f"{e}.{field}": array for e, its in entities.items() for field, array in vars(its).items()
    }
    arrays |= {"fold_in.matrix": fold_in.matrix, "fold_in.column_sums": fold_in.column_sums}
    draft = root / "draft"
    draft.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(draft / f"{name}.npy", array)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in draft.iterdir()}
    facts = {
        entity: {"rows": len(its.ids), "folded": 0, "engagements": 0}
        for entity, its in entities.items()
    }
    content |= {
        "name": "author",
        "day": str(DAY),
        "space": SPACE,
        "dim": 3,
        "entities": facts,
        "files": digests,
    }
    text = json.dumps(content, indent=1, sort_keys=True) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    (draft / "manifest.json").write_text(
        json.dumps({"digest": digest, "content": content, "lineage": {}})
    )
    return draft.rename(root / digest)


def test_a_version_from_before_there_were_shards_opens(root):
    entities, fold_in = parts()
    home = write_version(root, entities, fold_in, {})
    opened = files.open_files(home)
    for entity, its in entities.items():
        for field in ("ids", "vectors", "counts", "folded"):
            np.testing.assert_array_equal(
                getattr(opened.entities[entity], field), getattr(its, field)
            )
    history = sp.csr_matrix([[0, 2, 0, 0.5, 0]], dtype=np.float64)
    np.testing.assert_array_equal(opened.fold_in.fold(history), fold_in.fold(history))
    assert len(files.verify_files(home)) == 10
