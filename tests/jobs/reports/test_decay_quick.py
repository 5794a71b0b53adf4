"""The quick decay: the figures of the steps that tested the same versions and models before."""

from __future__ import annotations

from datetime import date

import engagement_lake
import numpy as np
import pytest
from engagement_lake import commit_day, engagement_settings, random_day
from ranker_lake import DAYS, commit_days, commit_examples, ranker_settings

from embeddings.blocks import Block, save_block
from embeddings.registry.client import Vectors
from embeddings.registry.shards import write_shard
from jobs.errors import EvergreenError
from jobs.pipeline.plan import writing
from jobs.reports.decay import quick
from jobs.reports.decay import run as decay
from jobs.settings import Settings
from jobs.steps import benchmark, evaluate, gate, train

DIM = 4


def commit_vectors(settings: Settings, day: date, seed: int) -> None:
    """Commit what `matrix`, `align` and `fold_in` leave: random vectors of the day's entities."""
    rng = np.random.default_rng(seed)
    rows = random_day(seed, 2000)
    consumers = np.unique([row[0].encode() for row in rows])
    producers = np.unique([row[1].encode() for row in rows])
    counts = np.zeros((len(consumers), len(producers)))
    for consumer, producer, _ in rows:
        at = (
            np.searchsorted(consumers, consumer.encode()),
            np.searchsorted(producers, producer.encode()),
        )
        counts[at] += 1
    number, columns = np.nonzero(counts)
    ends = np.concatenate([[0], np.cumsum(np.bincount(number, minlength=len(counts)))])
    totals = counts.sum(axis=1).astype(np.int32)
    with writing(settings, "matrix", day) as staging:
        block = Block(consumers, totals, ends, columns.astype(np.int32), counts[number, columns])
        save_block(staging.path / "fitted" / "block-00000", block)
        np.save(staging.path / "producers.npy", producers)
    with writing(settings, "embed", day):
        pass
    with writing(settings, "align", day) as staging:
        staging.facts |= {"space": "space", "left": "", "anchor": str(day)}
        np.save(staging.path / "ids.npy", producers)
        vectors = rng.normal(size=(len(producers), DIM)).astype(np.float32)
        np.save(staging.path / "producers.npy", vectors)
    with writing(settings, "fold_in", day) as staging:
        vectors = rng.normal(size=(len(consumers), DIM)).astype(np.float32)
        folded = np.zeros(len(consumers), bool)
        write_shard(staging.path / "consumer", 0, Vectors(consumers, vectors, totals, folded))


def test_fresh_vectors_have_the_figure_of_the_step_benchmark(tmp_path):
    """And those of the day before have another one, on the same consumers."""
    settings = engagement_settings(tmp_path)
    for seed, day in enumerate(engagement_lake.DAYS):
        commit_day(settings, day, random_day(seed, 2000))
    for seed, day in enumerate(engagement_lake.DAYS):
        commit_vectors(settings, day, seed)
    curve, plan = quick.retrieval_curve(settings, engagement_lake.DAYS, print)
    assert (list(curve), plan.tests) == ([0, 1], [2])
    benchmark.run(None, settings, engagement_lake.DAYS[2])
    judged = settings.lake.get("benchmark", engagement_lake.DAYS[2]).facts
    assert curve[0].value == pytest.approx(judged["retrieval_ndcg20"], abs=1e-6)
    assert curve[0].value != curve[1].value


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Settings:
    """Five days of the ranker's chain."""
    home = tmp_path_factory.mktemp("quick") / "home"
    settings = ranker_settings(home, kind="logistic")
    days = DAYS[:5]
    commit_days(settings, days)
    for day in days:
        commit_examples(settings, day)
        for step in (evaluate, train, gate):
            step.run(None, settings, day)
    return settings


def test_a_fresh_ranker_has_the_figure_of_the_step_evaluate(trained):
    """Age 0 is the challenger of every tested day."""
    curve, plan = quick.ranker_curve(trained, DAYS[:5], print)
    tested = [plan.days[test] for test in plan.tests]
    assert tested == DAYS[2:5]
    aucs = [trained.lake.get("evaluate", day).facts["challenger_auc_click"] for day in tested]
    assert curve[0].value == pytest.approx(np.mean(aucs))


def test_the_page_says_what_it_leaves_out(trained, monkeypatch, tmp_path, capsys):
    """Without vectors in the lake, only the rankers are judged."""
    monkeypatch.setattr(quick, "vectors_by_day", lambda *_: {})
    headlines, page = decay.run_quick(trained, None, None, tmp_path)
    assert len(headlines) == 1
    assert "next-day AUC of click" in headlines[0]
    text = page.read_text()
    assert "one seed. It leaves out equal volume" in text
    assert "Left out: NDCG@20" in text
    assert "Left out: NDCG@20" in capsys.readouterr().err


def test_a_demo_ends_with_the_decay_of_its_days(trained, monkeypatch, tmp_path):
    """Printed, and kept below the summary; where it has too few days, the reason."""
    monkeypatch.setattr(quick, "vectors_by_day", lambda *_: {})
    summary = trained.home / "summary.txt"
    summary.write_text("Champion: …\n")
    lines = decay.end_of_demo(trained)
    assert "without a refresh" in lines[0]
    assert summary.read_text() == "\n".join(["Champion: …", *lines, ""])
    empty = ranker_settings(tmp_path / "home")
    assert decay.end_of_demo(empty)[0].startswith("No decay yet. Left out")


def test_a_home_without_any_day_is_refused(tmp_path):
    settings = ranker_settings(tmp_path / "home")
    with pytest.raises(EvergreenError, match=r"Left out: NDCG@20.*Left out: AUC.*too few days"):
        decay.run_quick(settings, None, None, tmp_path)
