"""One suite for every benchmark: each file of embeddings/benchmarks/tasks promises the same."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import fields, replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from planted_case import planted_case

from embeddings.benchmarks.judging import BASELINES, difference, measure, random_vectors
from embeddings.benchmarks.tasks.base import Case, NotJudged, benchmark, names

ROOT = Path(__file__).parents[2]
DAY = date(2024, 3, 1)
OF_CONSUMERS = (
    "consumer_ids",
    "consumers",
    "consumer_counts",
    "window",
    "engaged",
    "elsewhere",
    "consumer_topics",
)
OF_PRODUCERS = ("producer_ids", "producers", "producer_counts", "producer_topics")


@pytest.fixture(params=names())
def name(request) -> str:
    return request.param


@pytest.fixture
def task(name):
    return benchmark(name)


@pytest.fixture(scope="module")
def case() -> Case:
    return planted_case()


def headline(name: str, case: Case) -> float:
    task = benchmark(name)
    return float(task.judge(case).statistics[task.METRICS[0].name]())


def test_it_declares_what_it_measures(task, case):
    judged = task.judge(case)
    assert list(judged.statistics) == [metric.name for metric in task.METRICS]
    assert all(metric.better == "higher" for metric in task.METRICS)
    assert set(task.NEEDS) <= {field.name for field in fields(Case)}
    assert task.TITLE


def test_vectors_that_know_the_topics_beat_every_baseline(name, task, case):
    first, *_ = measure(name, task, case, DAY)
    assert BASELINES.keys() <= first.baselines.keys()
    # Even the lower end of the interval. What learns from the same window knows the topics too.
    learned = {"co_occurrence", "ease_of_2000"}
    others = {kind: value for kind, value in first.baselines.items() if kind not in learned}
    assert first.low > max(others.values())
    assert first.low < first.value < first.high


def test_a_value_is_the_same_without_the_rivals_that_take_long(name, task, case):
    for alone, beside in zip(
        measure(name, task, case, DAY, with_rivals=False),
        measure(name, task, case, DAY),
        strict=True,
    ):
        assert alone.baselines.keys() == BASELINES.keys()
        shared = {kind: beside.baselines[kind] for kind in BASELINES}
        assert alone == replace(beside, baselines=shared)


def test_vectors_of_somebody_else_know_nothing(name, case):
    """Vectors in another order are as good as random ones: nothing leaks from the labels."""
    rng = np.random.default_rng(1)
    mixed = replace(
        case,
        consumers=rng.permutation(case.consumers),
        producers=rng.permutation(case.producers),
    )
    known = headline(name, case)
    assert abs(headline(name, mixed) - headline(name, random_vectors(case))) < 0.35 * known


def test_the_same_case_gives_the_same_results(name, task, case):
    assert measure(name, task, case, DAY) == measure(name, task, case, DAY)


def test_the_order_of_consumers_and_producers_does_not_matter(name, task, case):
    rng = np.random.default_rng(2)
    rows = rng.permutation(len(case.consumer_ids))
    columns = rng.permutation(len(case.producer_ids))
    changed = {field: getattr(case, field)[rows] for field in OF_CONSUMERS}
    changed |= {field: getattr(case, field)[columns] for field in OF_PRODUCERS}
    for field in ("window", "engaged"):
        changed[field] = changed[field][:, columns]
    changed["profiles"] = {column: values[rows] for column, values in case.profiles.items()}
    mixed = task.judge(replace(case, **changed))
    straight = task.judge(case)
    assert mixed.n == straight.n
    for metric, statistic in straight.statistics.items():
        assert mixed.statistics[metric]() == pytest.approx(statistic(), abs=1e-6)


def test_a_user_drawn_twice_counts_twice(task, case):
    """Weights of one for everybody give the figure itself, also several at a time."""
    judged = task.judge(case)
    for statistic in judged.statistics.values():
        drawn = statistic(np.ones((3, judged.n)))
        np.testing.assert_allclose(drawn, np.full(3, statistic()), rtol=1e-9)
        twice = statistic(np.full((1, judged.n), 2.0))
        # Pairs of one user with itself are left out, so that Jaccard's pairs change a little.
        np.testing.assert_allclose(twice, [statistic()], rtol=1e-2)


def test_what_is_missing_is_named(name, task, case):
    for need in task.NEEDS:
        with pytest.raises(NotJudged, match=need.replace("_", " ")):
            measure(name, task, replace(case, **{need: None}), DAY)


def test_too_few_are_not_judged(name, task):
    few = planted_case(consumers=12, producers=15)
    with pytest.raises(NotJudged, match=r"only|no label"):
        measure(name, task, few, DAY)


def test_a_version_gains_nothing_on_itself_and_something_on_a_random_one(task, case):
    for estimate in difference(task, case, case).values():
        assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)
    first = task.METRICS[0].name
    assert difference(task, case, random_vectors(case))[first].low > 0


def test_a_new_benchmark_is_one_new_file(tmp_path):
    """In a copy of the package: the file is all that is added."""
    shutil.copytree(ROOT / "embeddings", tmp_path / "embeddings")
    page = (ROOT / "docs" / "extend" / "benchmark.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    (tmp_path / "embeddings" / "benchmarks" / "tasks" / "balance.py").write_text(code)
    shutil.copy(ROOT / "tests" / "planted_case.py", tmp_path)
    program = (
        "from datetime import date\n"
        "from planted_case import planted_case\n"
        "from embeddings.benchmarks.judging import measure\n"
        "from embeddings.benchmarks.tasks.base import benchmark\n"
        "print(measure('balance', benchmark('balance'), planted_case(), date(2024, 3, 1)))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "task='balance'" in found.stdout


def test_an_unknown_benchmark_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match=r"no benchmark 'nope'.*jaccard"):
        benchmark("nope")
