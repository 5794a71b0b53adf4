"""A map of a space: the busiest producers of a version on the two main directions of their vectors.

They are coloured by a text feature of producers, where a table of the registry has one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from embeddings.registry.chunked import parts_of
from embeddings.registry.client import Registry, Version
from embeddings.registry.entity_names import NAME, names_of
from embeddings.registry.errors import DamagedVersion, NotFound
from embeddings.registry.loaded import texts
from embeddings.registry.search import best
from embeddings.registry.versions import FEATURES

SHOWN = 400  # producers
COLOURS = 8  # the most frequent values have one each
SIZE = 300  # of the square, in the units of its SVG
MARGIN = 10


@dataclass(frozen=True)
class Point:
    """A producer, or a word. colour: number of its value in the legend; -1 for any other."""

    id: str
    x: float
    y: float
    colour: int
    value: str
    name: str


@dataclass(frozen=True)
class SpaceMap:
    """points: the least engaged first, so that others are drawn over them. legend: value by colour.

    share: of the variance of the vectors' directions that both axes explain.
    """

    points: list[Point]
    legend: list[str]
    coloured_by: str
    share: float
    entity: str = "producer"


def space_map(registry: Registry, version: Version) -> SpaceMap | None:
    """The map of a version; None with fewer than three producers."""
    loaded = registry.load(version)
    producers = loaded.entities[loaded.columns]
    rows, _ = best(parts_of(producers.counts), SHOWN)
    vectors = producers.vectors[rows].astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    rows, unit = rows[lengths > 0], vectors[lengths > 0] / lengths[lengths > 0, None]
    if len(rows) < 3 or unit.shape[1] < 2:
        return None
    places, share = main_directions(unit)
    ids = texts(producers.ids, rows)
    feature, values = text_feature(registry, version, loaded.columns, ids)
    legend = [value for value, _ in Counter(filter(None, values)).most_common(COLOURS)]
    names = names_of(registry, loaded.columns, ids)
    points = []
    for id_, (x, y), value in zip(ids, scaled(places), values, strict=True):
        colour = legend.index(value) if value in legend else -1
        points.append(Point(id_, round(x, 1), round(y, 1), colour, value, names.get(id_, "")))
    return SpaceMap(points[::-1], legend, feature, share, loaded.columns)


def main_directions(unit: np.ndarray) -> tuple[np.ndarray, float]:
    """The rows on their first two principal axes, (n, 2), and the share of variance on them.

    unit: (n, k). The sign of an axis is that of the first column with the largest weight, so that
    versions of one space look alike.
    """
    centred = unit - unit.mean(axis=0)
    _, s, vt = np.linalg.svd(centred, full_matrices=False)
    axes = vt[:2] * np.sign(vt[[0, 1], np.abs(vt[:2]).argmax(axis=1)])[:, None]
    return centred @ axes.T, float((s[:2] ** 2).sum() / max((s**2).sum(), 1e-12))


def scaled(places: np.ndarray) -> np.ndarray:
    """In the square of the map, with one scale for both axes. places: (n, 2)."""
    low, high = places.min(axis=0), places.max(axis=0)
    scale = (SIZE - 2 * MARGIN) / max(float((high - low).max()), 1e-12)
    return (places - (low + high) / 2) * scale + SIZE / 2


def text_feature(
    registry: Registry, version: Version, entity: str, ids: list[str]
) -> tuple[str, list[str]]:
    """The first text feature of an entity as of the version's day: its name, and each value.

    Empty texts where there is none.
    """
    for name in registry.names(FEATURES):
        try:
            table = registry.load_features(registry.version(name, version.day))
        except (NotFound, DamagedVersion):  # the map does without colours
            continue
        text_columns = [
            column
            for column, values in table.columns.items()
            if values.dtype.kind == "S" and column != NAME  # nearly every producer has another
        ]
        if table.entity == entity and text_columns:
            feature = f"{name}.{text_columns[0]}"
            found = registry.features(entity, ids, [feature], as_of=version.day)
            values = found.features[feature].values
            return feature, [value.decode() for value in values.tolist()]
    return "", [""] * len(ids)
