"""What a logged model carries: every module of ours that it imports, and no other."""

from __future__ import annotations

import re
import sys

import fresh_process
import mlflow
import numpy as np
import pytest
import torch

from models import serving
from models.features import Categorical, FeatureSpec
from models.packaging import REQUIREMENTS, copy_code, logging_arguments, sources
from models.rankers.base import build, kinds, read_options
from models.store import load, save
from models.training import predict

SPEC = FeatureSpec((Categorical("hash_item", 9, "item"),), ("num_x",), ("label_click",), 4)
KIND = kinds()[0]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A saved model with random weights."""
    # Not every part of MLflow takes a path as it is.
    home = tmp_path_factory.mktemp("trained") / "h%20 [1]?#é" / "trained"
    torch.manual_seed(0)
    save(home, build(KIND, SPEC, read_options(KIND, {})), "author-s")
    return home


@pytest.fixture
def tracking_server(tmp_path):
    """MLflow on a database of its own, for one test."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = mlflow.create_experiment("ranker", (tmp_path / "artifacts").as_uri())
    yield experiment
    mlflow.set_tracking_uri(before)


@pytest.mark.slow
def test_a_model_logged_to_mlflow_runs_without_our_packages(home, tracking_server, tmp_path):
    """Its artifacts are downloaded, and scored in a process that can import nothing of ours."""
    with mlflow.start_run(experiment_id=tracking_server):
        arguments = logging_arguments(home, tmp_path / "code")
        logged = mlflow.pyfunc.log_model(name="ranker", **arguments)
    artifacts = mlflow.artifacts.download_artifacts(
        logged.model_uri, dst_path=str(tmp_path / "downloaded")
    )
    table = serving.input_example(home)
    scores, modules = fresh_process.score(artifacts, table, tmp_path)
    rows = serving.as_day(table, SPEC, "author-s")
    np.testing.assert_array_equal(scores, predict(load(home).model, rows, "author-s"))
    assert modules["models"].is_relative_to(tmp_path / "downloaded")


def test_the_code_is_what_is_imported_and_no_more(tmp_path):
    """The kind's own file and those below it; no other ranker, no metrics, no fold-in kernels."""
    packages = copy_code([serving.__name__, f"models.rankers.{KIND}"], tmp_path)
    copied = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.py")}
    assert [package.name for package in packages] == ["embeddings", "models"]
    assert {
        "models/__init__.py",
        "models/serving.py",
        "models/store.py",
        f"models/rankers/{KIND}.py",
        "models/rankers/base.py",
        "embeddings/__init__.py",
        "embeddings/registry/errors.py",
    } <= copied
    unneeded = re.compile(r"metrics|packaging|kernels|embedders|fold_in|catalog|service")
    assert [file for file in copied if unneeded.search(file)] == []


def test_an_import_inside_a_function_is_followed(tmp_path, monkeypatch):
    """And so are the packages around a module, since importing it runs their __init__.py."""
    (tmp_path / "lazy_probe.py").write_text("def f():\n    from models import losses\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert set(sources(["lazy_probe"])) == {"lazy_probe", "models", "models.losses"}


def test_an_import_for_type_checkers_is_not_followed(tmp_path, monkeypatch):
    """It never runs, unlike the `else` branch."""
    (tmp_path / "typed_probe.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from models import training\n"
        "else:\n    from models import losses\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert set(sources(["typed_probe"])) == {"typed_probe", "models", "models.losses"}


def test_every_library_that_the_code_imports_is_required(tmp_path):
    """The requirements name each third-party package that the copied files import at their top."""
    copy_code([serving.__name__, f"models.rankers.{KIND}"], tmp_path)
    imported = set()
    for file in tmp_path.rglob("*.py"):
        imported |= set(re.findall(r"^(?:from|import) (\w+)", file.read_text(), re.MULTILINE))
    required = {re.split("[=<>]", requirement)[0] for requirement in REQUIREMENTS}
    assert imported - sys.stdlib_module_names - {"models", "embeddings"} == required
