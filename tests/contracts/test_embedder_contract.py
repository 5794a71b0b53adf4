"""One suite for every embedder: each file of embeddings/embedders promises the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from pydantic import ValidationError

from embeddings.blocks import Block, MatrixShare, save_block
from embeddings.embedders.base import Fitted, embedder, names
from embeddings.facts import declaration
from embeddings.fold_in.base import load_fold_in, save_fold_in
from embeddings.kernels.communicator import Communicator, run_threads
from embeddings.registry.client import Registry

ROOT = Path(__file__).parents[2]
DIM = 5
CONSUMERS, PRODUCERS = 90, 40


@pytest.fixture(params=names())
def name(request) -> str:
    return request.param


@pytest.fixture
def solver(name):
    return embedder(name)


def options_of(name: str):
    """The options class that the file defines."""
    return import_module(f"embeddings.embedders.{name}").Options


@pytest.fixture(scope="module")
def matrix() -> sp.csr_matrix:
    """Two tastes and some noise; every consumer has an engagement."""
    rng = np.random.default_rng(0)
    taste = np.arange(CONSUMERS) % 2
    likes = rng.random((CONSUMERS, PRODUCERS)) < 0.05
    for consumer in range(CONSUMERS):
        own = rng.choice(PRODUCERS // 2, 4, replace=False) + taste[consumer] * PRODUCERS // 2
        likes[consumer, own] = True
    return sp.csr_matrix(likes * rng.integers(1, 4, likes.shape).astype(float))


@pytest.fixture(scope="module")
def partition(matrix, tmp_path_factory) -> Path:
    """The matrix as the step `matrix` commits it, in three blocks of unequal size."""
    folder = tmp_path_factory.mktemp("matrix")
    bounds = [0, 20, 55, CONSUMERS]
    for number in range(3):
        rows = matrix[bounds[number] : bounds[number + 1]]
        ids = [f"c{i:03d}".encode() for i in range(bounds[number], bounds[number + 1])]
        engagements = np.diff(rows.indptr).astype(np.int32)
        indices = rows.indices.astype(np.int32)
        block = Block(np.array(ids), engagements, rows.indptr.astype(np.int64), indices, rows.data)
        save_block(folder / "fitted" / f"block-{number:05d}", block)
    sums = np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()
    np.save(folder / "column_sums.npy", sums)
    np.save(folder / "producers.npy", np.array([b"p%d" % j for j in range(PRODUCERS)]))
    return folder


def fit(name: str, partition: Path, workers: int = 1) -> Fitted:
    """The fit, with the consumers of all workers in one array."""
    options = options_of(name)()

    def work(comm: Communicator) -> Fitted:
        share = MatrixShare(partition, comm)
        return embedder(name).fit(share, DIM, 3, options, lambda text: None)

    parts = run_threads(workers, work)
    for part in parts:
        np.testing.assert_array_equal(part.producers, parts[0].producers)
    return replace(parts[0], consumers=np.concatenate([part.consumers for part in parts]))


def test_it_embeds_every_consumer_and_producer(name, partition):
    fitted = fit(name, partition)
    assert fitted.consumers.shape == (CONSUMERS, DIM)
    assert fitted.producers.shape == (PRODUCERS, DIM)
    for vectors in (fitted.consumers, fitted.producers):
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()


def test_fitting_again_gives_the_same_bytes(name, partition):
    first = fit(name, partition)
    again = fit(name, partition)
    assert first.consumers.tobytes() == again.consumers.tobytes()
    assert first.producers.tobytes() == again.producers.tobytes()


def test_two_workers_find_what_one_finds(name, partition):
    one = fit(name, partition)
    two = fit(name, partition, workers=2)
    products = one.consumers @ one.producers.T
    np.testing.assert_allclose(two.consumers @ two.producers.T, products, atol=1e-3)


def test_engaged_pairs_score_above_other_pairs(name, partition, matrix):
    """The purpose of an embedder: the product of two vectors predicts an engagement."""
    fitted = fit(name, partition)
    scores = fitted.consumers @ fitted.producers.T
    engaged = matrix.toarray() > 0
    assert scores[engaged].mean() > 2 * scores[~engaged].mean()


def test_a_fitted_consumer_folds_in_near_its_fitted_vector(name, partition, matrix):
    fitted = fit(name, partition)
    folded = fitted.fold_in.fold(matrix)
    cosines = np.sum(folded * fitted.consumers, axis=1)
    cosines /= np.linalg.norm(folded, axis=1) * np.linalg.norm(fitted.consumers, axis=1)
    assert cosines.min() > 0.95


def test_a_folded_vector_explains_a_part_of_its_history(name, partition, matrix):
    """A vector of zeros explains nothing: its residual is 1. A kind may define none."""
    fitted = fit(name, partition)
    vectors = fitted.fold_in.fold(matrix)
    residuals = []
    for row, vector in zip(matrix, vectors, strict=True):
        engaged = fitted.producers[row.indices]
        residual = fitted.fold_in.residual(row, vector, engaged)
        if residual is not None:
            residuals.append(residual)
            zeros = fitted.fold_in.residual(row, np.zeros_like(vector), engaged)
            assert zeros == pytest.approx(1)
    assert not residuals or np.mean(residuals) < 0.95


def test_its_fold_in_survives_a_file(name, partition, matrix, tmp_path):
    model = fit(name, partition).fold_in
    save_fold_in(tmp_path / "fold_in", model)
    restored = load_fold_in(tmp_path / "fold_in")
    np.testing.assert_array_equal(restored.fold(matrix[:9]), model.fold(matrix[:9]))


def test_every_fact_is_declared_with_its_meaning(name, solver, partition):
    fitted = fit(name, partition)
    assert fitted.facts
    for fact_name in fitted.facts:
        fact = declaration(solver.FACTS, fact_name)
        assert fact is not None, f"{fact_name} is not declared"
        assert fact.meaning


def test_its_curves_can_be_drawn(name, partition):
    for curve in fit(name, partition).curves:
        assert len(curve.x) == len(curve.y) > 0
        assert np.isfinite(curve.y).all()


def test_an_unknown_option_is_refused(name):
    with pytest.raises(ValidationError, match="speed"):
        options_of(name)(speed=11)


def test_every_option_is_described(name):
    for option, field in options_of(name).model_fields.items():
        assert field.description, f"{option} has no docstring"


def test_a_name_without_a_file_is_refused_with_the_list():
    with pytest.raises(ValueError, match=r"no embedder 'pca'.*als, bag, cooccurrence, svd, towers"):
        embedder("pca")


TOY = '''
"""Consumers as random projections of what they engaged with."""

import numpy as np

from embeddings.embedders import base
from embeddings.facts import Fact
from embeddings.fold_in.svd import SVDFoldIn


class Options(base.Options):
    scale: float = 1.0
    """Length of the random directions."""


class Toy:
    FACTS = (Fact("scale", "length of the random directions", headline=True),)

    def fit(self, matrix, dim, seed, options, progress):
        rng = np.random.default_rng(seed)
        producers = options.scale * rng.normal(size=(matrix.n_producers, dim)).astype(np.float32)
        fold_in = SVDFoldIn(producers, np.maximum(matrix.column_sums, 1.0))
        consumers = fold_in.fold(matrix.by_consumer(lambda block: block))
        progress("projected")
        return base.Fitted(consumers, producers, fold_in, {"scale": options.scale})


EMBEDDER = Toy()
'''
TOY_SETTINGS = """
home = "home"
source = {kind = "edgelist", path = "edges.txt"}
embedding = {name = "toy", method = "toy", dim = 4, toy = {scale = 0.5}}
mlflow = {uri = "off"}
spark = {master = "local[2]", driver_memory = "1g"}
"""


@pytest.mark.slow
def test_a_new_embedder_is_one_new_file(tmp_path):
    """A copy of the tree with one more file: the loop publishes its vectors, fold-in and facts."""
    for package in ("embeddings", "jobs", "models"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    (tmp_path / "embeddings" / "embedders" / "toy.py").write_text(TOY)
    (tmp_path / "settings.toml").write_text(TOY_SETTINGS)
    edges = [f"u{n % 9} v{n * 7 % 5} {60 * n}" for n in range(300)]
    (tmp_path / "edges.txt").write_text("\n".join(edges) + "\n")
    evergreen = [sys.executable, "-m", "jobs.cli", "--settings", "settings.toml"]
    command = [*evergreen, "step", "publish", "--day", "1970-01-01"]
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    root = tmp_path / "home" / "registry"
    with Registry(root, f"sqlite:///{root / 'catalog.db'}") as registry:
        version = registry.version("toy")
        assert (version.lineage["method"], version.dim) == ("toy", 4)
        assert version.lineage["metrics"]["scale"] == 0.5
        assert version.entities["consumer"]["rows"] == 9
        assert "v3" in {neighbour.id for neighbour in registry.neighbours("toy", "producer:v1")}
        assert registry.fold_in("toy", {"v1": 2.0}).known == 1
