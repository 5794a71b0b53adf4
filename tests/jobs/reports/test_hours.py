"""Clicks by the hour, articles that are folded in, and the curve of a log whose items are new."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from embeddings.spaces.similarity import mean_cosine
from jobs.errors import BadInput
from jobs.reports.hours import run as hours
from jobs.reports.hours.clicks import HOUR_S, LONGEST, Clicks, NextClicks, globo, with_sessions
from jobs.reports.hours.vectors import (
    found,
    found_by_popularity,
    learned,
    singular_values,
    with_new_articles,
)
from jobs.reports.streams import GLOBO
from jobs.settings import EmbeddingSettings, MLflowSettings, Settings

RNG = np.random.default_rng(0)


def drawn(n: int, n_sessions: int = 30) -> pd.DataFrame:
    """n clicks of eight hours; a session has one consumer."""
    sessions = RNG.integers(0, n_sessions, n)
    return pd.DataFrame(
        {
            "consumer": sessions % 10,
            "article": RNG.integers(100, 112, n),
            "session": sessions,
            "time_s": RNG.permutation(8 * HOUR_S)[:n],
        }
    )


def test_next_clicks_against_a_slow_loop():
    table = drawn(400)
    clicks = Clicks.of(table)
    articles = np.unique(table["article"])
    first = table["time_s"].min()
    for hour in range(8):
        expected = []
        for _, session in table.groupby("session"):
            seen: list[int] = []
            for row in session.sort_values("time_s").itertuples():
                before = seen[-LONGEST:]
                if (row.time_s - first) // HOUR_S == hour and seen and row.article not in before:
                    expected.append((row.consumer, sorted(before), row.article))
                seen.append(row.article)
        wanted = clicks.next_clicks(hour, 10_000, 0)
        histories = []
        for row in wanted.history:
            histories.append(
                sorted(np.repeat(articles[row.indices], row.data.astype(int)).tolist())
            )
        answers = zip(wanted.consumers, histories, articles[wanted.articles], strict=True)
        assert sorted(answers) == sorted(expected)
        fewer = clicks.next_clicks(hour, 3, 0)
        assert len(fewer.articles) == min(3, len(expected)) == fewer.history.shape[0]


def test_a_window_has_the_clicks_of_its_hours():
    table = drawn(300)
    clicks = Clicks.of(table)
    number = (table["time_s"] - table["time_s"].min()) // HOUR_S
    inside = table[(number >= 2) & (number < 5)]
    counted = clicks.window(5, 3).toarray()
    assert counted.sum() == len(inside)
    expected = inside.groupby(["consumer", "article"]).size()
    for (consumer, article), n in expected.items():
        assert counted[consumer, article - 100] == n


def test_a_pause_or_another_consumer_ends_a_session():
    table = pd.DataFrame(
        {"consumer": ["a", "a", "a", "b"], "time_s": [0, 1800, 3601, 3602], "article": [1, 2, 3, 4]}
    )
    assert with_sessions(table)["session"].tolist() == [1, 1, 2, 3]


def groups_of_readers() -> sp.csr_matrix:
    """120 consumers of four tastes, and 24 articles of four topics."""
    tastes, topics = np.arange(120) % 4, np.arange(24) % 4
    likely = np.where(tastes[:, None] == topics, 0.6, 0.05)
    return sp.csr_matrix((RNG.random(likely.shape) < likely).astype(float))


def test_a_new_article_lands_where_the_fit_would_put_it():
    """It is the copy of one that the fit has seen."""
    window = groups_of_readers()
    articles = learned(window, 4, 0)
    twice = sp.hstack([window, window[:, 3]]).tocsr()
    both = with_new_articles(articles, twice)
    assert both.ids.tolist() == [*range(24), 24]
    np.testing.assert_array_equal(both.vectors[:24], articles.vectors)
    assert mean_cosine(both.vectors[[24]], articles.vectors[[3]]) > 0.97
    sizes = np.linalg.norm(both.vectors[[24, 3]], axis=1)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2)
    assert mean_cosine(both.fold_in.matrix[[24]], articles.fold_in.matrix[[3]]) > 0.97


def test_the_singular_values_are_those_of_the_normalised_matrix():
    window = groups_of_readers()
    sums = np.asarray(window.sum(axis=0)).ravel()
    rows = np.asarray(window.sum(axis=1)).ravel()
    dense = window.toarray() / np.sqrt(rows + rows.mean())[:, None] / np.sqrt(sums + sums.mean())
    kept = dense[rows >= 2]
    expected = np.linalg.svd(kept, compute_uv=False)[:4]
    np.testing.assert_allclose(singular_values(learned(window, 4, 0)), expected, rtol=0.02)


def wanted_of(history: list[list[int]], articles: list[int], n: int = 24) -> NextClicks:
    rows = np.repeat(np.arange(len(history)), [len(each) for each in history])
    columns = np.concatenate(history).astype(int)
    counts = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(history), n))
    return NextClicks(np.arange(len(history)), counts, np.array(articles))


def test_what_is_found_by_popularity_by_hand():
    """Of three current articles the two with most clicks are shown, without the session's own."""
    clicks = np.zeros(24)
    clicks[[5, 6, 7, 8]] = (9, 4, 6, 100)
    wanted = wanted_of([[0], [0], [5], [0]], [5, 6, 6, 8])
    hits = found_by_popularity(clicks, wanted, np.array([5, 6, 7]), top=2)
    assert hits.tolist() == [1, 0, 1, 0]  # 8 has the most clicks, but is not current


def test_readers_of_a_topic_find_its_articles():
    articles = learned(groups_of_readers(), 4, 0)
    wanted = wanted_of([[0, 4], [0, 4]], [8, 9])
    assert found(articles, wanted, np.arange(24), top=4).tolist() == [1, 0]


@pytest.fixture
def data(tmp_path):
    """Four days of Globo's files: every day has articles of its own, and readers of two tastes."""
    folder = tmp_path / GLOBO
    folder.mkdir(parents=True)
    rows = []
    for hour in range(96):
        for number in range(40):
            consumer = int(RNG.integers(0, 80))
            start = 1_506_826_800_000 + hour * 3_600_000 + number * 60_000
            for click in range(3):
                article = 40 * (hour // 24) + 2 * int(RNG.integers(0, 20)) + consumer % 2
                rows.append((consumer, f"{hour}-{number}", article, start + click * 5000))
    names = ["user_id", "session_id", "click_article_id", "click_timestamp"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "clicks_hour_000.csv.gz", index=False)
    return tmp_path


@pytest.fixture
def settings(tmp_path) -> Settings:
    source = {"kind": "edgelist", "path": "edges.csv", "fields": ["src", "dst", "time"]}
    embedding = EmbeddingSettings(dim=4)
    return Settings(
        home=tmp_path / "home", source=source, embedding=embedding, mlflow=MLflowSettings(uri="off")
    )


def test_the_curve_of_a_log_whose_articles_are_new_every_day(settings, data, monkeypatch):
    """A day later nothing old is current; new articles that are folded in are found."""
    monkeypatch.setattr(hours, "TOP", 10)
    report = hours.run(settings, data, "globo", days=1, window=24, seed=0, folder=data / "out")
    rows = pd.read_csv(report.folder / "hours-ages.csv").set_index(["way", "age"])
    share = rows["found"]
    assert share["stale", 0] > 0.3
    assert share["stale", 24] < 0.05 < share["folded in", 24]
    assert (rows["found_low"] <= share).all()
    assert rows["lost"]["stale", 24] == pytest.approx(share["stale", 0] - share["stale", 24])
    assert report.picture("ages").stat().st_size > 10_000


def test_what_cannot_be_measured_is_named(settings, data):
    with pytest.raises(BadInput, match="no set 'other'; expected one of"):
        hours.run(settings, data, "other", 1, 24, 0, data / "out")
    with pytest.raises(BadInput, match="Globo left out: no data folder is set"):
        hours.run(settings, None, "globo", 1, 24, 0, data / "out")
    clicks = globo(data)
    assert isinstance(clicks, Clicks)
    with pytest.raises(BadInput, match="has 96 hours; expected more than 124"):
        hours.tested_hours(clicks, 1, 100)
