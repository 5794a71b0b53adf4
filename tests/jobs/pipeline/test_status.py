"""`evergreen status`, `backfill`, `verify` and `gc`, on a home that is committed by hand."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from prepared import complete, validated
from typer.testing import CliRunner

from jobs.cli import app
from jobs.errors import EvergreenError
from jobs.lake.integrity import seen_file
from jobs.parts import STEPS
from jobs.pipeline import backfill, garbage
from jobs.pipeline.plan import writing
from jobs.pipeline.published import content_id
from jobs.pipeline.status import Status, status
from jobs.pipeline.verify import verify, verify_some
from jobs.settings import Settings, load_settings
from jobs.sources import reopen_sources

DAYS = [date(2024, 3, 1) + timedelta(days=n) for n in range(4)]
NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)  # of the day after the last
SETTINGS = """
home = "home"
[source]
kind = "edgelist"
path = "log"
[matrix]
window_days = 2
[validation]
median_days = 1
[ranker]
start_day = "2024-03-01"
window_days = 2
[mlflow]
uri = "off"
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A home of four days, of which the first three are complete."""
    folder = tmp_path_factory.mktemp("status")
    (folder / "log").mkdir()
    for day in DAYS:
        write_day(folder, day)
    (folder / "settings.toml").write_text(SETTINGS)
    settings = load_settings(folder / "settings.toml")
    for day in DAYS[:3]:
        complete(settings, day, anchor=DAYS[0], champion=str(DAYS[0]))
    return folder


@pytest.fixture
def folder(prepared, tmp_path, monkeypatch) -> Path:
    """A copy of it."""
    # A command exports the file that --settings names; monkeypatch takes it back.
    monkeypatch.setenv("EVERGREEN_SETTINGS", "")
    shutil.copytree(prepared, tmp_path / "copy")
    reopen_sources()
    return tmp_path / "copy"


@pytest.fixture
def settings(folder) -> Settings:
    return load_settings(folder / "settings.toml")


def write_day(folder: Path, day: date, producer: str = "p1") -> None:
    seconds = (day - date(1970, 1, 1)).days * 86_400
    (folder / "log" / f"{day}.txt").write_text(f"c1 {producer} {seconds}\n")


def waiting(found: Status) -> dict[str, dict[date, tuple[int, str]]]:
    """Part -> day -> number of steps to run, and why."""
    parts = {}
    for part in found.parts:
        parts[part.part] = {s.day: (len(s.to_run), s.why) for s in part.waiting}
    return parts


def run(folder: Path, *arguments: str):
    return CliRunner().invoke(app, ["--settings", str(folder / "settings.toml"), *arguments])


def test_complete_days_are_current_and_a_new_one_is_waiting(settings):
    found = status(settings, NOON)
    fresh = {DAYS[3]: (3, "land is missing")}
    assert waiting(found)["data"] == fresh
    assert waiting(found)["embeddings"] == {DAYS[3]: (8, "matrix is missing")}
    assert waiting(found)["ranker"] == {DAYS[3]: (5, "examples is missing")}
    data, embeddings, ranker = found.parts
    assert {part.newest for part in found.parts} == {DAYS[2]}
    assert (data.age_days, embeddings.current_days, ranker.current_days) == (2, 3, 3)
    assert (found.today, found.champion) == (date(2024, 3, 5), str(DAYS[0]))


def test_a_corrected_file_is_the_reason_wherever_its_rows_have_gone(folder, settings):
    write_day(folder, DAYS[1], "another")
    reopen_sources()
    found = waiting(status(settings, NOON))
    assert found["data"][DAYS[1]] == (3, f"land: {DAYS[1]}.txt has changed")
    why = f"land/{DAYS[1]}: {DAYS[1]}.txt has changed"
    # Its rows are in the window of the day after, and that day's version in the rankers' examples.
    assert found["embeddings"][DAYS[2]] == (8, why)
    assert DAYS[0] not in found["embeddings"]


@pytest.mark.parametrize(
    ("section", "option", "first_step"),
    [
        ("ranker", "seed = 7", "examples"),
        ("embedding", "seed = 7", "embed"),
        ("matrix", "drop_top = 1", "matrix"),
        ("validation", "max_bad_share = 0.5", "validate"),
        ("source", 'timezone = "Europe/Paris"', "land"),
        ("spark", "partitions = 7", None),
        ("services", "live = false", None),
    ],
)
def test_a_changed_setting_recomputes_exactly_what_depends_on_it(
    folder, section, option, first_step
):
    file = folder / "settings.toml"
    text = file.read_text()
    if f"[{section}]" in text:
        file.write_text(text.replace(f"[{section}]", f"[{section}]\n{option}"))
    else:
        file.write_text(f"{text}[{section}]\n{option}\n")
    plans = backfill.days_of(load_settings(file), DAYS[0], DAYS[0], changed=False)
    expected = list(STEPS[STEPS.index(first_step) :]) if first_step else []
    assert plans[0].to_run == expected
    assert plans[0].reused == [step for step in STEPS if step not in expected]


def test_a_refused_day_is_refused_and_not_waiting(folder, settings):
    with validated(settings, DAYS[3]) as staging:
        staging.facts |= {"trusted": False, "reason": "too few rows"}
    found = status(settings, NOON)
    assert [part.refused for part in found.parts] == [[DAYS[3]]] * 3
    assert not any(waiting(found).values())
    result = run(folder, "backfill", "--dry-run")
    assert f"{DAYS[3]}  refused by validation" in result.output


@pytest.mark.parametrize(("hour", "late"), [(2, 0), (4, 3)])
def test_what_is_not_there_by_the_agreed_hour_is_late(settings, hour, late):
    """The night's run has three hours."""
    found = status(settings, NOON.replace(hour=hour))
    assert len(found.late) == late
    if late:
        assert found.late[0] == f"data: {DAYS[3]} was due by now; the newest is {DAYS[2]}"


def test_the_command_shows_it_and_exits_with_1_where_something_is_late(folder):
    result = run(folder, "status")
    assert result.exit_code == 1
    assert f"embeddings  newest {DAYS[2]}," in result.output
    assert f"{DAYS[3]}  8 steps to run: matrix is missing" in result.output
    assert "LATE        ranker" in result.output
    found = json.loads(run(folder, "status", "--json").output)
    assert found["parts"][1]["waiting"][0]["day"] == str(DAYS[3])


def test_it_shows_the_alarms_of_the_newest_days(folder, settings):
    why = "label rate of 'click': 31.00 % instead of 25.00 %, 15 times as far as usual"
    with writing(settings, "drift", DAYS[2]) as staging:
        staging.facts |= {"alarms": 1, "why": why}
    assert f"\ndrift       {DAYS[2]}: {why}\n" in run(folder, "status").output
    assert status(settings, NOON).as_json()["drift"] == [f"{DAYS[2]}: {why}"]


def test_a_dry_run_lists_what_would_run_and_runs_nothing(folder, settings):
    before = settings.lake.days("land")
    result = run(folder, "backfill", "--dry-run", "--changed")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{DAYS[3]}  run {len(STEPS)}, reuse 0, from land on: land is missing",
        f"{len(STEPS)} steps of 1 day to run at most: what turns out the same is reused",
    ]
    assert settings.lake.days("land") == before


def test_days_beyond_the_log_are_refused(settings):
    with pytest.raises(EvergreenError, match=f"which runs from {DAYS[0]} to {DAYS[3]}"):
        backfill.days_of(settings, DAYS[0], DAYS[3] + timedelta(days=1), changed=False)


# Verify


def test_everything_is_read_and_damage_is_named(folder, settings):
    assert verify(settings) == []
    matrix = settings.lake.get("matrix", DAYS[1])
    harm_without_a_trace(matrix.path / "vectors.npy")
    (settings.open_registry().version("producer", DAYS[0]).path / "fold_in.scale.npy").unlink(
        missing_ok=True
    )
    result = run(folder, "verify")
    assert result.exit_code == 1
    assert f"matrix/{DAYS[1]} is damaged: vectors.npy has changed" in result.output
    # From now on the pipeline knows as well.
    assert "matrix: damaged" in waiting(status(settings, NOON))["embeddings"][DAYS[1]][1]


def harm_without_a_trace(file: Path) -> None:
    """As a failing disk does: size and times stay, which vouch for the content."""
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[10] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    seen = json.loads(seen_file(file.parent).read_text())
    now = file.stat()
    seen[file.name] = [now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino]
    seen_file(file.parent).write_text(json.dumps(seen))


def test_a_day_reads_some_published_files_and_the_status_names_the_damage(folder, settings):
    n_versions = len(settings.open_registry().versions("producer"))
    assert f"\nversions    {n_versions} published, {n_versions} not verified yet\n" in (
        run(folder, "status").output
    )
    version = settings.open_registry().version("producer", DAYS[1])
    (version.path / "producer/shard-00000/counts.npy").unlink()
    little = settings.registry.model_copy(update={"verify_gb": 1e-9})
    found = []
    for _ in range(n_versions):
        verified, damaged = verify_some(settings.model_copy(update={"registry": little}))
        assert verified == 1
        found += damaged
    assert [(one.name, one.step, one.day) for one in found] == [(version.id, "publish", DAYS[1])]
    lines = run(folder, "status").output.splitlines()
    assert f"versions    {n_versions} published, all verified since {datetime.now(UTC):%F}" in lines
    fault = "producer/shard-00000/counts.npy (missing)"
    assert f"DAMAGED     {version.id}: {fault} (evergreen verify --repair)" in lines
    nothing = settings.registry.model_copy(update={"verify_gb": 0})
    assert verify_some(settings.model_copy(update={"registry": nothing})) == (0, [])


# Garbage


def test_old_days_go_and_what_kept_days_need_stays(folder, settings):
    found = garbage.find(settings, keep=1)
    kept = {(p.step, p.day) for p in garbage.partitions(settings)} - {
        (p.step, p.day) for p in found.partitions
    }
    # The newest day, what it was computed from, and the champion's model.
    assert {(step, DAYS[2]) for step in STEPS} <= kept
    assert {("land", DAYS[1]), ("validate", DAYS[1]), ("align", DAYS[1])} <= kept
    assert ("train", DAYS[0]) in kept
    assert ("fold_in", DAYS[0]) not in kept
    garbage.delete(settings, found)
    look = status(settings, NOON)
    assert (look.first, look.parts[1].newest) == (DAYS[2], DAYS[2])
    assert [plan.to_run for plan in backfill.days_of(settings, DAYS[2], DAYS[2], False)] == [[]]
    assert not garbage.find(settings, keep=1)
    # To keep more days from now on brings none of the deleted ones back.
    garbage.delete(settings, garbage.find(settings, keep=3))
    assert status(settings, NOON).first == DAYS[2]


def test_versions_with_an_alias_stay(settings):
    registry = settings.open_registry()
    registry.set_alias("producer", "pinned", registry.version("producer", DAYS[0]))
    doomed = {version.day for version in garbage.find(settings, keep=1).versions}
    # The newest day's examples point into the version of the day before, which stays too.
    assert DAYS[0] not in doomed
    assert DAYS[2] not in doomed


def test_the_version_that_the_champion_was_trained_on_stays(settings):
    """No alias and no kept day names it: the champion may be tested with it on another day."""
    champion = settings.lake.get("train", DAYS[0]).facts["embedding"]
    doomed = {content_id(version) for version in garbage.find(settings, keep=1).versions}
    assert champion not in doomed


def test_nothing_is_deleted_without_being_asked(folder, settings):
    before = files_of(settings)
    result = run(folder, "gc", "--keep", "1")
    assert "Nothing was deleted: run again with --delete." in result.output
    assert files_of(settings) == before
    result = run(folder, "gc", "--keep", "1", "--delete")
    assert result.output.endswith("Deleted.\n")
    assert settings.lake.find("fold_in", DAYS[0]) is None


def files_of(settings: Settings) -> list[Path]:
    """Every file of the home, without those that SQLite has while a catalog is open."""
    files = settings.home.rglob("*")
    return sorted(file for file in files if not file.name.startswith("catalog.db"))


def test_days_that_the_log_has_lost_are_named(folder, settings):
    (folder / "log" / f"{DAYS[0]}.txt").unlink()
    reopen_sources()
    lines = list(garbage.lines(garbage.find(settings, keep=2)))
    assert lines[-1] == (
        "1 of these days cannot be landed again, because their files have left the log: "
        f"{DAYS[0]} to {DAYS[0]}."
    )


def test_old_reports_and_task_logs_go(settings):
    report = settings.report("matrix", DAYS[0])
    task = settings.home / "logs" / "tasks" / "dag_id=embeddings_daily" / "run_id=old"
    task.mkdir(parents=True)
    long_ago = time.time() - 10 * 86_400
    os.utime(task, (long_ago, long_ago))
    assert {report, task} <= set(garbage.find(settings, keep=2).folders)


def test_an_empty_home_has_no_garbage(tmp_path):
    (tmp_path / "settings.toml").write_text(SETTINGS)
    with pytest.raises(EvergreenError, match="has no day yet"):
        garbage.find(load_settings(tmp_path / "settings.toml"), keep=1)
