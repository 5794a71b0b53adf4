"""Several processes learn what one learns: the same losses and weights, but for rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from process_group import together

from models import checkpoint, processes
from models.checkpoint import Checkpoint
from models.features import Categorical, Day, FeatureSpec
from models.rankers.base import build, read_options
from models.training import Trained, TrainingConfig, train

SPEC = FeatureSpec(
    (Categorical("hash_item", 20, "item"), Categorical("hash_user", 9, "user")),
    ("num_x",),
    ("label_click", "label_like"),
    3,
)
OPTIONS = {
    "heavy_ranker": {"aggregation": 8, "block_width": 8, "hidden": 8, "tower": (4, 2)},
    "masknet": {"field_width": 4, "block_width": 8, "hidden": (8,)},
    "deepfm": {"hidden": (8,), "dropout": 0.2},
}
BATCH = 32
# The last batch has one row: all processes but one then have none.
ROWS = BATCH * 10 + 1


def day() -> Day:
    rng = np.random.default_rng(0)
    clicks = rng.integers(0, 2, ROWS)
    return Day(
        name="day",
        space="s",
        categories=np.stack([rng.integers(0, 20, ROWS), rng.integers(0, 9, ROWS)], axis=1),
        numbers=(rng.normal(size=(ROWS, 1)) + clicks[:, None]).astype(np.float32),
        labels=np.stack([clicks, clicks * rng.integers(0, 2, ROWS)], axis=1).astype(np.float32),
        consumer_rows=rng.integers(-1, 5, ROWS),
        producer_rows=rng.integers(-1, 5, ROWS),
        consumer_vectors=rng.normal(size=(5, 3)).astype(np.float32),
        producer_vectors=rng.normal(size=(5, 3)).astype(np.float32),
    )


def fit(
    kind: str, saved: Checkpoint | None = None, until: int = ROWS, **config: Any
) -> Trained | None:
    """One pass over the rows; None where it is killed after a number of rows."""

    class Killed(Exception):
        pass

    def progress(name: str, done: int, rows: int, loss: float) -> None:
        if done >= until < ROWS:
            raise Killed

    options = read_options(kind, OPTIONS[kind])
    cfg = TrainingConfig(batch_size=BATCH, learning_rate=1e-2, **config)
    try:
        return train([day()], SPEC, kind, options, cfg, progress, saved)
    except Killed:
        return None


def saving(kind: str, folder: Path, *arguments, **options):
    """Work that trains as `fit`, and keeps the result of every process."""

    def work() -> None:
        trained = fit(kind, *arguments, **options)
        if trained is not None:
            keep(trained, folder / f"{processes.rank()}.pt")

    return work


def keep(trained: Trained, file: Path) -> None:
    losses = torch.from_numpy(trained.losses)
    torch.save({"losses": losses} | trained.model.state_dict(), file)


def assert_equal_to(trained: Trained, file: Path) -> None:
    """The same losses and weights, but for the rounding of sums.

    Not the weights of a network with batch norms: the biases before them have gradients that are
    nothing but rounding, and Adam makes a whole step of these.
    """
    found = torch.load(file)
    whole = slice(None) if type(trained.model).__name__ == "MaskNet" else slice(ROWS // BATCH)
    losses = found.pop("losses")
    np.testing.assert_allclose(losses[whole], trained.losses[whole], rtol=2e-4, atol=1e-6)
    weights = trained.model.state_dict()
    assert found.keys() == weights.keys()
    if whole != slice(None):
        return
    for name, value in weights.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("kind", ["masknet", "heavy_ranker"])
def test_two_processes_learn_what_one_learns(tmp_path, kind):
    """Row-wise and whole gradients, batch norms, batches that cannot be halved, and one row."""
    trained = fit(kind)
    together(2, saving(kind, tmp_path))
    for rank in range(2):
        assert_equal_to(trained, tmp_path / f"{rank}.pt")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_two_processes_draw_the_same_negatives(tmp_path):
    trained = fit("masknet", negatives_kept=0.3)
    together(2, saving("masknet", tmp_path, negatives_kept=0.3))
    assert_equal_to(trained, tmp_path / "1.pt")
    assert len(trained.losses) < len(fit("masknet").losses)


@pytest.mark.parametrize("kind", ["deepfm", "heavy_ranker"])
def test_sharded_tables_are_learned_to_the_bytes_of_whole_ones(tmp_path, kind):
    """One table and two, on two processes; the first one puts them together."""
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    whole.mkdir()
    sharded.mkdir()
    together(2, saving(kind, whole))
    together(2, saving(kind, sharded, tables="sharded"))
    found, expected = torch.load(sharded / "0.pt"), torch.load(whole / "0.pt")
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of torch.compile
@pytest.mark.parametrize("config", [{"precision": "bfloat16"}, {"compiled": True}])
def test_sharded_tables_in_bfloat16_and_compiled(tmp_path, config):
    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    whole.mkdir()
    sharded.mkdir()
    together(2, saving("masknet", whole, **config))
    together(2, saving("masknet", sharded, tables="sharded", **config))
    found, expected = torch.load(sharded / "0.pt"), torch.load(whole / "0.pt")
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("tables", ["whole", "sharded"])
@pytest.mark.parametrize("kind", ["masknet", "heavy_ranker"])
def test_four_processes_learn_what_one_learns(tmp_path, kind, tables):
    together(4, saving(kind, tmp_path, tables=tables))
    assert_equal_to(fit(kind), tmp_path / "0.pt")


def test_another_number_of_processes_goes_on_from_a_checkpoint(tmp_path, monkeypatch):
    """Two are killed, one ends; then one is killed and two end: each as one from the start."""
    monkeypatch.setattr(checkpoint, "EVERY", 3)
    trained = fit("masknet")
    two, one = Checkpoint(tmp_path / "two.pt", "this"), Checkpoint(tmp_path / "one.pt", "this")
    together(2, saving("masknet", tmp_path, two, until=BATCH * 7))
    keep(fit("masknet", two), tmp_path / "alone.pt")
    assert_equal_to(trained, tmp_path / "alone.pt")
    assert fit("masknet", one, until=BATCH * 7) is None
    together(2, saving("masknet", tmp_path, one))
    assert_equal_to(trained, tmp_path / "1.pt")
    # Of the steps before the kill, the losses are those of the file, to the bit.
    np.testing.assert_array_equal(torch.load(tmp_path / "1.pt")["losses"][:6], trained.losses[:6])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((2, "sharded"), (3, "sharded")),
        ((2, "sharded"), (1, "whole")),
        ((1, "whole"), (2, "sharded")),
    ],
)
def test_another_number_of_shards_goes_on_from_a_checkpoint(tmp_path, monkeypatch, before, after):
    monkeypatch.setattr(checkpoint, "EVERY", 3)
    saved = Checkpoint(tmp_path / "checkpoint.pt", "this")
    for (count, tables), until in ((before, BATCH * 7), (after, ROWS)):
        together(count, saving("masknet", tmp_path, saved, until=until, tables=tables))
    trained = fit("masknet")
    assert_equal_to(trained, tmp_path / "0.pt")
    # Of the steps before the kill, the losses are those of the files.
    np.testing.assert_allclose(torch.load(tmp_path / "0.pt")["losses"], trained.losses, rtol=1e-4)


@pytest.mark.slow
def test_the_same_number_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    """With dropout: every process goes on with its own random state."""
    monkeypatch.setattr(checkpoint, "EVERY", 3)
    saved = Checkpoint(tmp_path / "file.pt", "this")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    together(2, saving("deepfm", whole))
    together(2, saving("deepfm", parts, saved, until=BATCH * 7))
    together(2, saving("deepfm", parts, saved))
    for name in ("0.pt", "1.pt"):
        found, expected = torch.load(parts / name), torch.load(whole / name)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_processes_that_read_different_checkpoints_stop(tmp_path, monkeypatch):
    """As on two machines whose lakes are not the same folder."""
    monkeypatch.setattr(checkpoint, "EVERY", 3)
    fit("masknet", Checkpoint(tmp_path / "file.pt", "this"), until=BATCH * 7)

    def work() -> None:
        folder = tmp_path if processes.rank() else tmp_path / "elsewhere"
        with pytest.raises(RuntimeError, match="read different checkpoints"):
            fit("masknet", Checkpoint(folder / "file.pt", "this"))

    together(2, work)


def test_a_batch_norm_is_that_of_all_rows(tmp_path):
    """Outputs, running averages and gradients of 7 rows, in float64; the shares have 3 and 4."""
    torch.manual_seed(0)
    x, wanted = torch.randn(2, 7, 3, dtype=torch.float64).unbind()
    norm = build("heavy_ranker", SPEC, read_options("heavy_ranker", OPTIONS["heavy_ranker"]))
    ours = type(norm.batch_norm)(3, momentum=0.01).double()
    theirs = torch.nn.BatchNorm1d(3, momentum=0.01).double()
    inputs = x.clone().requires_grad_()
    outputs = theirs(inputs)
    (outputs * wanted).sum().backward()

    def work() -> None:
        part = processes.share(7)
        own = x[part].clone().requires_grad_()
        result = ours(own)
        (result * wanted[part]).sum().backward()
        torch.testing.assert_close(result, outputs[part].detach())
        torch.testing.assert_close(own.grad, inputs.grad[part])
        torch.testing.assert_close(processes.total(ours.weight.grad), theirs.weight.grad)
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)
        torch.testing.assert_close(ours.running_var, theirs.running_var)

    together(2, work)


def test_a_process_alone_has_all_rows():
    assert (processes.size(), processes.rank(), processes.share(7)) == (1, 0, slice(0, 7))
