"""Options without effect on a log are named, and no others."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.settings import Settings, load_settings
from jobs.settings.effects import without_effect

CONFIGS = Path(__file__).parents[3] / "configs"
ENGAGEMENTS = '[source]\nkind = "table"\npath = "log.csv"\n[source.columns]\nconsumer_id = "u"\n'
ENGAGEMENTS += 'producer_id = "p"\ntime = "t"\n'
IMPRESSIONS = ENGAGEMENTS + '[source.labels]\nclick = "c"\nlike = "l"\n'
VALUES = ENGAGEMENTS + 'value = "v"\n'
KINDS = ENGAGEMENTS + 'kind = "k"\n'
EDGES = '[source]\nkind = "edgelist"\npath = "log.txt"\nfields = ["src", "dst", "time"]\n'


def sentences(text: str) -> list[str]:
    return without_effect(Settings(**tomllib.loads(text)))


@pytest.mark.parametrize(
    ("log", "options", "named"),
    [
        (ENGAGEMENTS, "[validation]\nmerge_labels = true", "validation.merge_labels .*no labels"),
        (IMPRESSIONS, "[validation]\nmerge_labels = true", ""),
        (
            IMPRESSIONS,
            '[validation]\nmerge_labels = true\nrepeats = "all"',
            "validation.repeats .*merge_labels",
        ),
        (ENGAGEMENTS, '[validation]\nrepeats = "all"', ""),
        (ENGAGEMENTS, "[validation]\nmax_value_ratio = 10", "validation.max_value_ratio .*`value`"),
        (VALUES, "[validation]\nmax_value_ratio = 10", ""),
        (EDGES, "[validation]\nmax_value_ratio = 10", "validation.max_value_ratio .*`value`"),
        (
            EDGES,
            "[validation]\nmin_rows_share = 0.0\nmedian_days = 3",
            "validation.median_days .*min_rows_share is 0",
        ),
        (EDGES, "[validation]\nmedian_days = 2", r"validation.median_days .*larger \(3\)"),
        (EDGES, '[matrix]\nrank_by = "reply"', "matrix.rank_by .*kinds of engagements are edge"),
        (IMPRESSIONS, '[matrix]\nrank_by = "like"', ""),
        (EDGES, "[matrix]\nsession_minutes = 30", "matrix.session_minutes .*no embedding has"),
        (IMPRESSIONS, "[matrix.weights]\nlikes = 3", "matrix.weights.likes .*are click, like"),
        (KINDS, "[matrix.weights]\nlikes = 3", ""),
        (ENGAGEMENTS, "[matrix.weights]\nengagement = 3", ""),
        (EDGES, "[ranker]\nbatch_size = 64", "ranker.batch_size .*no impressions"),
        (IMPRESSIONS, '[ranker]\nprimary_label = "likes"', "ranker.primary_label .*click, like"),
        (IMPRESSIONS, "[ranker.weights]\nlikes = 2", "ranker.weights.likes .*click, like"),
        (IMPRESSIONS, "[ranker]\nretrain_delta = 0.1", 'ranker.retrain_delta .*is "daily"'),
        (IMPRESSIONS, "[ranker]\nwarm_rate = 0.1", "ranker.warm_rate .*warm_start is false"),
        (
            IMPRESSIONS,
            "[ranker]\nwarm_start = true\nevict_after_days = 3",
            "ranker.evict_after_days .*admit_after is 0",
        ),
        (
            IMPRESSIONS,
            "[services]\nlive = false\nlateness = 2",
            "services.lateness .*live is false",
        ),
        (IMPRESSIONS, "[services]\nlateness = 2", ""),
    ],
)
def test_an_option_without_effect_is_named_with_the_reason(log, options, named):
    found = sentences(log + options)
    assert len(found) == bool(named), found
    assert re.match(named, "".join(found))


@pytest.mark.parametrize("example", sorted(CONFIGS.glob("*.toml")), ids=lambda p: p.stem)
def test_the_examples_have_no_option_without_effect(example):
    assert without_effect(load_settings(example)) == []


def test_the_command_line_says_so_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SETTINGS", "")
    (tmp_path / "log.csv").write_text("u,p,t\nu1,p1,1709251200\n")
    settings = tmp_path / "my.toml"
    settings.write_text(ENGAGEMENTS + "[validation]\nmerge_labels = true\n")
    result = CliRunner().invoke(app, ["--settings", str(settings), "check"])
    assert result.exit_code == 0
    assert result.stderr.startswith("validation.merge_labels has no effect: ")
