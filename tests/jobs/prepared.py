"""Partitions that no step has computed, committed as the plan expects to find them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

from jobs.lake.store import Staging
from jobs.pipeline.origin import origin
from jobs.pipeline.plan import needs, recipe, writing
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
    with writing(settings, "validate", day) as staging:
        yield staging
