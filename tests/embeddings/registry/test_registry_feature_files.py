"""A table of one's own, from a file: its ids, its texts and its numbers."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from registry_parts import DAY

from embeddings.registry.errors import BadRequest
from embeddings.registry.feature_files import read_table

CSV = 'id,name,code,fans\n9,"Ann, of the\nsea",007,1.5\n10,José,1e5,\n5,,NULL,-2\n'


@pytest.fixture
def file(tmp_path):
    return tmp_path / "features.csv"


def test_texts_of_a_csv_file_stay_as_they_are_written(file):
    """A name is no number, whatever it looks like; what is said to be one has holes."""
    file.write_text(CSV)
    ids, columns = read_table(file, numeric=["fans"])
    assert ids.tolist() == [b"10", b"5", b"9"]
    assert columns["name"].tolist() == ["José".encode(), b"", b"Ann, of the\nsea"]
    assert columns["code"].tolist() == [b"1e5", b"NULL", b"007"]
    np.testing.assert_array_equal(columns["fans"], [np.nan, -2, 1.5])


def test_parquet_knows_its_types(file):
    written = {
        "who": pa.array([2**60, 7], pa.int64()),
        "fans": pa.array([3, None], pa.int32()),
        "is_new": pa.array([True, False]),
        "kind": pa.array(["a", None]).dictionary_encode(),
    }
    pq.write_table(pa.table(written), file)
    ids, columns = read_table(file, "who")
    assert ids.tolist() == [str(2**60).encode(), b"7"]
    np.testing.assert_array_equal(columns["fans"], [3, np.nan])
    np.testing.assert_array_equal(columns["is_new"], [1, 0])
    assert columns["kind"].tolist() == [b"a", b""]


BAD = {
    "no column of ids": (b"who,name\n1,a\n", "no column 'id'.*'who', 'name'"),
    "an id twice": (b"id,name\n7,a\n7,b\n", "the id '7' more than once"),
    "an empty id": (b"id,name\n7,a\n,b\n", "row 2 has no id"),
    "a column twice": (b"id,name,name\n7,a,b\n", "the column 'name' twice"),
    "a row that is cut": (b"id,name\n7,a\n8\n", "cannot be read as a table.*2 columns, got 1"),
    "not UTF-8": (b"id,name\n7,Jos\xe9\n", "cannot be read as a table.*UTF"),
    "a text without an end": (b"id,name\n7," + 300 * b"x" + b"\n", "'name'.* 300 bytes in row 1"),
    "nothing": (b"", "cannot be read as a table.*[Ee]mpty"),
    "a cut Parquet file": (b"PAR1 and no more", "cannot be read as a table"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_file_that_is_no_table_is_refused_with_its_fault(file, fault):
    content, message = BAD[fault]
    file.write_bytes(content)
    with pytest.raises(BadRequest, match=f"(?s)features.csv.*{message}"):
        read_table(file)


def test_what_is_no_number_is_named(file):
    file.write_text("id,fans\n1,many\n")
    with pytest.raises(
        BadRequest, match=r"features.csv: the column 'fans' must hold numbers.*many"
    ):
        read_table(file, numeric=["fans"])


def test_a_file_that_is_not_there_is_named(file):
    with pytest.raises(BadRequest, match=r"features.csv cannot be read.*No such file"):
        read_table(file)


@pytest.mark.parametrize("type_", [pa.list_(pa.int64()), pa.timestamp("s")])
def test_what_is_neither_number_nor_text_is_named(file, type_):
    pq.write_table(pa.table({"id": ["a"], "many": pa.array([None], type_)}), file)
    with pytest.raises(BadRequest, match=r"'many' is .*; a feature is a number or a text"):
        read_table(file)


def test_the_command_publishes_what_features_reads(run, file):
    file.write_text(CSV)
    printed = run("publish-features", "called", "producer", str(file), "--day", str(DAY))
    assert printed.stdout == f"called/{DAY}.r1: 3 rows of name, code, fans\n"
    read = run("features", "producer", "10", "--feature", "called.name", "--json")
    assert json.loads(read.stdout)["rows"][0]["features"] == {"called.name": "José"}
    again = run("publish-features", "called", "producer", str(file), "--day", "yesterday")
    assert (again.exit_code, again.stderr) == (
        1,
        "'yesterday' is no day; write it as in 2022-04-25.\n",
    )
