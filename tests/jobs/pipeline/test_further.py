"""Further embeddings of one matrix, side by side with the first, on a small log of edges."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from jobs.errors import SettingsError
from jobs.parts import DATA_STEPS, LEARNING_STEPS, STEPS
from jobs.pipeline import backfill, garbage
from jobs.pipeline.loop import run_days
from jobs.pipeline.plan import tracked
from jobs.pipeline.status import status
from jobs.pipeline.verify import repair, verify
from jobs.settings import Settings, load_settings
from jobs.tuning.objectives import retrieval, retrieval_days

DAYS = [date(2024, 3, 1), date(2024, 3, 2)]
SETTINGS = """
home = "home"
[source]
kind = "edgelist"
path = "edges"
[matrix]
producers = 30
[embedding]
name = "first"
dim = 4
[further.twin]
dim = 4
[further.other]
method = "als"
dim = 3
[mlflow]
uri = "off"
[spark]
master = "local[2]"
"""


@pytest.fixture(scope="module")
def loop(tmp_path_factory, spark):
    """Settings of a log of two days with three embeddings, and the board after their run."""
    folder = tmp_path_factory.mktemp("further")
    (folder / "edges").mkdir()
    for day in DAYS:
        write_day(folder / "edges", day)
    (folder / "settings.toml").write_text(SETTINGS)
    settings = load_settings(folder / "settings.toml")
    # A file where the folder of its first step belongs: this embedding cannot be computed.
    broken = settings.home / "lake" / "embed@other"
    broken.parent.mkdir(parents=True)
    broken.touch()
    board, reasons = run_days(settings, DAYS[0], DAYS[0])
    assert reasons[DAYS[0], "other"].startswith("embed: ")
    broken.unlink()
    return settings, board, run_days(settings, DAYS[0], DAYS[1])[0]


def write_day(folder: Path, day: date) -> None:
    midnight = (day - date(1970, 1, 1)).days * 86_400
    rows = [f"u{n % 23} v{n * 7 % 31} {midnight + 60 * n}" for n in range(200)]
    (folder / f"{day}.txt").write_text("\n".join(rows) + "\n")


def vectors(settings: Settings, name: str) -> np.ndarray:
    """The producers of an embedding on the last day."""
    found = settings.open_registry().get(name, "producer", ["v1", "v5", "v30"], day=DAYS[1])
    return found.vectors


def test_one_that_fails_stops_no_other(loop):
    _, first, second = loop
    assert first.failed() == [(DAYS[0], "other")]
    assert {first.cell(DAYS[0], step).state for step in (*DATA_STEPS, *LEARNING_STEPS)} == {"done"}
    assert first.cell(DAYS[0], "twin").state == "done"
    assert second.cell(DAYS[0], "twin").state == "reused"
    assert second.cell(DAYS[0], "other").state == "done"


def test_the_same_options_give_the_same_vectors_under_another_name_and_in_another_space(loop):
    settings, *_ = loop
    assert np.array_equal(vectors(settings, "twin"), vectors(settings, "first"))
    assert vectors(settings, "other").shape == (3, 3)
    versions = {}
    for name in ("first", "twin", "other"):
        versions[name] = settings.open_registry().versions(name)[-1]
    assert len({version.space for version in versions.values()}) == 3
    assert versions["other"].lineage["method"] == "als"


def test_the_data_is_shared_and_what_is_learned_is_not(loop):
    settings, *_ = loop
    other = settings.of_embedding("other")
    for step in DATA_STEPS:
        assert other.lake.get(step, DAYS[0]) == settings.lake.get(step, DAYS[0])
    for step in LEARNING_STEPS:
        assert other.lake.get(step, DAYS[0]).path != settings.lake.get(step, DAYS[0]).path
    assert set(settings.lake.steps()) == set(other.lake.steps())
    assert [tracked(other, step).part for step in ("matrix", "embed")] == [
        "embeddings",
        "embeddings@other",
    ]


def test_each_is_judged_and_its_reports_are_its_own(loop):
    settings, *_ = loop
    other = settings.of_embedding("other")
    registry = settings.open_registry()
    results = registry.results(registry.versions("other")[0])
    assert "retrieval" in {result.task for result in results}
    assert other.report("embed", DAYS[0]).parent.name == "embed@other"
    assert list(other.report("embed", DAYS[0]).iterdir())


def test_status_and_backfill_know_every_embedding(loop):
    settings, *_ = loop
    found = {part.part: part for part in status(settings, datetime.now(UTC)).parts}
    assert list(found) == ["data", "embeddings", "twin", "other", "ranker"]
    assert found["other"].current_days == len(DAYS)
    slower = settings.further["other"].model_copy(update={"seed": 1})
    changed = settings.model_copy(update={"further": settings.further | {"other": slower}})
    plan = backfill.days_of(changed, DAYS[1], DAYS[1], changed=True)
    assert [step for step in plan[0].to_run if step not in STEPS] == [
        f"{step}@other" for step in LEARNING_STEPS
    ]


def test_damage_is_named_with_the_embedding_and_repaired(loop):
    settings, *_ = loop
    lake = settings.of_embedding("twin").lake
    before = lake.get("align", DAYS[0])
    (before.path / "producers.npy").write_bytes(b"damaged")
    damaged = verify(settings)
    assert [(fault.name, fault.embedding) for fault in damaged] == [
        (f"align@twin/{DAYS[0]}", "twin")
    ]
    assert repair(settings, damaged) == []
    assert lake.get("align", DAYS[0]).digest == before.digest


@pytest.mark.parametrize("name", ["twin", "other"])
def test_the_champion_of_a_further_embedding_is_what_a_day_has_judged(loop, name):
    """The ranker decides about the first one, and there is none."""
    registry = loop[0].open_registry()
    assert registry.alias(name, "champion").day == DAYS[0]
    assert registry.history(name, "champion")[0].moved_by == "publish"
    assert registry.aliases("first").keys() == {"latest"}


def test_garbage_is_that_of_every_embedding(loop):
    settings, *_ = loop
    found = garbage.find(settings, keep=1)
    folders = {partition.path.parent.parent.name for partition in found.partitions}
    # The newest day was judged with the vectors of the day before, and is aligned with them.
    assert folders >= {"lookalike", "lookalike@twin", "lookalike@other"}
    assert folders.isdisjoint({"align", "align@twin", "align@other", "matrix"})
    assert {partition.day for partition in found.partitions} == {DAYS[0]}
    # Those of the others are what their alias `champion` points at.
    assert {version.name for version in found.versions} == {"first"}


def test_an_embedding_that_does_not_exist_is_named(loop):
    with pytest.raises(SettingsError, match="no embedding 'third'. The settings have: first, twin"):
        loop[0].of_embedding("third")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[further.producer]\ndim = 2", "further.producer: .embedding. has this name"),
        ('[further.a]\nname = "b"', "a.name: the name of the table is that of the embedding"),
        ('[further.a]\nmethod = "lsa"', "further.a: method: unknown name 'lsa'"),
        ("[further.a]\ndims = 2", "unknown option 'dims'; did you mean dim?"),
        ('[further."a/b"]\ndim = 2', "expected 1 to 100 letters"),
        ("[further.a]\ndim = 8\n[benchmark]\nlengths = [8]", "further.a.dim, which is 8"),
        ("[further.producers]\ndim = 8", "table of features"),
    ],
)
def test_a_table_that_cannot_be_an_embedding_is_refused_by_name(tmp_path, text, fault):
    file = tmp_path / "settings.toml"
    file.write_text(f'[source]\nkind = "edgelist"\npath = "log"\n{text}\n')
    with pytest.raises(SettingsError, match=fault):
        load_settings(file)


def test_their_order_in_the_file_and_another_one_make_nothing_stale(tmp_path):
    """What is computed of one embedding does not depend on which others there are."""
    base = '[source]\nkind = "edgelist"\npath = "log"\n'
    digests = []
    for text in ("[further.a]\ndim = 2", "[further.b]\ndim = 3\n[further.a]\ndim = 2"):
        file = tmp_path / "settings.toml"
        file.write_text(base + text)
        settings = load_settings(file)
        of_a = settings.of_embedding("a")
        digests.append((settings.digest("embedding"), of_a.digest("matrix", "embedding")))
    assert digests[0] == digests[1]


def test_yesterdays_space_goes_on_for_each(loop):
    settings, *_ = loop
    for each in settings.of_each_embedding():
        spaces = {each.lake.get("align", day).facts["space"] for day in DAYS}
        assert len(spaces) == 1
        assert each.lake.days("align") == [DAYS[0], DAYS[0] + timedelta(days=1)]


@pytest.mark.parametrize("name", ["first", "other"])
def test_a_trial_is_worth_what_the_benchmark_finds(loop, name):
    """The settings as they are, on the day after the first, through the steps and without them."""
    settings = loop[0].of_embedding(name)
    recorded = settings.lake.get("benchmark", DAYS[1]).facts["retrieval_ndcg20"]
    assert retrieval_days(settings) == [DAYS[1]]
    assert retrieval(settings, DAYS[1]) == pytest.approx(recorded, abs=1e-4)
