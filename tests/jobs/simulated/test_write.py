"""The files of `evergreen simulate`, read by other tools and by our own reader of logs."""

from __future__ import annotations

import dataclasses
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.errors import EvergreenError
from jobs.settings import load_settings
from jobs.simulated.write import write
from jobs.sources import open_source
from simulation.engagements import KINDS, blocks, impressions
from simulation.world import World

WORLD = World(consumers=20_000, producers=60, topics=4, impressions=0.1)
FIRST = date(2024, 3, 1)
TABLES = {
    "impressions",
    "truth",
    "consumers",
    "items",
    "texts",
    "signups",
    "visits",
    "contacts",
    "emails",
    "labels",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "world"
    parts: list[None] = []
    written = write(WORLD, FIRST, 2, folder, lambda: parts.append(None))
    assert len(parts) == 2 * blocks(WORLD)
    assert written.impressions == sum(len(impressions(WORLD, day)) for day in range(2))
    return folder


def test_every_table_has_a_file_for_every_day(folder):
    for table in TABLES:
        names = sorted(file.name for file in (folder / table).iterdir())
        assert names == ["2024-03-01.parquet", "2024-03-02.parquet"]
    assert {each.name for each in folder.iterdir() if each.is_dir()} == TABLES
    second = {table: pq.read_table(folder / table / "2024-03-02.parquet") for table in TABLES}
    for table, rows in second.items():
        assert rows.num_rows, table


def test_the_profiles_have_the_domains_that_were_visited_before_the_sign_up(folder):
    profiles = pq.read_table(folder / "consumers" / "2024-03-02.parquet")
    visits = pq.read_table(folder / "visits" / "2024-03-02.parquet")
    expected: dict[str, list[str]] = {}
    for visit in visits.to_pylist():
        expected.setdefault(visit["consumer_id"], []).append(visit["domain"])
    found = {}
    for profile in profiles.select(["consumer_id", "domain"]).to_pylist():
        if profile["domain"] is not None:
            found[profile["consumer_id"]] = profile["domain"]
    assert len(found) > 100
    assert found == expected  # nobody else has signed up: the log begins a day before


def test_our_own_reader_has_the_same_rows_on_the_same_days(folder):
    source = open_source(load_settings(folder / "evergreen.toml"))
    assert source.span() == (FIRST, date(2024, 3, 2))
    for number, day in enumerate((FIRST, date(2024, 3, 2))):
        assert source.notes(day) == {"log_rows": len(impressions(WORLD, number))}
    for file in source.log.files:
        assert not file.account.faults


def test_the_files_have_the_labels_and_their_truth_row_by_row(folder):
    shown = impressions(WORLD, 1)
    rows = pq.read_table(folder / "impressions" / "2024-03-02.parquet")
    truth = pq.read_table(folder / "truth" / "2024-03-02.parquet")
    assert rows["consumer_id"].to_pylist() == [f"c{number}" for number in shown.consumers]
    for number, kind in enumerate(KINDS):
        np.testing.assert_array_equal(rows[kind], shown.labels[:, number])
        np.testing.assert_array_equal(truth[kind], shown.probabilities[:, number])


def test_more_days_join_those_that_are_there_with_the_same_bytes(folder):
    before = {file: file.read_bytes() for file in folder.rglob("*.parquet")}
    write(WORLD, FIRST, 3, folder, lambda: None)
    for file, content in before.items():
        assert file.read_bytes() == content
    for table in TABLES:
        (folder / table / "2024-03-03.parquet").unlink()


def test_a_folder_with_something_else_is_refused(folder, tmp_path):
    other = dataclasses.replace(WORLD, seed=1)
    with pytest.raises(EvergreenError, match="has another world"):
        write(other, FIRST, 1, folder, lambda: None)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(EvergreenError, match="is not empty"):
        write(WORLD, FIRST, 1, tmp_path, lambda: None)


def test_the_command_says_what_it_has_written_and_how_to_run_it(tmp_path):
    out = tmp_path / "new"
    options = ["--days", "1", "--consumers", "500", "--producers", "20", "--shock", "2024-01-01"]
    result = CliRunner().invoke(app, ["simulate", "--out", str(out), *options])
    assert result.exit_code == 0, result.output
    rows = pq.read_table(out / "impressions" / "2024-01-01.parquet").num_rows
    assert f"{rows} impressions on 1 day" in result.output
    assert f"evergreen --settings {out}/evergreen.toml run --from 2024-01-01" in result.output


def test_an_impossible_option_is_named_before_anything_is_written(tmp_path):
    out = tmp_path / "new"
    result = CliRunner().invoke(app, ["simulate", "--out", str(out), "--consumers", "0"])
    assert result.exit_code == 1
    assert "no such world: consumers" in result.output
    assert not out.exists()
