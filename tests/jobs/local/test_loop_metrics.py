"""The metrics of the loop, on a home that is committed by hand."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from jobs.cli import app
from jobs.errors import BadInput
from jobs.local.loop_metrics import LoopCollector, families, gauge
from jobs.pipeline.attempts import Attempt
from jobs.pipeline.status import status
from jobs.settings import Settings, load_settings
from tests.jobs.measured_home import DAYS, build

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)  # of the day after the last
Scraped = dict[str, dict[str, float]]  # metric -> its labels as text -> value


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("metrics")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def settings(folder) -> Settings:
    return load_settings(folder / "settings.toml")


def text_of(found: list[Metric]) -> str:
    """As Prometheus reads it."""

    class Fixed:
        def collect(self) -> list[Metric]:
            return found

    registry = CollectorRegistry()
    registry.register(Fixed())
    return generate_latest(registry).decode()


@pytest.fixture(scope="module")
def text(settings) -> str:
    return text_of(families(settings, NOON))


def parsed(text: str) -> Scraped:
    """Each metric with its samples, by the values of their labels in the order of the names."""
    found: Scraped = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = " ".join(sample.labels[name] for name in sorted(sample.labels))
            found.setdefault(sample.name, {})[labels.strip()] = sample.value
    return found


def midnight_in_kolkata(day: date) -> float:
    """The midnight after a day; India is five and a half hours ahead, all year."""
    return datetime(day.year, day.month, day.day, 18, 30, tzinfo=UTC).timestamp()


def test_the_days_of_each_part_are_those_of_evergreen_status(folder, text, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SETTINGS", "")
    command = ["--settings", str(folder / "settings.toml"), "status", "--json"]
    said = json.loads(CliRunner().invoke(app, command).stdout)
    found = parsed(text)["evergreen_days"]
    for part in said["parts"]:
        name = part["part"]
        assert found[f"{name} current"] == part["current_days"]
        assert found[f"{name} waiting"] == len(part["waiting"])
        assert found[f"{name} refused"] == len(part["refused"])
    assert len(found) == 3 * len(said["parts"])
    assert sum(found.values()) > 0


def test_a_day_is_as_old_as_the_midnight_that_ended_it_in_the_zone_of_the_log(text):
    assert parsed(text)["evergreen_newest_day_end_timestamp_seconds"] == {
        "landed": midnight_in_kolkata(DAYS[2]),
        "author published": midnight_in_kolkata(DAYS[1]),
        "tested": midnight_in_kolkata(DAYS[1]),
    }


def test_what_serves_is_named(settings, text):
    found = parsed(text)
    published = settings.open_registry().version("author", DAYS[1])
    assert found["evergreen_version_info"] == {f"latest author {published.id}": 1}
    assert found["evergreen_champion_info"] == {f"{DAYS[0]} mask": 1}
    trained = found["evergreen_champion_day_end_timestamp_seconds"]
    assert trained == {"mask": midnight_in_kolkata(DAYS[0])}
    tested = found["evergreen_champion_tested_day_end_timestamp_seconds"]
    assert tested == {"mask": midnight_in_kolkata(DAYS[1])}


def test_rows_decisions_alarms_and_figures_are_those_of_the_lake(text):
    """As the fixture has committed them; the first day's gate has kept its champion."""
    found = parsed(text)
    assert found["evergreen_rows"] == {"landed engagements": 50, "quarantined engagements": 4}
    day_end = midnight_in_kolkata(DAYS[2])
    assert found["evergreen_rows_day_end_timestamp_seconds"] == {"": day_end}
    assert found["evergreen_gate_decisions"] == {"promoted": 1, "proposed": 0, "kept": 1}
    assert found["evergreen_drift_alarms"] == {"": 3}
    figures = found["evergreen_headline"]  # embedding, fact, step, unit
    assert figures["champion_auc_click evaluate AUC"] == 0.75
    assert figures["largest_divergence drift bits"] == 0.5
    assert figures["author retrieval_ndcg20 benchmark"] == 0.125


def test_each_steps_last_attempt_has_its_end_its_seconds_and_its_outcome(text):
    found = parsed(text)
    assert found["evergreen_step_duration_seconds"] == {"author embed": 12.5, "land": 0.5}
    assert found["evergreen_step_end_timestamp_seconds"] == {"author embed": 1.5e9, "land": 1.6e9}
    assert found["evergreen_step_failed"] == {"author embed": 0, "land": 1}


def test_the_disk_is_that_of_the_home(settings, text):
    found = parsed(text)
    assert found["evergreen_disk_size_bytes"][""] == shutil.disk_usage(settings.home).total
    assert 0 < found["evergreen_disk_free_bytes"][""] < found["evergreen_disk_size_bytes"][""]


def test_names_follow_the_conventions_of_prometheus(text):
    """Our prefix, base units, a help text; no gauge is named like a counter."""
    found = list(text_string_to_metric_families(text))
    assert len(found) > 15
    for family in found:
        assert re.fullmatch(r"evergreen(_[a-z]+)+", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert family.type == "gauge", family.name
        assert not re.search(r"_(total|count|sum|bucket|ms|minutes|hours)$", family.name)
        if "duration" in family.name or "timestamp" in family.name:
            assert family.name.endswith("_seconds"), family.name


def test_a_look_reads_no_file_of_the_log(tmp_path):
    """A file that is written to is read by the next step or `evergreen status`, once."""

    def read() -> set[str]:
        return {folder.name for folder in settings.intake.glob("*-*")}

    settings = build(tmp_path)
    families(settings, NOON)
    before = read()
    with (tmp_path / "log" / f"{DAYS[3]}.txt").open("a") as file:
        file.write("c2 p1 1709510400\n")
    families(settings, NOON)
    assert read() == before
    status(settings, NOON)
    assert len(read()) == len(before) + 1


def test_attempts_decisions_and_rows_that_say_nothing_of_today_are_left_out(tmp_path):
    """Of an embedding that is gone, without a champion, and of other days."""
    settings = build(tmp_path)
    gone = Attempt("embed", "gone", str(DAYS[0]), 1.0e9, 1.0, "BadInput")
    file = settings.home / "attempts" / "embed@gone.json"
    file.write_text(json.dumps(asdict(gone)))
    with settings.lake.writing("gate", DAYS[2], recipe="") as staging:
        staging.facts |= {"champion_after": "", "promoted": 0}
    with settings.lake.writing("quarantine", DAYS[2], recipe="") as staging:
        staging.facts |= {"bad_engagements": 4, "bad_engagements/late": 1}
    found = parsed(text_of(families(settings, NOON)))
    assert found["evergreen_step_failed"] == {"author embed": 0, "land": 1}
    assert sum(found["evergreen_gate_decisions"].values()) == 2
    assert found["evergreen_rows"]["quarantined engagements"] == 3


def test_a_scrape_does_not_wait_for_a_look(monkeypatch):
    """The second look hangs: scrapes go on with what the first has found, and start no third."""
    monkeypatch.setattr("jobs.local.loop_metrics.LEAST_PAUSE_S", 0)
    monkeypatch.setattr("jobs.local.loop_metrics.PAUSE", 0)
    looks = []
    free = threading.Event()

    def look() -> list[Metric]:
        looks.append(len(looks))
        if len(looks) > 1:
            free.wait(20)
        return [gauge("looks", "How often.", [([], len(looks))])]

    collector = LoopCollector(look)
    try:
        started = time.monotonic()
        seen = [parsed(text_of(collector.collect()))["evergreen_looks"][""] for _ in range(5)]
        assert seen == [1] * 5
        assert time.monotonic() - started < 10
        assert looks == [0, 1]
    finally:
        free.set()


def test_looking_takes_at_most_a_twentieth_of_the_time(monkeypatch):
    monkeypatch.setattr("jobs.local.loop_metrics.LEAST_PAUSE_S", 0)
    looks = []

    def look() -> list[Metric]:
        looks.append(time.monotonic())
        time.sleep(0.02)
        return []

    collector = LoopCollector(look)
    while len(looks) < 2:
        collector.collect()
        time.sleep(0.01)
    assert looks[1] - looks[0] > 20 * 0.02


def test_a_home_that_cannot_be_read_is_a_metric():
    def look() -> list[Metric]:
        raise BadInput("There is no log.")

    found = parsed(text_of(LoopCollector(look).collect()))
    assert found["evergreen_look_failed"] == {"": 1}
    assert time.time() - found["evergreen_look_timestamp_seconds"][""] < 60
