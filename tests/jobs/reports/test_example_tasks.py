"""The example tasks: e-mails and follows of new users, on tiny worlds, tables and files."""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from ranker_lake import DAYS, commit_days, commit_validated, ranker_settings
from typer.testing import CliRunner

from embeddings.benchmarks.auc import auc
from jobs.cli import app
from jobs.reports.newcomers import email, new_user
from jobs.reports.newcomers.estimates import mean_of_parts, rce
from jobs.reports.newcomers.follow_features import EMBEDDINGS, RANKERS, sign_up_rows
from jobs.reports.newcomers.mailings import BASE, BUCKETS, WITH_BOTH, WITH_CONSUMER, Mailing
from jobs.reports.newcomers.mailings_log import log_mailing
from jobs.reports.newcomers.mailings_world import Clickers, Clicks, Days, Spaces, world_mailing
from jobs.reports.newcomers.signups import KNOWN, TEST, TRAIN, NewUsers, asked
from jobs.reports.newcomers.signups_log import LASTFM_FILES, lastfm_new_users, log_new_users
from jobs.reports.newcomers.signups_world import new_users
from jobs.reports.newcomers.wide_deep import Rows, scores, without_vectors
from jobs.reports.report import Report
from jobs.reports.tables.public import LASTFM
from models.metrics import relative_cross_entropy
from simulation.drift import Drift
from simulation.emails import Emails
from simulation.world import World

SMALL = World(consumers=1500, producers=60, topics=4, impressions=2.0, drift=Drift(consumers=0.05))
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def mailing() -> Mailing:
    world = replace(SMALL, consumers=6000, impressions=1.0)
    return world_mailing(world, Days(window=3, first=1, train=2, test=1))


@pytest.fixture(scope="module")
def users() -> NewUsers:
    return new_users(SMALL, (4, 2, 1))


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


# Figures


def test_rce_is_that_of_the_metrics_and_weights_repeat_rows():
    labels = (RNG.random(50) < 0.3).astype(np.float32)
    scored, times = RNG.random(50), RNG.integers(0, 3, 50)
    assert rce(labels, scored) == pytest.approx(relative_cross_entropy(labels, scored))
    repeated = relative_cross_entropy(np.repeat(labels, times), np.repeat(scored, times))
    assert rce(labels, scored, times[None, :])[0] == pytest.approx(repeated)


def test_the_mean_of_buckets_counts_each_bucket_once():
    """By hand: an AUC of 1 among two rows, and of 0 among three."""
    labels, scored = np.array([0, 1, 1, 0, 0]), np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    parts = [np.array([0, 1]), np.array([2, 3, 4])]
    assert mean_of_parts(parts, labels, scored) == 0.5


# The ranker


def planted(n: int, rng: np.random.Generator) -> Rows:
    """The label is what the first number of the user's vector says."""
    vectors = rng.normal(size=(n, 4)).astype(np.float32)
    labels = (vectors[:, 0] > 0).astype(np.float32)
    rows = np.arange(n)
    return Rows(rows, labels, {"all": np.zeros(n, np.int64)}, {}, vectors, rows)


def test_a_ranker_reads_the_vectors_of_its_rows():
    rng = np.random.default_rng(3)
    train_on, test_on = planted(6000, rng), planted(500, rng)
    assert auc(test_on.labels, scores(train_on, test_on, 0, 1)) > 0.7
    bare = [rows.with_vectors(*without_vectors(len(rows))) for rows in (train_on, test_on)]
    assert np.ptp(scores(*bare, 0, 1)) < 1e-3  # all rows look alike


# E-mails


def test_buckets_have_equally_many_users_by_activity():
    users = np.repeat(RNG.permutation(90), 2)
    activity = (users // 7).astype(float)
    mailing = Mailing("it", "", users, np.zeros(180), activity, lambda ranker, seed: np.zeros(180))
    buckets = mailing.buckets()
    assert [len(rows) for rows in buckets] == [20] * BUCKETS
    edges = [(activity[rows].min(), activity[rows].max()) for rows in buckets]
    assert all(below[1] <= above[0] for below, above in pairwise(edges))


def test_a_topic_is_where_those_who_clicked_differ_from_those_who_received():
    """By hand: two receivers at right angles, one of whom clicked, and 20 clicks of a prior."""
    clickers = Clickers(topics=2, dim=2)
    sent = Emails(np.zeros(2), np.array([1, 1]), np.arange(2), np.array([True, False]), np.zeros(2))
    vectors = np.array([[3.0, 0.0], [0.0, 2.0]])
    clickers.add(vectors, sent)
    expected = np.array([0.5, -0.5]) / 21  # the direction (1, 0), less the mean (0.5, 0.5)
    np.testing.assert_allclose(clickers.likeness(vectors, sent.topics), expected)
    assert not clickers.likeness(vectors, np.zeros(2, int)).any()


def test_vectors_of_two_days_are_in_one_space():
    """Of the same clicks, whatever the solver returns the second time."""
    rng = np.random.default_rng(1)
    day = Clicks(rng.integers(0, 80, 600), rng.integers(0, 30, 600), np.arange(80))
    spaces, wanted = Spaces(dim=5), np.array([3, 70, 999])
    first = spaces.add([day], wanted)
    assert not first[2].any()
    spaces.before = (spaces.before[0], spaces.before[1] @ np.diag([1, -1, 1, -1, 1]))
    second = spaces.add([day], wanted)
    np.testing.assert_allclose(second, first @ np.diag([1, -1, 1, -1, 1]), atol=1e-4)


def test_the_rankers_of_e_mails_differ_in_what_they_see(mailing):
    found = [mailing.score(ranker, 0) for ranker in (BASE, WITH_CONSUMER, WITH_BOTH)]
    assert len({scored.tobytes() for scored in found}) == 3
    assert len(found[0]) == len(mailing.labels) == len(mailing.truth)


def test_the_table_of_e_mails_from_end_to_end(mailing, small_settings, tmp_path):
    report = Report(small_settings, "email", 0, tmp_path / "out")
    email.write(report, [email.scored(mailing, 1, lambda text: None)])
    rows = read(report.folder / "email-buckets.csv")
    assert [row["bucket"] for row in rows[-2:]] == [email.MEAN, email.ALL]
    assert len(rows) == BUCKETS + 2
    assert sum(int(row["rows"]) for row in rows[:BUCKETS]) == len(mailing.labels)
    last = rows[-1]
    assert float(last[f"{email.TRUTH}"]) > 0.7 > float(last[BASE])
    assert float(last[f"{BASE}_low"]) <= float(last[BASE]) <= float(last[f"{BASE}_high"])
    assert "### simulated" in (report.folder / "email.md").read_text()
    assert (report.folder / "email-simulated.png").exists()


@pytest.mark.slow
def test_what_is_shown_on_the_next_day_stands_for_e_mails(spark, tmp_path):
    """On two days that follow trusted ones; the second has a day with vectors to learn from."""
    settings = ranker_settings(tmp_path / "home")
    log = settings.source.path
    log.write_text("\n".join(log.read_text().splitlines()[:4]) + "\n")
    commit_days(settings, DAYS[:3], n=200)
    commit_validated(settings, DAYS[3], None)
    mailing = log_mailing(settings, lambda text: None)
    assert isinstance(mailing, Mailing)
    assert len(mailing.labels) == 400
    assert mailing.activity.max() > 3
    found = [mailing.score(ranker, 0) for ranker in (BASE, WITH_CONSUMER, WITH_BOTH)]
    assert len({scored.tobytes() for scored in found}) == 3


# New users


def test_the_true_probabilities_of_follows_are_calibrated():
    """Of all pairs; the mean is within four standard errors of the share of follows."""
    world = replace(SMALL, consumers=4000)
    found = new_users(world, (2, 1, 1))
    rows = np.repeat(np.arange(3000), world.producers)
    columns = np.tile(np.arange(world.producers), 3000)
    labels = np.asarray(found.follows[rows, columns]).ravel()
    for p in found.truth(rows, columns).values():
        assert abs(labels.mean() - p.mean()) < 4 * np.sqrt(p.mean() / len(p))
        likely = p > 0.2
        error = np.sqrt(np.mean(p[likely]) / likely.sum())
        assert abs(labels[likely].mean() - p[likely].mean()) < 6 * error


def test_nothing_is_learned_from_those_who_are_asked_about(users):
    """Their follows are exchanged, and no embedding or feature changes."""
    changed = users.follows.tolil()
    late = np.flatnonzero(users.parts == TEST)
    changed[late] = np.roll(users.follows[late].toarray(), 7, axis=1)
    other = replace(users, follows=changed.tocsr())
    pairs = asked(users, TEST, 0)
    for embed in EMBEDDINGS.values():
        one, two = embed(users, 0), embed(other, 0)
        np.testing.assert_array_equal(one.users, two.users)
    one, two = sign_up_rows(users, pairs), sign_up_rows(other, pairs)
    for name, column in one.numbers.items():
        np.testing.assert_array_equal(column, two.numbers[name], err_msg=name)
    assert asked(other, TEST, 0).producers.tolist() == pairs.producers.tolist()


def test_newcomers_of_later_days_are_tested_and_all_have_domains(users):
    by_part = [np.flatnonzero(users.parts == part) for part in (KNOWN, TRAIN, TEST)]
    assert [len(rows) > 20 for rows in by_part] == [True, True, True]
    visits = np.diff(users.domains.indptr)
    assert (visits[by_part[1]] > 0).mean() > 0.9
    assert 0 < (visits[by_part[0]] > 0).mean() < 0.5  # most were there before the log


def test_the_table_of_new_users_from_end_to_end(users, small_settings, tmp_path):
    report = Report(small_settings, "new-user", 0, tmp_path / "out")
    new_user.write(report, [new_user.scored(users, 1, lambda text: None)])
    rows = {row["ranker"]: row for row in read(report.folder / "new-user-rankers.csv")}
    assert list(rows) == [*RANKERS, "truth, by taste", "truth, all"]
    for name in RANKERS:
        assert 0.4 < float(rows[name]["roc_auc"]) < float(rows["truth, all"]["roc_auc"])
    assert float(rows["sign-up"]["rce_gain"]) == 0
    assert "web domains visited" in (report.folder / "new-user.md").read_text()
    assert (report.folder / "new-user-simulated.png").exists()


def test_a_log_without_follows_is_named_with_what_it_has(small_settings):
    message = log_new_users(small_settings)
    assert "no engagement of the kinds follow and profile_enter. It has: click, like." in message


def test_hidden_users_of_a_log_with_follows_are_new_users(spark, tmp_path, monkeypatch):
    """Likes stand for follows here."""
    settings = ranker_settings(tmp_path / "home")
    log = settings.source.path
    log.write_text("\n".join(log.read_text().splitlines()[:2]) + "\n")
    commit_days(settings, DAYS[:2], n=200)
    monkeypatch.setattr("jobs.reports.newcomers.signups_log.FOLLOWS", ("like",))
    found = log_new_users(settings)
    assert isinstance(found, NewUsers), found
    assert set(np.unique(found.parts)) == {KNOWN, TRAIN, TEST}
    assert {"kind=k0", "kind=k1", "kind=k2"} <= set(found.names.tolist())
    assert found.domains.shape == (len(found.parts), len(found.names))
    assert found.topics.min() > 0  # every producer has items, of the tags g0 to g4


def test_lastfm_is_read_from_its_files_or_left_out(tmp_path):
    assert "no data folder is set" in lastfm_new_users(None)
    assert "user_artists.dat.gz" in lastfm_new_users(tmp_path)
    tables = (
        "userID\tartistID\tweight\n1\t7\t30\n1\t8\t2\n2\t8\t5\n",
        "userID\tfriendID\n1\t2\n2\t1\n",
        "userID\tartistID\ttagID\tday\n1\t7\t40\t1\n1\t8\t40\t1\n2\t8\t41\t1\n",
    )
    (tmp_path / LASTFM).mkdir()
    for name, text in zip(LASTFM_FILES, tables, strict=True):
        (tmp_path / LASTFM / name).write_bytes(gzip.compress(text.encode()))
    found = lastfm_new_users(tmp_path)
    np.testing.assert_array_equal(found.follows.toarray(), [[1, 1], [0, 1]])
    np.testing.assert_allclose(found.domains.toarray(), [[np.log(3), 0], [0, np.log(2)]])
    np.testing.assert_array_equal(found.contacts.toarray(), [[0, 1], [1, 0]])


def test_a_user_is_asked_about_producers_by_their_followers():
    follows = sp.csr_matrix(np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 1]], float))
    none = sp.csr_matrix((3, 3))
    found = NewUsers(
        "it", {}, np.array([KNOWN, KNOWN, TEST]), none, np.array(["a"]), {}, none, follows,
        np.zeros(4, int), candidates=3,
    )  # fmt: skip
    pairs = asked(found, TEST, 0)
    # Nobody who is known follows the other two.
    assert sorted(zip(pairs.users, pairs.producers, pairs.labels, strict=True)) == [
        (2, 0, 0.0),
        (2, 1, 1.0),
    ]


@pytest.mark.parametrize("command", ["email", "new-user", "table5"])
def test_help_shows_a_runnable_example(command):
    shown = " ".join(CliRunner().invoke(app, ["experiment", command, "--help"]).stdout.split())
    assert f"Example: evergreen experiment {command}" in shown
