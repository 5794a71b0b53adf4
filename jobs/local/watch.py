"""The watch: which published days lost their ranker run, and was the newest day tested in time?

Airflow can lose the event by which a published day starts its ranker: an event of a paused DAG, or
one that arrives while runs are pending (apache/airflow #56050, #56646, #71070). The lake knows what
is missing, whatever was lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from jobs.local.airflow_client import Airflow
from jobs.pipeline import chain
from jobs.settings import Settings

EMBEDDINGS = "embeddings_daily"
RANKER = "ranker_daily"
DAYS = 30  # the newest published days, which are watched
# Time in which an event is expected to start its run; a younger version is not judged.
GRACE = timedelta(hours=1)

EXPLANATIONS = {
    "complete": "published and decided",
    "not ranked": "published; no impressions, or before the chain's first day: nothing to rank",
    "lost": f"published, but {RANKER} was never started",
    "paused": f"published, but {RANKER} was never started: it is paused in Airflow",
    "young": f"published less than an hour ago; {RANKER} starts soon",
    "queued": f"published; {RANKER} is waiting in Airflow",
    "running": f"published; {RANKER} is running",
    "failed": f"published, but {RANKER} failed: see its log in Airflow",
    "success": f"published, but {RANKER} decided nothing: see its log in Airflow",
    "refused": "validation refused the day: see reports/validate",
    "coming": f"not published yet; {EMBEDDINGS} is running",
    "unpublished": f"not published: see {EMBEDDINGS} in Airflow",
}
ON_ITS_WAY = ("young", "queued", "running", "coming")
UNFINISHED = ("queued", "running")  # states of a run in Airflow


@dataclass(frozen=True)
class DayState:
    """What the lake and Airflow know of a day.

    wanted: would the chain of rankers have this day? tested, decided: have its models been
    evaluated, and the aliases set? run: state of the newest run of the DAG that comes next, '' if
    there is none: the ranker's since the day was published, before that the embeddings'.
    young: was it published less than GRACE ago? paused: is the ranker paused?
    """

    day: date
    published: bool = False
    refused: bool = False
    wanted: bool = False
    tested: bool = False
    decided: bool = False
    run: str = ""
    young: bool = False
    paused: bool = False

    def verdict(self) -> str:
        """A key of EXPLANATIONS."""
        if self.refused:
            return "refused"
        if not self.published:
            return "coming" if self.run in UNFINISHED else "unpublished"
        if self.decided:
            return "complete"
        if not self.wanted:
            return "not ranked"
        if self.run:
            return self.run
        if self.paused:  # another run would only wait beside the one of the event
            return "paused"
        return "young" if self.young else "lost"


@dataclass
class Findings:
    """What to do and to say. lines: one per day.

    alarm: why the day that was due is not complete, '' if it is. on_its_way: may it still become
    complete by itself?
    """

    trigger: list[date] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    alarm: str = ""
    on_its_way: bool = False


def judge(states: Iterable[DayState], due: date | None) -> Findings:
    """Which days need a ranker run, and a line for each day.

    due: the day that must have been tested by now; None where none must.
    """
    findings = Findings()
    for state in states:
        verdict = state.verdict()
        line = f"{state.day}: {EXPLANATIONS[verdict]}"
        if verdict == "lost":
            findings.trigger.append(state.day)
            line += "; it is started now"
        findings.lines.append(f"{line}.")
        if state.day == due and not state.tested and verdict != "not ranked":
            findings.alarm = f"No champion has been evaluated on a day that was due. {line}."
            findings.on_its_way = verdict in ON_ITS_WAY
    return findings


def watch(settings: Settings, due: date) -> Findings:
    """Judge the newest published days, and start the rankers that were lost.

    due: the newest day that must be complete by now; judged only while the log is growing.
    """
    days = settings.lake.days("publish")[-DAYS:]
    judged = settings.services.live and bool(days)  # a new home has nothing that could be late
    if judged and due not in days:
        days.append(due)
    with Airflow(settings.services) as airflow:
        states = [state_of(settings, airflow, day) for day in sorted(days)]
        findings = judge(states, due if judged else None)
        for day in findings.trigger:
            airflow.trigger(RANKER, day)
    return findings


def state_of(settings: Settings, airflow: Airflow, day: date) -> DayState:
    """What is known of a day; Airflow is asked only about a day that is not complete."""
    lake = settings.lake
    version = lake.find("publish", day)
    checked = lake.find("validate", day)
    starts = settings.ranker.start_day
    state = DayState(
        day,
        published=version is not None,
        refused=checked is not None and not checked.facts["trusted"],
        wanted=checked is not None and chain.rankable(checked) and (not starts or starts <= day),
        tested=lake.find("evaluate", day) is not None,
        decided=lake.find("promote", day) is not None,
    )
    if version is None:
        return replace(state, run=newest_run(airflow, EMBEDDINGS, day))
    if state.verdict() != "lost":
        return state
    # The folder of a partition is written once: its age is that of the content.
    now = datetime.now(UTC)
    written = now - timedelta(seconds=lake.place.content_age_s(version.folder))
    return replace(
        state,
        run=newest_run(airflow, RANKER, day, written),
        young=now - written < GRACE,
        paused=airflow.call("GET", f"/dags/{RANKER}")["is_paused"],
    )


def newest_run(airflow: Airflow, dag_id: str, day: date, since: datetime | None = None) -> str:
    """State of the newest run of a day; '' if none is unfinished or has ended after `since`."""
    for run in airflow.runs_of_day(dag_id, day):
        ended = run["end_date"]
        if since is None or ended is None or datetime.fromisoformat(ended) >= since:
            return run["state"]
    return ""
