"""An exported ranker gives the probabilities of the ranker, and runs without anything of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from small_spec import SPEC

from models.admission import Rows, with_rows
from models.calibration import Calibration, Platt
from models.export import FILES, ExportError, export
from models.features import Day, FeatureSpec
from models.rankers.base import build, kinds, read_options
from models.rankers.inputs import Fields
from models.standalone import Scorer, arrays
from models.store import Saved
from models.training import predict

CALIBRATION = Calibration("2024-01-02", {"label_click": Platt(1.2, -0.3)})
SIZES = (1, 7, 1500)
# Options with which a kind takes milliseconds, where its defaults are for a much larger log.
SMALL = {"heavy_ranker": {"aggregation": 64, "block_width": 32, "hidden": 64, "tower": (32, 16)}}
# What a process without our packages runs: -I ignores PYTHONPATH and the working directory, and
# the editable install is removed. site: where onnxruntime is.
ALONE = """
import json, runpy, sys
site, *sys.argv = sys.argv[1:]
sys.path.append(site)
sys.meta_path = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "")]
for name in ("models", "embeddings", "jobs"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} can be imported: the test proves nothing")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(params=FILES)
def form(request) -> str:
    if request.param == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    return request.param


def saved(kind: str, spec: FeatureSpec = SPEC) -> Saved:
    """A ranker with weights that make a difference everywhere, as training has them."""
    torch.manual_seed(0)
    model = build(kind, spec, read_options(kind, SMALL.get(kind, {})))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return Saved(model.eval(), "author-s")


def day(n: int, spec: FeatureSpec = SPEC) -> Day:
    """Rows of which a third of the numbers and of the vectors is unknown."""
    rng = np.random.default_rng(n)
    numbers = rng.normal(size=(n, len(spec.numeric))).astype(np.float32)
    numbers[::3] = np.nan
    vectors = rng.normal(size=(10, spec.vector_dim)).astype(np.float32)
    rows = rng.integers(-5, 10, (2, n))
    return Day(
        name="2024-01-03",
        space="author-s",
        categories=np.stack([rng.integers(0, c.buckets, n) for c in spec.categorical], axis=1),
        numbers=numbers,
        labels=np.zeros((n, len(spec.labels)), np.float32),
        consumer_rows=np.maximum(rows[0], -1),
        producer_rows=np.maximum(rows[1], -1),
        consumer_vectors=vectors,
        producer_vectors=vectors,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A function: form -> a MaskNet exported in it. An export takes seconds."""

    @cache
    def export_as(form: str) -> Path:
        folder = tmp_path_factory.mktemp(form)
        ranker = saved("masknet")
        return export(ranker, "2024-01-01", "author/v", CALIBRATION, form, folder).path

    return export_as


def check(kind: str, form: str, folder: Path, spec: FeatureSpec = SPEC) -> None:
    """Export a ranker and compare it with `predict`."""
    ranker = saved(kind, spec)
    exported = export(ranker, "2024-01-01", "author/v", CALIBRATION, form, folder)
    compare(Scorer(exported.path), ranker)


def compare(scorer: Scorer, ranker: Saved) -> None:
    """Compare an export with `predict` for several numbers of rows."""
    spec = ranker.model.spec
    for n in SIZES:
        rows = day(n, spec)
        expected = predict(ranker.model, rows, "author-s")
        (batch,) = rows.batches(n)
        raw, calibrated = scorer(batch.categories, batch.numbers, batch.vectors)
        np.testing.assert_allclose(raw, expected, atol=1e-5)
        np.testing.assert_allclose(calibrated, CALIBRATION(spec.labels, expected), atol=1e-5)


def test_an_export_scores_like_the_ranker_and_says_what_it_is(form, written):
    path = written(form)
    scorer = Scorer(path)
    compare(scorer, saved("masknet"))
    card = scorer.card
    assert (card["kind"], card["trained"], card["space"]) == ("masknet", "2024-01-01", "author-s")
    assert card["embedding"] == "author/v"
    assert FeatureSpec.from_json(json.dumps(card["spec"])) == SPEC
    assert Calibration.from_json(json.dumps(card["calibration"])) == CALIBRATION
    assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds())
def test_every_kind_can_be_exported(kind, form, tmp_path):
    check(kind, form, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("lacking", [{"numeric": ()}, {"vector_dim": 0}])
def test_a_ranker_without_numbers_or_vectors_can_be_exported(lacking, form, tmp_path):
    check("masknet", form, tmp_path, replace(SPEC, **lacking))


@pytest.mark.parametrize("form", ["onnx", pytest.param("torch", marks=pytest.mark.slow)])
def test_a_ranker_in_which_some_buckets_share_a_vector_can_be_exported(form, tmp_path):
    """Each row of the export is read by the bucket that the ranker reads it by."""
    pytest.importorskip("onnxruntime" if form == "onnx" else "torch")
    admitted = np.random.default_rng(0).random(28) < 0.5
    rows = Rows.of(SPEC, admitted)
    ranker = saved("deepfm", with_rows(SPEC, rows))  # with two tables
    for module in ranker.model.modules():
        if isinstance(module, Fields):
            module.row_of_R.copy_(torch.from_numpy(rows.of_bucket))
    exported = export(ranker, "2024-01-01", "author/v", CALIBRATION, form, tmp_path)
    scorer = Scorer(exported.path)
    compare(scorer, ranker)
    assert [
        column["rows"] for column in scorer.card["spec"]["categorical"]
    ] == rows.sizes().tolist()


@pytest.mark.parametrize("form", ["onnx", pytest.param("torch", marks=pytest.mark.slow)])
def test_an_export_runs_where_nothing_of_ours_is_installed(form, written):
    """The folder is all it needs: a row of texts and numbers, and one of which nothing is known."""
    runtime = pytest.importorskip("onnxruntime" if form == "onnx" else "torch")
    path = written(form)
    ranker = saved("masknet")
    site = str(Path(runtime.__file__).parents[1])
    command = [sys.executable, "-I", "-c", ALONE, site, "score.py", path.name, "rows.json"]
    finished = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    rows = json.loads((path.parent / "rows.json").read_text())
    inputs = arrays(rows, Scorer(path).card["spec"])
    with torch.inference_mode():
        logits = ranker.model(*map(torch.from_numpy, inputs.values()))
    expected = CALIBRATION(SPEC.labels, torch.sigmoid(logits).numpy())
    for line, row in zip(finished.stdout.splitlines(), expected, strict=True):
        assert list(json.loads(line)) == list(SPEC.labels)
        np.testing.assert_allclose(list(json.loads(line).values()), row, atol=1e-5)


def test_an_export_that_scores_differently_is_refused(tmp_path, monkeypatch):
    """As with a runtime that computes an operation in its own way."""
    called = Scorer.__call__
    monkeypatch.setattr(Scorer, "__call__", lambda *given: [p + 2e-5 for p in called(*given)])
    with pytest.raises(ExportError, match=r"differ by 2e-05.*at most 1e-05 was expected"):
        export(saved("logistic"), "2024-01-01", "", CALIBRATION, "torch", tmp_path)


def test_onnx_without_its_packages_is_a_named_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"pip install 'evergreen\[export\]'"):
        export(saved("logistic"), "2024-01-01", "", CALIBRATION, "onnx", tmp_path)
