"""Partitions that no step has computed, committed as the plan expects to find them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import numpy as np

from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry.client import Vectors, Version
from jobs.lake.store import Staging
from jobs.pipeline.origin import origin
from jobs.pipeline.plan import needs, recipe, writing
from jobs.pipeline.published import content_id
from jobs.settings import Settings


@contextmanager
def validated(settings: Settings, day: date) -> Iterator[Staging]:
    """Commit `validate` of a day of the log, after what it needs: days that are landed, empty."""
    for step, landed in needs(settings, "validate", day):
        if settings.lake.find(step, landed) is None:
            read = origin(settings, landed)
            with settings.lake.writing(
                step, landed, recipe=recipe(settings, step), log=read.log, sources=read.files
            ):
                pass
    with settings.lake.writing("quarantine", day, recipe=recipe(settings, "validate")):
        pass
    with writing(settings, "validate", day) as staging:
        yield staging


def complete(settings: Settings, day: date, anchor: date, champion: str = "") -> None:
    """Commit every step of a day, with the facts and files that other steps look at.

    anchor: of the one space that all days share. champion: training day of the champion.
    """
    with validated(settings, day) as staging:
        staging.facts |= {"trusted": True, "reason": "", "rows_impressions": 1}
        (staging.path / "impressions").mkdir()
        (staging.path / "impressions" / "part-00000.parquet").write_text(f"rows of {day}")
    space = {"space": "space", "anchor": str(anchor), "left": ""}
    with writing(settings, "drift", day) as staging:
        staging.facts |= {"alarms": 0}
    for step in ("matrix", "embed", "align", "fold_in", "lookalike", "benchmark"):
        with writing(settings, step, day) as staging:
            staging.facts |= space
            (staging.path / "vectors.npy").write_text(f"{step} of {day}" * 100)
    version = publish(settings, day)
    with writing(settings, "publish", day) as staging:
        staging.facts |= {"version": content_id(version), "digest": version.digest}
    with writing(settings, "consistency", day) as staging:
        staging.facts |= {"version": content_id(version)}
    facts = {
        "examples": {"version": content_id(version)},
        "evaluate": {},
        "train": {"space": "space", "embedding": content_id(version)},
        "gate": {"champion_after": champion, "promoted": 0},
        "promote": {"champion": champion},
    }
    for step, of_step in facts.items():
        with writing(settings, step, day) as staging:
            staging.facts |= of_step
            (staging.path / "result").write_text(f"{step} of {day}" * 100)


def publish(settings: Settings, day: date, value: float | None = None) -> Version:
    """A version of three vectors of this value; by default other ones each day."""
    vectors = np.full((3, 2), day.day if value is None else value, np.float32)
    entity = Vectors(
        np.array([b"a", b"b", b"c"]), vectors, np.ones(3, np.int32), np.zeros(3, dtype=bool)
    )
    return settings.open_registry().publish(
        settings.embedding.name,
        day,
        "space",
        {"consumer": entity, "producer": entity},
        SVDFoldIn(vectors, np.ones(3)),
        lineage={},
    )
