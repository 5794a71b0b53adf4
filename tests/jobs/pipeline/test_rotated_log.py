"""A log of which only the newest file is there when its day is computed."""

from __future__ import annotations

import random
from datetime import date, timedelta
from pathlib import Path

import pytest

from jobs.lake.store import Partition
from jobs.pipeline import running
from jobs.settings import EmbeddingSettings, MLflowSettings, Settings
from jobs.sources import reopen_sources
from jobs.sources.edgelist import EdgelistSettings

DAYS = [date(2024, 3, 1) + timedelta(days=n) for n in range(3)]


def edges(day: date) -> str:
    """Forty consumers in four groups, each with six producers of its own."""
    draw = random.Random(day.toordinal())
    midnight = (day - date(1970, 1, 1)).days * 86_400
    lines = []
    for second in range(400):
        consumer = draw.randrange(40)
        producer = consumer % 4 + 4 * draw.randrange(6)
        lines.append(f"c{consumer} p{producer} {midnight + second}\n")
    return "".join(lines)


def aligned(spark, folder: Path, kept: int) -> list[Partition]:
    """The alignment of each day, computed when the log has the files of the last `kept` days."""
    log = folder / "log"
    log.mkdir(parents=True)
    settings = Settings(
        home=folder / "home",
        source=EdgelistSettings(kind="edgelist", path=log),
        embedding=EmbeddingSettings(dim=4),
        mlflow=MLflowSettings(uri="off"),
    )
    for day in DAYS:
        (log / f"{day}.txt").write_text(edges(day))
        for old in sorted(log.iterdir())[:-kept]:
            old.unlink()
        reopen_sources()
        running.request(settings, "align", day, lambda: spark)
    return [settings.lake.get("align", day) for day in DAYS]


@pytest.mark.slow
def test_days_are_the_same_whether_their_old_files_are_kept_or_not(spark, tmp_path):
    """The window reaches back to the first day that was landed, and all are in one space."""
    whole = aligned(spark, tmp_path / "whole", kept=3)
    rotated = aligned(spark, tmp_path / "rotated", kept=1)
    assert [day.digest for day in rotated] == [day.digest for day in whole]
    assert len({day.facts["space"] for day in rotated}) == 1
