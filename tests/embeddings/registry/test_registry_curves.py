"""The curves of metrics, point by point."""

from __future__ import annotations

from math import nan

import pytest

from embeddings.registry.curves import HEIGHT, MARGIN, WIDTH, curves, metrics_of


def version(space: str = "s", current: bool = True, **metrics: object) -> dict:
    return {"space": space, "current": current, "lineage": {"metrics": metrics}}


def test_a_curve_spans_all_versions_and_the_whole_height():
    (found,) = curves([version(auc=0.5), version(auc=0.75), version(auc=0.7)])
    assert (found.name, found.low, found.high, found.last) == ("auc", 0.5, 0.75, 0.7)
    (line,) = found.lines
    points = [tuple(map(float, point.split(","))) for point in line.split()]
    assert points[0] == (MARGIN, HEIGHT - MARGIN)
    assert points[1] == (WIDTH / 2, MARGIN)
    assert points[2][0] == WIDTH - MARGIN
    height = (0.7 - 0.5) / (0.75 - 0.5) * (HEIGHT - 2 * MARGIN)
    assert points[2][1] == pytest.approx(HEIGHT - MARGIN - height, abs=0.05)


def test_each_space_has_a_line_of_its_own_and_a_break_before_it():
    values = [("a", 1.0), ("a", 2.0), ("b", 5.0), ("b", 4.0)]
    (found,) = curves([version(space, cosine=value) for space, value in values])
    assert [len(line.split()) for line in found.lines] == [2, 2]
    assert found.breaks == [WIDTH / 2]


def test_versions_without_the_metric_and_replaced_ones_are_left_out():
    versions = [version(x=1), version(), version(current=False, x=100), version(x=3)]
    (found,) = curves(versions)
    assert (len(found.lines[0].split()), found.high) == (2, 3)


@pytest.mark.parametrize("lineage", [{}, {"metrics": None}, {"metrics": {"a": "text", "b": nan}}])
def test_what_is_no_number_has_no_curve(lineage):
    described = {"space": "s", "current": True, "lineage": lineage}
    assert metrics_of(described) == {}
    assert curves([described, described]) == []


def test_a_metric_that_never_changes_has_no_curve():
    assert curves([version(dim=32), version(dim=32)]) == []
    assert curves([version(auc=0.5)]) == []
