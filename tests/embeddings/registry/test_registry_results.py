"""The results of benchmarks in a version's record."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from registry_parts import DAY, SPACE, parts, publish

from embeddings.benchmarks.results import Result
from embeddings.registry.client import Registry, Version
from embeddings.registry.errors import BadRequest, UnknownName, UnknownVersion

NEXT = DAY + timedelta(days=1)
LATER = DAY + timedelta(days=7)


def result(
    task: str = "profile", metric: str = "auc", on: date = DAY, value: float = 0.7
) -> Result:
    return Result(task, metric, on, value, value - 0.1, value + 0.1, 50, {"random": 0.5})


OWN = result()
TOMORROW = result("retrieval", "ndcg20", NEXT, 0.3)


def publish_with(registry: Registry, results: list[Result], seed: int = 0) -> Version:
    entities, fold_in = parts(seed)
    return registry.publish("author", DAY, SPACE, entities, fold_in, {}, results)


def test_a_version_is_published_with_its_results(registry):
    version = publish_with(registry, [OWN])
    assert registry.results(version) == [OWN]
    assert registry.all_results("author") == {version.id: [OWN]}


def test_results_that_cannot_be_shown_leave_nothing_published(registry):
    for bad, message in BAD:
        with pytest.raises(BadRequest, match=message):
            publish_with(registry, [OWN, bad])
    assert registry.names() == []


BAD = [
    (result(value=np.nan), "not finite"),
    (replace(OWN, high=np.inf), "not finite"),
    (replace(OWN, baselines={"random": -np.inf}), "not finite"),
    (result(task="Two Words"), "lower-case"),
    (result(metric=""), "lower-case"),
    (result(metric="x" * 101), "at most 100"),
]


def test_later_days_add_to_the_record_and_never_change_the_vectors(registry):
    version = publish_with(registry, [OWN])
    digests = registry.verify(version)
    assert registry.add_results(version, [TOMORROW, replace(TOMORROW, on=LATER)]) == 2
    assert registry.results(version) == [OWN, TOMORROW, replace(TOMORROW, on=LATER)]
    assert registry.version("author", DAY) == version
    assert registry.verify(version) == digests


def test_the_same_result_is_recorded_once(registry):
    version = publish_with(registry, [OWN])
    assert publish_with(registry, [OWN]) == version
    assert registry.add_results(version, [OWN]) == 0
    assert rows_of(registry) == 1


def test_a_result_measured_again_counts_and_the_one_before_is_kept(registry):
    version = publish_with(registry, [OWN])
    corrected = replace(OWN, value=0.65)
    assert registry.add_results(version, [corrected]) == 1
    assert registry.results(version) == [corrected]
    assert registry.add_results(version, [OWN]) == 1  # and back again
    assert (registry.results(version), rows_of(registry)) == ([OWN], 3)


def test_revisions_have_their_own_results(registry):
    first = publish_with(registry, [OWN])
    second = publish_with(registry, [replace(OWN, value=0.2)], seed=1)
    assert registry.results(first) == [OWN]
    assert registry.results(second) == [replace(OWN, value=0.2)]


def test_a_removed_version_takes_its_results_along(registry):
    first = publish_with(registry, [OWN])
    publish_with(registry, [OWN], seed=1)
    registry.remove(first)
    assert rows_of(registry) == 1


def test_unknown_versions_are_named(registry):
    version = publish(registry)
    with pytest.raises(UnknownName, match="topic"):
        registry.all_results("topic")
    for call in (registry.results, lambda gone: registry.add_results(gone, [OWN])):
        with pytest.raises(UnknownVersion, match=r"2022-04-25\.r9"):
            call(replace(version, revision=9))


def rows_of(registry: Registry) -> int:
    """Rows in the table, also those that do not count any more."""
    from sqlalchemy import func, select

    from embeddings.registry.catalog import BenchmarkRow

    with registry.catalog.reading() as session:
        return session.scalar(select(func.count()).select_from(BenchmarkRow))
