"""A log of which only the newest file is there when its day is computed."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from jobs.lake.store import Partition
from jobs.pipeline import running
from jobs.pipeline.plan import anchor_day
from jobs.settings import MLflowSettings, Settings
from jobs.sources import reopen_sources
from jobs.sources.edgelist import EdgelistSettings

DAYS = [date(2024, 3, 1), date(2024, 3, 2)]


def edges(day: date) -> str:
    midnight = (day - date(1970, 1, 1)).days * 86_400
    return "".join(f"c{n % 7} p{n % day.day} {midnight + n}\n" for n in range(60))


def last_matrix(spark, folder: Path, kept: int) -> Partition:
    """The matrix of the last day, each day computed when the log has its last `kept` files."""
    log = folder / "log"
    log.mkdir(parents=True)
    source = EdgelistSettings(kind="edgelist", path=log)
    settings = Settings(home=folder / "home", source=source, mlflow=MLflowSettings(uri="off"))
    for day in DAYS:
        (log / f"{day}.txt").write_text(edges(day))
        for old in sorted(log.iterdir())[:-kept]:
            old.unlink()
        reopen_sources()
        running.request(settings, "matrix", day, lambda: spark)
    assert anchor_day(settings) == DAYS[0]
    return settings.lake.get("matrix", DAYS[-1])


@pytest.mark.slow
def test_the_window_is_the_same_whether_old_files_are_kept_or_not(spark, tmp_path):
    """It reaches back to the first day that was landed, whose file has gone."""
    whole = last_matrix(spark, tmp_path / "whole", kept=2)
    rotated = last_matrix(spark, tmp_path / "rotated", kept=1)
    assert rotated.facts["days"] == len(DAYS)
    assert rotated.digest == whole.digest
