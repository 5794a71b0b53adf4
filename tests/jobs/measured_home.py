"""A home with everything that the metrics of the loop read, committed by hand."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

from jobs.pipeline.attempts import Attempt, remember
from jobs.pipeline.plan import recipe
from jobs.settings import Settings, load_settings
from tests.jobs.prepared import complete, validated

DAYS = [date(2024, 3, 1) + timedelta(days=n) for n in range(4)]
SETTINGS = """
home = "home"
[source]
kind = "edgelist"
path = "log"
timezone = "Asia/Kolkata"
[ranker]
name = "mask"
start_day = "2024-03-01"
[embedding]
name = "author"
[mlflow]
uri = "off"
"""


def build(folder: Path) -> Settings:
    """Two complete days; a third that is landed and validated, with faults; a fourth in the log."""
    (folder / "log").mkdir()
    for day in DAYS:
        seconds = (day - date(1970, 1, 1)).days * 86_400
        (folder / "log" / f"{day}.txt").write_text(f"c1 p1 {seconds}\n")
    (folder / "settings.toml").write_text(SETTINGS)
    settings = load_settings(folder / "settings.toml")
    for day in DAYS[:2]:
        complete(settings, day, anchor=DAYS[0], champion=str(DAYS[0]))
    of_gate = {"champion_after": str(DAYS[1]), "promoted": 1, "difference": 0.25}
    with settings.lake.writing("gate", DAYS[1], recipe="") as staging:
        staging.facts |= of_gate
    tested = {"champion": str(DAYS[0]), "challenger": "", "champion_auc_click": 0.75}
    with settings.lake.writing("evaluate", DAYS[1], recipe="") as staging:
        staging.facts |= tested
    with settings.lake.writing("drift", DAYS[1], recipe="") as staging:
        staging.facts |= {"alarms": 3, "why": "clicks", "largest_divergence": 0.5}
    with settings.lake.writing("benchmark", DAYS[1], recipe="") as staging:
        staging.facts |= {"retrieval_ndcg20": 0.125}
    with validated(settings, DAYS[2]) as staging:
        staging.facts |= {"trusted": True, "bad_engagements": 4}
    with settings.lake.writing("land", DAYS[2], recipe=recipe(settings, "land")) as staging:
        staging.facts |= {"rows_engagements": 50}
    remember(settings, Attempt("embed", "author", str(DAYS[1]), 1.5e9, 12.5))
    remember(settings, Attempt("land", "", str(DAYS[3]), 1.6e9, 0.5, "BadInput"))
    return settings
