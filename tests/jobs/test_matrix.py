"""matrix on a small log, against the same count in plain Python."""

from __future__ import annotations

import signal
from collections import Counter

import numpy as np
import pytest
from engagement_lake import DAYS, arrays, commit_day, engagement_settings, random_day, run_and_kill

from embeddings.csr import load_blocks
from jobs import matrix
from jobs.errors import EvergreenError, UntrustedDay
from jobs.settings import MatrixSettings


@pytest.fixture
def settings(tmp_path):
    return engagement_settings(tmp_path)


@pytest.fixture
def three_days(settings):
    days = [random_day(seed) for seed in range(3)]
    for day, rows in zip(DAYS, days, strict=True):
        commit_day(settings, day, rows)
    return days


def test_the_matrix_is_the_weighted_count_of_the_window(spark, settings, three_days):
    """Every strength of the blocks, against a loop over the last two days' rows."""
    matrix.run(spark, settings, DAYS[2])
    window = three_days[1] + three_days[2]
    partition = settings.lake.get("matrix", DAYS[2])
    engaged = Counter(p for _, p in {(c, p) for c, p, _ in window})
    top = sorted(engaged, key=lambda p: (-engaged[p], p))[:15]
    assert [p.decode() for p in np.load(partition.path / "producers.npy")] == top
    expected, counts = Counter(), Counter()
    for c, p, kind in window:
        if p in top:
            expected[c, p] += 2.5 if kind == "follow" else 1.0
            counts[c] += 1
    for name, belongs in (("fitted", lambda n: n >= 3), ("rest", lambda n: n < 3)):
        found = {}
        for block in load_blocks(partition.path / name):
            x = block.matrix(15).tocoo()
            found |= {(block.ids[i].decode(), top[j]): v for i, j, v in zip(x.row, x.col, x.data, strict=True)}
            assert all(counts[c.decode()] == n for c, n in zip(block.ids, block.engagements, strict=True))
        assert found == {pair: v for pair, v in expected.items() if belongs(counts[pair[0]])}


def test_producers_are_ranked_by_follows_where_a_setting_says_so(spark, settings):
    """p2 has more consumers, p1 more followers: the one place goes to p1."""
    liked = [(f"c{n}", "p2", "like") for n in range(5)] + [("c0", "p2", "follow")]
    commit_day(settings, DAYS[0], liked + [(f"c{n}", "p1", "follow") for n in range(3)])
    for rank_by, first in (("", b"p2"), ("follow", b"p1")):
        chosen = MatrixSettings(producers=1, min_engagements=1, rank_by=rank_by)
        matrix.run(spark, settings.model_copy(update={"matrix": chosen}), DAYS[0])
        assert np.load(settings.lake.get("matrix", DAYS[0]).path / "producers.npy").tolist() == [first]


def test_a_refused_day_of_the_window_is_left_out_and_a_refused_day_itself_stops(spark, settings):
    commit_day(settings, DAYS[0], None)
    commit_day(settings, DAYS[1], random_day(1))
    matrix.run(spark, settings, DAYS[1])
    assert list(settings.lake.get("matrix", DAYS[1]).inputs) == [f"validate/{DAYS[1]}"]
    with pytest.raises(UntrustedDay, match="2024-01-01: too few rows"):
        matrix.run(spark, settings, DAYS[0])


def test_nothing_to_fit_says_which_setting_helps(spark, settings):
    commit_day(settings, DAYS[0], [("c1", "p1", "like")])
    with pytest.raises(EvergreenError, match="No consumer has 3 engagements.*Lower matrix.min_engagements"):
        matrix.run(spark, settings, DAYS[0])
    assert settings.lake.find("matrix", DAYS[0]) is None


def test_kill_9_with_the_blocks_written_then_retry_gives_the_bytes_of_an_undisturbed_run(spark, settings, tmp_path):
    """A real process is killed in the middle of the step; the next try knows nothing of it."""
    calm = settings.model_copy(update={"home": tmp_path / "calm"})
    for each in (settings, calm):
        commit_day(each, DAYS[0], random_day(0))
    matrix.run(spark, calm, DAYS[0])
    killed = run_and_kill(settings, "matrix", "numpy", "bincount")
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert settings.lake.find("matrix", DAYS[0]) is None
    matrix.run(spark, settings, DAYS[0])
    assert arrays(settings.lake.get("matrix", DAYS[0]).path) == arrays(calm.lake.get("matrix", DAYS[0]).path)
