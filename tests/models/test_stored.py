"""Examples that stay in their files: what is read of them is what arrays in memory would hold."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models import stored
from models.features import Categorical, Day, FeatureSpec, InvalidExamples
from models.rankers.base import kinds, read_options
from models.row_statistics import statistics_of
from models.stored import StoredDay
from models.training import TrainingConfig, train

SPEC = FeatureSpec(
    categorical=(Categorical("hash_item", 20, "item"), Categorical("hash_hour", 5, "hour")),
    numeric=("num_x", "num_y"),
    labels=("label_click",),
    vector_dim=3,
)
ROWS = 331


def rows(seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    x = rng.lognormal(3, 2, ROWS).astype(np.float32)
    return pa.table(
        {
            "hash_item": rng.integers(0, 20, ROWS).astype(np.int32),
            "hash_hour": rng.integers(0, 5, ROWS).astype(np.int32),
            "num_x": pa.array(x, mask=rng.random(ROWS) < 0.2),
            "num_y": rng.normal(1000, 1e-2, ROWS).astype(np.float32),
            "label_click": (rng.random(ROWS) < 0.4).astype(np.int8),
            "consumer_row": rng.integers(-1, 7, ROWS),
            "producer_row": rng.integers(-1, 7, ROWS),
        }
    )


def on_disk(folder: Path, table: pa.Table, lengths: list[int], name: str = "a") -> StoredDay:
    """The rows in files of these lengths; the last file has the rest."""
    folder.mkdir()
    files = []
    start = 0
    for number, length in enumerate([*lengths, table.num_rows - sum(lengths)]):
        files.append(folder / f"part-{number}.parquet")
        pq.write_table(table.slice(start, length), files[-1], row_group_size=50)
        start += length
    vectors = np.random.default_rng(9).normal(size=(2, 7, 3)).astype(np.float32)
    return StoredDay(name, "s", tuple(files), SPEC, True, *vectors)


def in_memory(table: pa.Table, day: StoredDay) -> Day:
    vectors = (day.consumer_vectors, day.producer_vectors)
    return Day.from_table(day.name, table, SPEC, "s", *vectors)


def assert_same(found, expected) -> None:
    """Two lists of batches or of days, to the bit."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for field in fields(other):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@pytest.mark.parametrize("lengths", [[], [1], [0, 100, 0, 64, 30], [64, 64, 64], [330]])
@pytest.mark.parametrize("size", [1, 64, 100, 331, 1000])
def test_batches_and_pieces_do_not_depend_on_the_files(tmp_path, monkeypatch, lengths, size):
    """They are the same slices of all rows, whichever files, row groups and pieces these are in."""
    monkeypatch.setattr(stored, "PIECE", 128)
    table = rows(0)
    day = on_disk(tmp_path / "day", table, lengths)
    expected = in_memory(table, day)
    assert len(day) == len(expected)
    assert_same([day.load()], [expected])
    assert_same(list(day.batches(size)), list(expected.batches(size)))
    assert_same(list(day.pieces(size)), list(expected.pieces(size)))
    assert_same(list(day.masked().batches(size)), list(expected.masked().batches(size)))


def test_training_from_files_gives_the_weights_of_training_in_memory(tmp_path, monkeypatch):
    """To the bit, with a day that is masked, whatever the size of the pieces."""
    monkeypatch.setattr(stored, "PIECE", 64)
    monkeypatch.setattr("models.row_statistics.BLOCK", 100)
    tables = [rows(1), rows(2)]
    days = [on_disk(tmp_path / f"{n}", table, [40, 99], str(n)) for n, table in enumerate(tables)]
    loaded = [in_memory(table, day) for table, day in zip(tables, days, strict=True)]
    cfg = TrainingConfig(batch_size=32, learning_rate=1e-2)
    kind = kinds()[0]
    weights = []
    for pair in (days, loaded):
        window = [pair[0].masked(), pair[1]]
        model = train(window, SPEC, kind, read_options(kind, {}), cfg).model
        weights.append(model.state_dict())
    for name, tensor in weights[1].items():
        np.testing.assert_array_equal(weights[0][name].numpy(), tensor.numpy())


def test_statistics_over_blocks_are_those_of_all_rows(tmp_path, monkeypatch):
    """Also of a column whose deviation is a hundred-thousandth of its mean."""
    monkeypatch.setattr("models.row_statistics.BLOCK", 37)
    table = rows(3)
    found = statistics_of([on_disk(tmp_path / "day", table, [200])])
    numbers = np.stack([table[name].to_numpy() for name in SPEC.numeric], axis=1)
    exact = numbers.astype(np.float64)
    np.testing.assert_allclose(found.mean_N, np.nanmean(exact, axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.std_N, np.nanstd(exact, axis=0), rtol=1e-10)
    logs = (np.sign(numbers) * np.log1p(np.abs(numbers))).astype(np.float64)
    np.testing.assert_allclose(found.log_mean_N, np.nanmean(logs, axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.log_std_N, np.nanstd(logs, axis=0), rtol=1e-10)


def test_files_are_opened_when_their_rows_are_needed(tmp_path, monkeypatch):
    """A file that is gone is no obstacle to the rows before it, and an error at its own rows."""
    monkeypatch.setattr(stored, "PIECE", 32)
    day = on_disk(tmp_path / "day", rows(4), [100, 100])
    day.files[-1].unlink()
    read = 0
    with pytest.raises(FileNotFoundError, match="part-2"):
        for batch in day.batches(32):
            read += len(batch.labels)
    assert read == 192  # the whole pieces of the first two files


def test_a_wrong_value_in_a_file_is_named_before_training(tmp_path):
    table = rows(5)
    wrong = pa.array(np.full(ROWS, 20, np.int32))
    day = on_disk(tmp_path / "day", table.set_column(0, "hash_item", wrong), [])
    kind = kinds()[0]
    with pytest.raises(InvalidExamples, match="a: 'hash_item' has a bucket outside of 0 to 19"):
        train([replace(day)], SPEC, kind, read_options(kind, {}), TrainingConfig())
