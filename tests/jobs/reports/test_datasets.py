"""The public data sets: their layouts on small files, and the files themselves where present."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from jobs.reports.datasets import LASTFM, MOVIELENS, READERS, public_data

DATA = os.environ.get("EVERGREEN_DATA", "")


def write_gz(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(text.encode()))


def test_lastfm_is_read_in_its_layout(tmp_path):
    """Windows line ends, ids with gaps; a strength is log(1 + listening count)."""
    text = "userID\tartistID\tweight\r\n7\t52\t100\r\n2\t51\t1\r\n7\t51\t0\r\n"
    write_gz(tmp_path / LASTFM, text)
    (lastfm,), _ = public_data(tmp_path)
    np.testing.assert_allclose(lastfm.strengths.toarray(), [[np.log(2), 0], [0, np.log(101)]])


def test_movielens_keeps_liked_films_only(tmp_path):
    write_gz(tmp_path / MOVIELENS, "1\t10\t5\t0\n1\t20\t3\t0\n3\t20\t4\t0\n")
    (movielens,), _ = public_data(tmp_path)
    np.testing.assert_array_equal(movielens.strengths.toarray(), [[1, 0], [0, 1]])


def test_a_missing_file_is_reported_with_the_remedy(tmp_path):
    data_sets, messages = public_data(tmp_path)
    assert data_sets == []
    assert [message.split(":")[0] for message in messages] == [
        "lastfm left out",
        "ml-100k left out",
    ]
    for message, file in zip(messages, (LASTFM, MOVIELENS), strict=True):
        assert f"{tmp_path} has no {file}" in message
        assert "--data or EVERGREEN_DATA" in message


def test_without_a_folder_no_data_set_is_looked_for():
    """A run without a folder measures no public data, and the messages explain how to name one."""
    data_sets, messages = public_data(None)
    assert data_sets == []
    assert len(messages) == len(READERS)
    for message in messages:
        assert "no data folder is set" in message
        assert "--data or EVERGREEN_DATA" in message


@pytest.mark.parametrize(
    ("name", "shape", "n_pairs"),
    [("lastfm", (1892, 17632), 92834), ("ml-100k", (942, 1447), 55375)],
)
def test_the_real_file_has_its_published_size(name, shape, n_pairs):
    file, reader = READERS[name]
    if not DATA:
        pytest.skip(f"EVERGREEN_DATA is not set: name the folder that contains {file}")
    if not (Path(DATA) / file).exists():
        pytest.skip(f"EVERGREEN_DATA is {DATA}, which has no {file}")
    strengths = reader(Path(DATA) / file).strengths
    assert strengths.shape == shape
    assert strengths.nnz == n_pairs
