"""Tables 1 and 4: the data sets, the methods, what is asked of them, and the commands."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from ranker_lake import DAYS
from typer.testing import CliRunner

from embeddings.benchmarks.intervals import Estimate
from embeddings.embedders import base
from jobs.cli import app
from jobs.reports.methods import SVD
from jobs.reports.tables import methods, own_log, run
from jobs.reports.tables.columns import TABLE_1, TABLE_4, estimates, retrieval, true_gain
from jobs.reports.tables.markdown import markdown
from jobs.reports.tables.methods import Learned, OnTheSeam, by_products, families
from jobs.reports.tables.problem import Pairs, Problem, last_share, problem_of
from jobs.reports.tables.public import NEEDED, public_problems
from jobs.reports.tables.run import Measured, agreement, tuned
from jobs.reports.tables.world import simulated_problem
from simulation.world import World

SMALL = World(consumers=700, producers=200, topics=4, impressions=6.0)


@pytest.fixture(scope="session")
def world() -> Problem:
    return simulated_problem(SMALL, 6)


def pairs(*rows: tuple[bytes, bytes, float]) -> Pairs:
    consumers, producers, strengths = zip(*rows, strict=True)
    return Pairs(np.array(consumers), np.array(producers), np.array(strengths))


# Data sets


def test_the_last_share_of_everyone_is_held_out():
    """Rounded, at least one each; of equal times the later row."""
    consumers = np.array([b"a", b"b", b"a", b"a", b"a", b"b", b"a", b"c"])
    times = np.array([5, 1, 1, 9, 2, 1, 3, 7])
    expected = [False, False, False, True, False, True, False, True]
    assert last_share(consumers, times, 0.2).tolist() == expected


def test_what_nobody_learned_about_counts_as_missed():
    """A producer that is new after the window has no column, but is part of what is asked."""
    window = pairs((b"a", b"x", 2.0), (b"a", b"x", 1.0), (b"b", b"y", 1.0))
    later = pairs((b"c", b"x", 1.0), (b"a", b"z", 1.0), (b"a", b"z", 1.0))
    problem = problem_of("it", window, np.array([False, False, True]), later, repeats=True)
    np.testing.assert_array_equal(problem.case.window.toarray(), [[3, 0], [0, 1], [0, 0]])
    np.testing.assert_array_equal(problem.case.engaged.toarray(), [[0, 0], [0, 0], [1, 0]])
    np.testing.assert_array_equal(problem.case.elsewhere, [1, 0, 0])
    np.testing.assert_array_equal(problem.tuning[0].toarray(), [[3, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(problem.tuning[1].toarray(), [[0, 0], [0, 1], [0, 0]])


def write_public_data(folder: Path) -> None:
    """Five listeners of ten artists, and five people who rated ten films."""
    texts = {
        "user_artists": "userID\tartistID\tweight\n"
        + "".join(f"{user}\t{artist}\t9\n" for user in range(5) for artist in range(10)),
        "user_friends": "userID\tfriendID\n0\t3\n3\t0\n",
        "user_taggedartists": "userID\tartistID\ttagID\tday\tmonth\tyear\n0\t2\t77\t1\t1\t2009\n"
        "4\t2\t77\t1\t1\t2009\n4\t3\t13\t1\t1\t2009\n",
        "u.data": "".join(
            f"{user}\t{film}\t3\t{film}\n" for user in range(5) for film in range(10)
        ),
        "u.item": "".join(
            f"{film}|A film ({film})|01-Jan-1995||http://|{'|'.join('1' * (film > 4) or '0')}"
            + "|0" * 18
            + "\n"
            for film in range(10)
        ),
        "u.user": "".join(f"{user}|{20 + user}|F|artist|12345\n" for user in range(5)),
    }
    for place, files in NEEDED.values():
        (folder / place).mkdir()
        for file in files:
            text = texts[file.removesuffix(".gz").removesuffix(".dat")].encode("latin-1")
            (folder / place / file).write_bytes(
                gzip.compress(text) if file.endswith("gz") else text
            )


def test_public_data_are_read_in_their_layouts(tmp_path):
    write_public_data(tmp_path)
    (lastfm, movielens), messages = public_problems(tmp_path)
    assert messages == []
    np.testing.assert_allclose(np.unique(lastfm.case.window.data), np.log(10))
    assert sorted(zip(*lastfm.follows.nonzero(), strict=True)) == [(0, 3), (3, 0)]
    assert lastfm.case.topics == ("77", "13")  # the most frequent first
    np.testing.assert_array_equal(
        lastfm.case.consumer_topics.toarray()[[0, 4], :2], [[1, 0], [1, 1]]
    )
    # The last two films of everyone are later, and the first five have no genre.
    assert movielens.case.producer_ids.tolist() == [b"%d" % film for film in range(8)]
    np.testing.assert_array_equal(
        movielens.case.producer_topics[:, 0].toarray().ravel(), np.arange(8) > 4
    )
    np.testing.assert_array_equal(movielens.case.elsewhere, np.full(5, 2))
    np.testing.assert_array_equal(movielens.case.profiles["num_age"], 20 + np.arange(5))


def test_data_that_are_missing_are_named_with_the_remedy(tmp_path):
    write_public_data(tmp_path)
    (tmp_path / NEEDED["lastfm"][0] / "user_friends.dat.gz").unlink()
    problems, messages = public_problems(tmp_path)
    assert [problem.name for problem in problems] == ["ml-100k"]
    assert messages[0].startswith("lastfm left out: ")
    assert "lacks hetrec2011-lastfm-2k/user_friends.dat.gz" in messages[0]
    assert "--data or EVERGREEN_DATA" in messages[0]


def test_a_log_of_two_days_is_left_out(small_settings, monkeypatch):
    monkeypatch.setattr(own_log, "days_of", lambda settings: DAYS[:2])
    assert "edgelist left out: the log has 2 trusted days" in own_log.own_problem(small_settings)


def test_the_own_log_is_asked_for_its_last_day(small_settings):
    """The window is what comes before, and the last day of it is what methods are tuned on."""
    problem = own_log.own_problem(small_settings)
    days = [own_log.pairs_of(day, {}) for day in own_log.trusted_days(small_settings)]
    newcomers = ~np.isin(days[-1].producers, problem.case.producer_ids)
    assert problem.case.engaged.sum() == days[-1].only(~newcomers).strengths.sum()
    assert problem.case.window.sum() == sum(day.strengths.sum() for day in days[:-1])
    assert problem.tuning[1].sum() == days[-2].strengths.sum()


# Methods


def test_every_embedder_on_the_seam_is_a_method(world):
    assert families(world.input).keys() >= set(base.names())


def test_the_seam_gives_what_the_solver_gives(world):
    """The SVD through files and threads, against the SVD in memory: the same scores."""
    learned = OnTheSeam("svd", {"smoothing": 1.0})(world.input, 0)
    known = np.flatnonzero(np.diff(world.case.window.indptr))
    peer = SVD(methods.DIM, 1.0).fit(world.case.window[known], 0)
    expected = peer.consumers @ peer.targets.T
    np.testing.assert_allclose(learned.scores(known), expected, atol=0.02 * expected.max())


def test_a_newcomer_is_shown_what_is_popular(world):
    """By every method: its vector is zero, and its history is empty."""
    x = world.case.window.copy()
    x.data[x.indptr[0] : x.indptr[1]] = 0
    x.eliminate_zeros()
    counts = np.bincount(x.indices, minlength=x.shape[1])
    for name, candidates in families(world.input_of(x)).items():
        if name not in ("random", "follow svd", "follow deepwalk"):
            scores = candidates[0].fit(world.input_of(x), 0).scores(np.array([0]))
            np.testing.assert_array_equal(scores[0], counts, err_msg=name)


def test_tuning_takes_what_ranks_the_last_part_of_the_window_best(world):
    """Of three candidates the one that knows it, wherever it stands."""
    earlier, following = world.tuning

    def knows(share: float) -> methods.Method:
        def fit(data, seed):
            assert data.x is earlier
            return Learned(lambda rows: share * following[rows].toarray() + data.x[rows] * 0)

        return methods.Method(fit, f"{share}")

    best, tried = tuned(world, [knows(0.0), knows(1.0), knows(-1.0)])
    assert best.options == "1.0"
    assert [row["options"] for row in tried] == ["0.0", "1.0", "-1.0"]


# What is asked


def test_the_truth_is_what_no_method_surpasses(world):
    """The expected clicks themselves reach nearly all that can be reached, and the methods less."""
    rates = np.zeros(world.case.window.shape, np.float32)
    rates[world.truth.asked] = world.truth.rates
    oracle = Learned(lambda rows: rates[rows])
    learned = {"oracle": [oracle]}
    for name, candidates in families(world.input).items():
        learned[name] = [candidates[0].fit(world.input, 0)]
    for judge, floor in ((true_gain, 0.95), (retrieval, 0.0)):
        figures, _ = estimates(judge, world, learned)
        best = figures.pop("oracle").value
        assert best > floor
        assert best > max(figure.value for figure in figures.values())


def test_tastes_and_subjects_as_vectors_reach_what_is_true(world):
    """The true labels are of the right consumers and producers."""
    consumers = np.zeros((len(world.case.consumer_ids), 4), np.float32)
    consumers[world.truth.here] = world.truth.tastes
    producers = np.zeros((len(world.case.producer_ids), 4), np.float32)
    producers[world.truth.there] = world.truth.subjects
    oracle = by_products(world.input, consumers, producers)
    for column in (*TABLE_1, *TABLE_4):
        if column.true is not None and column.true is not true_gain:
            figures, _ = estimates(column.true, world, {"oracle": [oracle]})
            assert figures["oracle"].value > 0.85, column.name


def test_a_seed_counts_as_much_as_another(world):
    """The figure is the mean of the fits, and each fit's own figure is kept."""
    fits = [methods.random_vectors(world.input, seed) for seed in range(3)]
    figures, by_seed = estimates(retrieval, world, {"random": fits})
    alone = [estimates(retrieval, world, {"it": [fit]})[0]["it"].value for fit in fits]
    np.testing.assert_allclose(by_seed["random"], alone)
    assert figures["random"].value == pytest.approx(np.mean(alone))
    assert len(set(alone)) == 3


def test_known_producers_are_not_asked_for_where_nobody_returns():
    both = [(b"c%d" % i, b"p%d" % j, 1.0) for i in range(3) for j in range(2)]
    window = pairs(*both, (b"d", b"q", 1.0))
    later = pairs((b"c0", b"q", 1.0))
    last = np.zeros(len(window), bool)
    popular = Learned(lambda rows: np.tile([9.0, 8.0, 1.0], (len(rows), 1)))
    for repeats, expected in ((False, 1.0), (True, 0.5)):  # first, or third: 1 / log2(4)
        problem = problem_of("it", window, last, later, repeats=repeats)
        figures, _ = estimates(retrieval, problem, {"popular": [popular]})
        assert figures["popular"].value == pytest.approx(expected)


# Tables


def estimate(value: float, spread: float = 0.0) -> Estimate:
    return Estimate.from_draws(value, np.array([value - spread, value + spread]))


def measured(figures: dict, truths: dict) -> Measured:
    return Measured("it", figures, truths, {}, {}, {}, [])


def test_agreement_counts_only_pairs_that_are_decided():
    """a < b < c < d by measure; of a and b, chance could be the reason.

    By truth b is the last, and d comes before c: of c and d, by no more than chance.
    """
    values = {"a": 0.10, "b": 0.12, "c": 0.9, "d": 0.95}
    figures = {name: estimate(value, 0.05 * (name == "a")) for name, value in values.items()}
    truth = {"a": estimate(2.0), "b": estimate(1.0), "c": estimate(3.0, 0.2), "d": estimate(2.9)}
    found = agreement(measured({"topics": figures}, {"topics": truth}), TABLE_1[:1])[0]
    assert (found["decided pairs"], found["agree"], found["contradicted"]) == (5, 4, 0)
    assert found["kendall"] == pytest.approx(1 / 3)
    truth["c"] = estimate(3.0)
    found = agreement(measured({"topics": figures}, {"topics": truth}), TABLE_1[:1])[0]
    assert found["contradicted"] == 1


def test_bold_is_the_best_and_what_is_not_distinct_from_it():
    figures = {"topics": {"a": estimate(0.5), "b": estimate(0.7, 0.3), "c": estimate(0.8)}}
    seconds = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    text = markdown("it", TABLE_1[:1], figures, seconds, dict.fromkeys(seconds, ""))
    assert "| a | 0.500 ±0.000 | 0.10 |" in text
    assert "| b | **0.700 ±0.285** |" in text
    assert "| c | **0.800 ±0.000** |" in text
    assert "| d |" not in text


def test_a_table_from_end_to_end(world, small_settings, monkeypatch, tmp_path, capsys):
    """The log of the settings and the simulated world, without public data; one seed."""
    monkeypatch.setattr(run, "simulated_problem", lambda settings, days: world)
    monkeypatch.setitem(run.COLUMNS, "table1", (TABLE_1[4], TABLE_4[1]))  # the quick ones
    monkeypatch.setattr(methods, "GRIDS", {"svd": {"smoothing": (1.0, 0.0)}})
    monkeypatch.setattr(methods, "DIM", 8)
    report = run.run(small_settings, "table1", None, 1, tmp_path / "out")
    with (report.folder / "table1-methods.csv").open(newline="") as stream:
        rows = {(row["data"], row["method"]): row for row in csv.DictReader(stream)}
    assert {data for data, _ in rows} == {"edgelist", "simulated"}
    assert {method for _, method in rows} == families(world.input).keys()
    svd = rows["simulated", "svd"]
    for column in ("retrieval", "known_for"):
        low, high = (float(svd[f"{column}_{end}"]) for end in ("low", "high"))
        assert low <= float(svd[column]) <= high
        assert f"simulated_svd_{column}" in report.figures
    assert rows["simulated", "ease"]["known_for"] == ""  # it has no vectors
    assert float(svd["fit_cpu_s"]) > 0
    assert "### simulated" in (report.folder / "table1.md").read_text()
    pictures = {file.name for file in report.folder.glob("*.png")}
    assert pictures == {"table1-edgelist.png", "table1-simulated.png", "table1-truth.png"}
    agreed = json.loads((report.folder / "table1-agreement.json").read_text())["rows"]
    assert {row["column"] for row in agreed} == {"retrieval", "known_for"}
    assert "lastfm left out: no data folder is set" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["table1", "table4"])
def test_help_shows_a_runnable_example(command):
    shown = " ".join(CliRunner().invoke(app, ["experiment", command, "--help"]).stdout.split())
    assert f"Example: evergreen experiment {command}" in shown
