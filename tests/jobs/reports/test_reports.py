"""The experiments: their measures by hand and by slow loops, and both of them from end to end on small days."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from ranker_lake import DAYS, commit_validated, impressions, ranker_settings
from typer.testing import CliRunner

from embeddings.align import mean_cosine, relative_residual
from embeddings.embedders.als import ALSConfig
from jobs.cli import app
from jobs.errors import EvergreenError
from jobs.reports import alignment
from jobs.reports import folding_in as fold_in
from jobs.reports import hidden_consumers as hidden
from jobs.reports.daily_log import Log, LoggedDay, read_log
from jobs.reports.datasets import lastfm, measuring_data, movielens
from jobs.reports.frozen_rankers import AUC_RESAMPLES, Course, Judged
from jobs.reports.methods import ALS, SVD
from jobs.reports.metrics import (
    Estimate,
    gain_share,
    mean_estimate,
    most_active,
    ndcg,
    resampled_means,
    split,
)
from jobs.reports.report import Report
from jobs.reports.versions import Version, aligned, daily_versions, version
from jobs.settings import MatrixSettings, Settings
from models.metrics import paired_bootstrap

seeds = st.integers(0, 10_000)


def random_matrix(n: int, m: int, density: float, seed: int) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    x = sp.random(n, m, density, "csr", random_state=rng)
    x.data = rng.integers(1, 5, x.nnz).astype(np.float64)
    return x


# NDCG


def one_consumer(scores: list[float], seen: list[int], relevant: list[int], top: int) -> float:
    """NDCG of a consumer whose products with the producers are these scores."""
    n = len(scores)

    def marked(columns: list[int]) -> sp.csr_matrix:
        return sp.csr_matrix((np.ones(len(columns)), ([0] * len(columns), columns)), shape=(1, n))

    targets = np.array(scores)[:, None]
    return float(
        ndcg(np.ones((1, 1)), targets, np.arange(n)[::-1], marked(seen), marked(relevant), top)[0]
    )


def test_ndcg_by_hand():
    """Relevant ones at ranks 1 and 3 of 3, and a third one below: (1 + 1/2) / (1 + 1/log2 3 + 1/2)."""
    found = one_consumer([9, 8, 7, 6, 5], seen=[], relevant=[0, 2, 4], top=3)
    assert found == pytest.approx(1.5 / (1.5 + 1 / np.log2(3)))


def test_what_was_seen_takes_no_rank():
    assert one_consumer([9, 8, 7, 6, 5], seen=[0, 1], relevant=[2], top=1) == 1.0


def test_a_consumer_without_a_vector_gets_the_most_popular():
    """All targets are zero; the first column is the most popular one."""
    wanted = sp.csr_matrix([[1.0, 0, 0]])
    found = ndcg(
        np.zeros((1, 2)), np.ones((3, 2)), np.array([5, 3, 1]), sp.csr_matrix((1, 3)), wanted, 1
    )
    assert found.tolist() == [1.0]


@given(seeds)
def test_ndcg_against_a_slow_loop(seed):
    rng = np.random.default_rng(seed)
    consumers, targets = (
        rng.normal(size=(6, 3)).astype(np.float32),
        rng.normal(size=(30, 3)).astype(np.float32),
    )
    kinds = rng.integers(0, 4, (6, 30))  # 1: seen, 2: relevant
    kinds[:, 0] = 2
    seen, relevant = (sp.csr_matrix((kinds == kind).astype(float)) for kind in (1, 2))
    slow = []
    for i in range(6):
        order = [j for j in np.argsort(-(targets @ consumers[i])) if kinds[i, j] != 1][:5]
        gained = sum(1 / np.log2(2 + rank) for rank, j in enumerate(order) if kinds[i, j] == 2)
        slow.append(
            gained
            / sum(1 / np.log2(2 + rank) for rank in range(min(5, int((kinds[i] == 2).sum()))))
        )
    np.testing.assert_allclose(
        ndcg(consumers, targets, np.ones(30), seen, relevant, 5), slow, atol=1e-9
    )


# Splits


@given(seeds)
def test_a_split_loses_nothing_and_shares_nothing(seed):
    x = random_matrix(40, 30, 0.3, seed)
    parts = split(x, seed)
    assert abs(parts.train + parts.validation + parts.test - x).max() < 1e-12
    assert parts.train.nnz + parts.validation.nnz + parts.test.nnz == x.nnz


def test_how_much_is_held_out_by_hand():
    """Of 20 pairs 4 judge and 2 tune; of 5 one each; 4 are too few to be judged."""
    x = sp.csr_matrix(np.array([[1.0] * 20, [1.0] * 5 + [0.0] * 15, [1.0] * 4 + [0.0] * 16]))
    parts = split(x, 0)
    counts = [np.diff(part.indptr).tolist() for part in (parts.train, parts.validation, parts.test)]
    assert counts == [[14, 3, 4], [2, 1, 0], [4, 1, 0]]
    assert parts.judged.tolist() == [0, 1]


def test_another_seed_holds_out_others():
    x = random_matrix(40, 30, 0.3, 0)
    assert (split(x, 0).test != split(x, 1).test).nnz > 0
    assert (split(x, 0).test != split(x, 0).test).nnz == 0


def test_the_most_active_by_hand():
    """Pairs 1, 3, 2, 3: half of the four are the two with three."""
    x = sp.csr_matrix([[1.0, 0, 0], [1, 1, 1], [1, 1, 0], [2, 2, 2]])
    assert most_active(x, 50).tolist() == [False, True, False, True]
    assert most_active(x, 1).tolist() == [False, True, False, False]
    assert most_active(x, 100).all()


def test_every_consumer_is_hidden_once():
    fold = hidden.folds(103, 0)
    assert sorted(np.bincount(fold).tolist()) == [20, 20, 21, 21, 21]


def test_groups_by_engagements():
    found = hidden.groups(np.array([1, 4, 5, 70]))
    assert {name: members.tolist() for name, members in found.items()} == {
        "all": [True] * 4,
        "1–4": [True, True, False, False],
        "5–9": [False, False, True, False],
        "10–19": [False] * 4,
        "20–49": [False] * 4,
        "≥ 50": [False, False, False, True],
    }


# Intervals


def test_gain_share_by_hand():
    """0.1 without, 0.3 fitted, 0.25 folded: three quarters of the gain. Equal consumers leave no doubt."""
    found = gain_share(np.full(50, 0.1), np.full(50, 0.3), np.full(50, 0.25), seed=0)
    assert (found.value, found.low, found.high) == pytest.approx((0.75, 0.75, 0.75))


def test_the_interval_of_a_mean_is_the_textbooks():
    """Mean ± 1.96 standard errors, for many consumers."""
    values = np.random.default_rng(0).normal(0.3, 0.2, 2000)
    found = mean_estimate(values, seed=1)
    error = 1.96 * values.std() / np.sqrt(2000)
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - error, values.mean() + error), abs=0.1 * error
    )


def test_columns_are_resampled_together():
    values = np.random.default_rng(0).normal(size=(30, 1))
    drawn = resampled_means(np.hstack([values, 2 * values]), seed=0)
    np.testing.assert_allclose(drawn[:, 1], 2 * drawn[:, 0])
    assert drawn.shape == (1000, 2)


def test_nobody_has_no_interval():
    assert np.isnan(mean_estimate(np.zeros(0), 0).value)
    assert np.isnan(gain_share(*(np.zeros(0),) * 3, 0).value)


def random_judged(seed: int, n: int = 300) -> Judged:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n).astype(np.float32)
    scores = {
        name: labels * strength + rng.normal(size=n)
        for name, strength in (("a", 0.2), ("b", 1.0), ("c", 0.6))
    }
    return Judged(rng.integers(0, 40, n), labels, scores)


def test_gains_are_those_of_the_paired_bootstrap():
    """The gate's function on the same draw, interval and all."""
    judged = random_judged(0)
    found = judged.aucs(seed=7).gain("b", "a")
    peer = paired_bootstrap(
        judged.consumers, judged.labels, judged.scores["a"], judged.scores["b"], AUC_RESAMPLES, 7
    )
    assert (found.value, found.low, found.high) == pytest.approx(
        (peer.difference, peer.low, peer.high)
    )


def test_the_share_of_a_gain_by_hand():
    """Of a way in itself: all of the gain, without doubt; of c: its gain over a, divided by b's."""
    found = random_judged(1).aucs(seed=0)
    assert found.share("b", "b", "a") == Estimate(1.0, 1.0, 1.0)
    by_hand = (found.values["c"] - found.values["a"]) / (found.values["b"] - found.values["a"])
    assert found.share("c", "b", "a").value == pytest.approx(by_hand)


def test_judged_rows_are_joined_and_chosen():
    a, b = random_judged(0), random_judged(1)
    joined = Judged.joined([a, b])
    second = joined.where(np.arange(600) >= 300)
    np.testing.assert_array_equal(second.scores["c"], b.scores["c"])
    np.testing.assert_array_equal(second.consumers, b.consumers)


# Methods


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_the_svds_targets_rank_by_expected_strength(smoothing):
    """At full rank the expected strength is the strength: u · target_j · √(row sum, smoothed) = x_ij."""
    x = random_matrix(30, 12, 0.5, 0)
    model = SVD(12, smoothing).fit(x, 0)
    row_sums = np.asarray(x.sum(axis=1)) + smoothing * x.sum() / 30
    np.testing.assert_allclose(
        model.consumers @ model.targets.T * np.sqrt(row_sums), x.toarray(), atol=1e-4
    )


@pytest.mark.parametrize(
    "method", [SVD(6, 1.0), ALS(ALSConfig(dim=6, iterations=40))], ids=["svd", "als"]
)
def test_folding_in_fitted_consumers_gives_their_vectors(method):
    """SVD to rounding; ALS as far as it has come to rest."""
    x = random_matrix(120, 60, 0.2, 1)
    model = method.fit(x, 0)
    folded = model.fold_in.fold(x)
    assert mean_cosine(folded, model.consumers) > 0.999
    assert relative_residual(folded, model.consumers) < 0.03


# Data


def write_gz(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(text.encode()))


def test_lastfm_is_read_in_its_layout(tmp_path):
    """Windows line ends, ids with holes; a strength is log(1 + listening count)."""
    text = "userID\tartistID\tweight\r\n7\t52\t100\r\n2\t51\t1\r\n7\t51\t0\r\n"
    write_gz(tmp_path / "hetrec2011-lastfm-2k" / "user_artists.dat.gz", text)
    np.testing.assert_allclose(
        lastfm(tmp_path).strengths.toarray(), [[np.log(2), 0], [0, np.log(101)]]
    )


def test_movielens_keeps_what_was_liked(tmp_path):
    write_gz(tmp_path / "ml-100k" / "u.data.gz", "1\t10\t5\t0\n1\t20\t3\t0\n3\t20\t4\t0\n")
    np.testing.assert_array_equal(movielens(tmp_path).strengths.toarray(), [[1, 0], [0, 1]])


def test_a_data_set_that_is_not_there_is_told(tmp_path):
    found, missing = measuring_data(tmp_path)
    assert found == []
    assert [line.split(":")[0] for line in missing] == ["lastfm left out", "ml-100k left out"]
    assert all("--data" in line and str(tmp_path) in line for line in missing)


# The log


def small_log(days: list[list[tuple[int, int, float]]], shape: tuple[int, int]) -> Log:
    """Days of (consumer, producer, strength)."""

    def of(rows: list[tuple[int, int, float]], values: list[float]) -> sp.csr_matrix:
        return sp.csr_matrix((values, ([r[0] for r in rows], [r[1] for r in rows])), shape=shape)

    logged = [
        LoggedDay(
            date(2024, 1, 1) + timedelta(days=n),
            of(rows, [r[2] for r in rows]),
            of(rows, [1.0] * len(rows)),
            None,
        )
        for n, rows in enumerate(days)
    ]
    return Log(logged, None)


def test_the_window_and_the_top_producers_by_hand():
    """Of three days the last two; producer 2 has one consumer there, the others two each."""
    log = small_log(
        [
            [(0, 2, 9.0)],
            [(0, 0, 1.0), (1, 1, 2.0)],
            [(0, 0, 3.0), (1, 0, 1.0), (0, 1, 1.0), (2, 2, 1.0)],
        ],
        (3, 3),
    )
    x, events = log.window(2, MatrixSettings(window_days=2, producers=2))
    np.testing.assert_array_equal(x.toarray(), [[4, 1, 0], [1, 2, 0], [0, 0, 0]])
    assert events.tolist() == [3, 2, 0]


@pytest.fixture(scope="module")
def small_settings(spark, tmp_path_factory) -> Settings:
    """Six validated days of 200 impressions."""
    settings = ranker_settings(tmp_path_factory.mktemp("experiments") / "home")
    for day in DAYS:
        commit_validated(settings, day, impressions(day))
    return settings


@pytest.fixture(scope="module")
def log(small_settings) -> Log:
    return read_log(small_settings, lambda text: None)


def test_the_log_is_the_validated_engagements(small_settings, log):
    """Every click and like of a day is one engagement; weights are those of the settings."""
    clicks = sum(sum(impressions(day)["label_click"].to_pylist()) for day in DAYS)
    likes = sum(sum(impressions(day)["label_like"].to_pylist()) for day in DAYS)
    assert sum(day.events.sum() for day in log.days) == clicks + likes
    heavy = small_settings.model_copy(update={"matrix": MatrixSettings(weights={"like": 3.0})})
    assert (
        sum(day.strengths.sum() for day in read_log(heavy, lambda text: None).days)
        == clicks + 3 * likes
    )


def test_a_ranker_reads_neither_ids_nor_the_past(log):
    """Profile and context alone, so that what it knows of somebody beyond them comes from vectors."""
    assert {c.field for c in log.spec.categorical} == {
        "hour",
        "ctx_tab",
        "consumer_profile",
        "item_profile",
    }
    assert log.spec.numeric == ("num_consumer_fans", "num_item_length")
    assert log.spec.labels == ("label_click",)


def test_examples_are_the_impressions_in_time_order(log):
    table = impressions(DAYS[2]).sort_by([("time_ms", "ascending")])
    examples = log.days[2].examples
    np.testing.assert_array_equal(examples.labels[:, 0], table["label_click"].to_numpy())
    consumers = sorted({f"c{c}" for c in range(30)})
    assert [consumers[row] for row in examples.consumer_rows] == table["consumer_id"].to_pylist()
    assert np.isnan(examples.numbers[:, 0]).any()  # consumer c3 has no number of fans


# Versions


def test_consumers_hidden_from_the_fit_are_folded_in(small_settings, log):
    """Their vectors are there, the fit is another one, and nobody else is folded in."""
    everybody = np.arange(log.shape[0])
    whole = version(log, 3, SVD(4), small_settings, 0)
    left = version(log, 3, SVD(4), small_settings, 0, hidden=everybody < 5)
    assert whole.fitted[:5].any()
    assert not left.fitted[:5].any()
    np.testing.assert_array_equal(left.fitted[5:], whole.fitted[5:])
    np.testing.assert_array_equal(left.consumers.any(axis=1), whole.consumers.any(axis=1))
    assert not np.allclose(left.producers, whole.producers)


def test_alignment_changes_no_product_and_brings_days_together(small_settings, log):
    versions = daily_versions(log, SVD(4), small_settings, 0, lambda text: None)
    turned = aligned(alignment.with_random_signs(versions, seed=3))
    for before, after in zip(versions, turned, strict=True):
        np.testing.assert_allclose(
            after.consumers @ after.producers.T, before.consumers @ before.producers.T, atol=1e-5
        )
    np.testing.assert_allclose(turned[2].producers, aligned(versions)[2].producers, atol=1e-5)


def test_the_frozen_version_is_the_aligned_one_at_age_one(small_settings, log, monkeypatch):
    """And without vectors nothing depends on how they are served."""
    course = Course.of(log, small_settings, 0, longest=3)
    turned = aligned(daily_versions(log, SVD(4), small_settings, 0, lambda text: None))
    served = {"unaligned": turned[::-1], "aligned": turned}
    judged = alignment.ranked_in_all_ways(course, 2, served, course.blind_scores(2))
    assert sorted(judged) == [1, 2, 3]
    np.testing.assert_array_equal(judged[1].scores["frozen"], judged[1].scores["aligned"])
    assert not np.array_equal(judged[2].scores["frozen"], judged[2].scores["aligned"])
    assert not np.array_equal(judged[2].scores["unaligned"], judged[2].scores["aligned"])
    nothing = Version(
        np.zeros_like(turned[0].consumers), np.zeros_like(turned[0].producers), turned[0].fitted
    )
    blank = alignment.ranked_in_all_ways(
        course, 2, {"aligned": [nothing] * 5}, course.blind_scores(2)
    )
    np.testing.assert_array_equal(blank[2].scores["aligned"], blank[2].scores["no vectors"])


def test_a_log_too_short_is_refused(small_settings, log):
    with pytest.raises(EvergreenError, match="has 5 trusted days.*frozen on day 8.*10 in a row"):
        Course.of(log, small_settings, 0, longest=8)


# From end to end


@pytest.fixture
def few(monkeypatch) -> None:
    """What fits into six small days."""
    monkeypatch.setattr(alignment, "STARTS", (2, 3))
    monkeypatch.setattr(hidden, "START", 3)
    for module in (fold_in, hidden):
        monkeypatch.setattr(module, "FEWEST", 5)
    monkeypatch.setattr(fold_in, "PERCENTS", (50, 100))
    als = ALS(ALSConfig(dim=4, iterations=4))
    monkeypatch.setattr(fold_in, "candidates", lambda: {"als": [als], "svd": [SVD(4), SVD(2)]})
    for module in (alignment, hidden):
        monkeypatch.setattr(module, "compared", lambda settings: [als, SVD(4)])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_alignment_from_end_to_end(small_settings, few, tmp_path):
    """A row a method, start and age; a picture a method; and again the same bytes."""
    first, second = (
        alignment.run(small_settings, 0, tmp_path / name) for name in ("first", "second")
    )
    rows = rows_of(first.folder / "alignment-ages.csv")
    expected = [("2", "1"), ("2", "2"), ("2", "3"), ("3", "1"), ("3", "2")]
    assert [(row["start"], row["age"]) for row in rows] == 2 * expected
    for row in rows:
        low, gain, high = (float(row[f"gain aligned{end}"]) for end in ("_low", "", "_high"))
        assert low <= gain <= high
    assert [row["start"] for row in rows_of(first.folder / "alignment-gains.csv")] == 2 * [
        "2",
        "3",
        "all",
    ]
    assert {f.stem for f in first.folder.glob("*.png")} == {"alignment-als", "alignment-svd"}
    for file in sorted(first.folder.iterdir()):
        assert file.read_bytes() == (second.folder / file.name).read_bytes(), file.name


def test_fold_in_from_end_to_end(small_settings, few, tmp_path, capsys):
    """All tables and pictures; nobody is folded in where everybody is fitted; what is missing is told."""
    report = fold_in.run(small_settings, tmp_path / "nowhere", 0, tmp_path / "out")
    rows = rows_of(report.folder / "fold-in-curve.csv")
    assert [(row["method"], row["percent"], row["folded"] == "") for row in rows] == [
        ("als", "50", False),
        ("als", "100", True),
        ("svd", "50", False),
        ("svd", "100", True),
    ]
    whole = [row for row in rows if row["percent"] == "100"]
    assert all(row["fitted"] == row["everybody"] for row in whole)
    assert {row["engagements"] for row in rows_of(report.folder / "fold-in-hidden-auc.csv")} >= {
        "all"
    }
    assert {f.name for f in report.folder.glob("*.png")} == {
        "fold-in-edgelist.png",
        "fold-in-hidden.png",
    }
    assert {name for name in report.figures if name.startswith("als")} == {"als_auc_share"}
    assert report.figures["edgelist_svd_best_percent"] in (50, 100)
    assert "lastfm left out" in capsys.readouterr().err


def test_a_report_is_a_run_in_mlflow(small_settings, tmp_path):
    """Figures as metrics, files as artifacts, the seed as a parameter."""
    from jobs.pipeline.tracking import client_of

    tracked = small_settings.model_copy(
        update={"home": tmp_path, "mlflow": small_settings.mlflow.model_copy(update={"uri": ""})}
    )
    report = Report(tracked, "alignment", 5, None)
    report.table("gains", [{"method": "als", **Estimate(0.1, 0.05, 0.2).fields("gain")}])
    report.figures["als_gain"] = 0.1
    report.track()
    client = client_of(tracked)
    run = client.search_runs([client.get_experiment_by_name("experiments").experiment_id])[0]
    assert (run.info.status, run.data.params, run.data.metrics) == (
        "FINISHED",
        {"seed": "5"},
        {"als_gain": 0.1},
    )
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {
        "alignment-gains.csv",
        "alignment-gains.json",
    }
    assert (
        json.loads((report.folder / "alignment-gains.json").read_text())["rows"][0]["gain_high"]
        == 0.2
    )


@pytest.mark.parametrize("command", ["fold-in", "alignment"])
def test_help_shows_a_runnable_example(command):
    shown = " ".join(CliRunner().invoke(app, ["experiment", command, "--help"]).stdout.split())
    assert f"Example: evergreen experiment {command}" in shown


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_bars_of_alignment_on_the_bundled_log(spark, settings, tmp_path):
    """Issue 3: unaligned costs 0.03 (ALS), 0.02 (SVD); aligned ALS beats frozen; SVD keeps 99 % of frozen's gain."""
    off = settings.model_copy(update={"mlflow": settings.mlflow.model_copy(update={"uri": "off"})})
    alignment.run(off, 0, tmp_path)
    rows = {(row["method"], row["start"]): row for row in rows_of(tmp_path / "alignment-gains.csv")}
    for start in ("3", "5", "8"):
        assert float(rows["als", start]["over unaligned"]) >= 0.03
        assert float(rows["als", start]["over frozen_low"]) > 0
        assert float(rows["svd", start]["over unaligned"]) >= 0.02
        assert float(rows["svd", start]["share of frozen gain"]) >= 0.99
