"""What a home holds, how old it is, and what is stale in it and why: one look at everything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from embeddings.registry.verifications import Verified
from jobs.parts import EMBEDDING_STEPS, RANKER_STEPS
from jobs.pipeline import chain
from jobs.pipeline.embedding_gate import CHAMPION
from jobs.pipeline.freshness import Freshness, Verdict
from jobs.pipeline.garbage import kept_since
from jobs.pipeline.plan import first_day, freshness
from jobs.settings import Settings, days_between
from jobs.sources import open_source, reopen_sources
from jobs.sources.file_log import FileLog

GRACE_H = 3.0  # hours that the night's run may take
SHOWN = 8  # reasons of a part that are listed on a terminal
DRIFT_DAYS = 7  # of the newest, whose alarms are shown
PARTS = {  # part -> its steps
    "data": EMBEDDING_STEPS[:3],
    "embeddings": EMBEDDING_STEPS[3:],
    "ranker": RANKER_STEPS,
}


@dataclass(frozen=True)
class DayState:
    """A day of one part: the steps that are not current, and the first reason, in words.

    refused: validation refused the day, so that there is nothing to compute from it. idle: the day
    has nothing for this part.
    """

    day: date
    to_run: list[str]
    why: str
    refused: bool = False
    idle: bool = False


@dataclass(frozen=True)
class PartState:
    """A part of the pipeline. newest: the newest day that is complete and current; None: no day.

    age_days: how many days before `today` that is. waiting: the days that are not current.
    """

    part: str
    newest: date | None
    age_days: int | None
    current_days: int
    refused: list[date]
    waiting: list[DayState]
    note: str = ""


@dataclass(frozen=True)
class Status:
    """today: the date in the time zone of the log. live: does the log grow?

    held_back: embeddings whose alias does not move, and why. late: what should be there by now and
    is not. drift: the alarms of the newest days. versions:
    what is known of the registry's files.
    """

    today: date
    live: bool
    first: date
    last: date
    parts: list[PartState]
    champion: str
    held_back: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)
    versions: Verified = field(default_factory=lambda: Verified(0, 0, None))

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return plain(asdict(self))


def status(settings: Settings, now: datetime, read: bool = True) -> Status:
    """Look at all days of the log and of the lake.

    now: any moment with a time zone. read: read the files of the log that are new or have changed;
    otherwise the log is as it was read last.
    """
    reopen_sources()
    source = open_source(settings)
    if not read and isinstance(source, FileLog):
        source.recall()
    today = now.astimezone(ZoneInfo(source.timezone)).date()
    days = known_days(settings)
    look = freshness(settings)
    parts = [part_state(settings, look, part, days, today) for part in PARTS]
    for name in settings.further:
        own = settings.of_embedding(name)
        state = part_state(own, freshness(own), "embeddings", days, today)
        parts.insert(-1, replace(state, part=name))
    return Status(
        today=today,
        live=settings.services.live,
        first=days[0],
        last=days[-1],
        parts=parts,
        champion=champion(settings, days),
        held_back=held_back(settings),
        late=late(settings, parts, now) if settings.services.live else [],
        drift=drift(settings, days[-DRIFT_DAYS:]),
        versions=versions_of(settings),
    )


def versions_of(settings: Settings) -> Verified:
    """What is known of the bytes of all published versions."""
    with settings.open_registry() as registry:
        return registry.verified()


def known_days(settings: Settings) -> list[date]:
    """From the first day of the log or the lake, that was not deleted, to the last of either."""
    last = open_source(settings).span()[1]
    landed = settings.lake.days(EMBEDDING_STEPS[0])
    first = max(first_day(settings), kept_since(settings) or date.min)
    return days_between(first, max([last, *landed[-1:]]))


def part_state(
    settings: Settings, look: Freshness, part: str, days: list[date], today: date
) -> PartState:
    """Every day of one part."""
    note = ""
    if part == "ranker":
        start = chain.start_day(settings)
        days = [day for day in days if start and day >= start]
        note = "" if start else "the log has no impressions: there is nothing to rank"
    current: list[date] = []
    refused: list[date] = []
    waiting: list[DayState] = []
    for day in days:
        state = day_state(look, part, day)
        if state.refused:
            refused.append(day)
        elif state.idle:
            continue
        elif state.to_run:
            waiting.append(state)
        else:
            current.append(day)
    newest = current[-1] if current else None
    age = (today - newest).days if newest else None
    return PartState(part, newest, age, len(current), refused, waiting, note)


def day_state(look: Freshness, part: str, day: date) -> DayState:
    """Which steps of a part and day would run now, and why the first of them would."""
    validated = look.current("validate", day)
    if validated is not None:
        if validated.facts.get("empty"):
            return DayState(day, [], "", idle=True)
        if not validated.facts["trusted"]:
            return DayState(day, [], "", refused=True)
        if part == "ranker" and not chain.rankable(validated):
            return DayState(day, [], "", idle=True)
    to_run = []
    why = ""
    for step in PARTS[part]:
        verdict = look.judge(step, day)
        if not verdict.current:
            to_run.append(step)
            why = why or reason(step, verdict)
    return DayState(day, to_run, why)


def reason(step: str, verdict: Verdict) -> str:
    """Why a step would run: what is wrong with it, or with an input such as land/2024-03-01."""
    if verdict.partition is None:
        return f"{step} is missing"
    return f"{verdict.because or step}: {verdict.why}"


def champion(settings: Settings, days: list[date]) -> str:
    """Training day of the ranker that serves; empty where there is none."""
    for day in reversed(days):
        promoted = settings.lake.find("promote", day)
        if promoted is not None:
            return str(promoted.facts["champion"])
    return ""


def held_back(settings: Settings) -> list[str]:
    """The embeddings of which the last decision about the alias `champion` was that it stays."""
    found = []
    with settings.open_registry() as registry:
        published = registry.names()
        for one in settings.of_each_embedding():
            name = one.embedding.name
            moves = registry.history(name) if name in published else []
            last = next((move for move in moves if move.alias == CHAMPION), None)
            if last is not None and last.from_version == last.to_version:
                found.append(last.reason)
    return found


def drift(settings: Settings, days: list[date]) -> list[str]:
    """What these days' monitors have found, a line per day with an alarm."""
    found = []
    for day in days:
        partition = settings.lake.find("drift", day)
        if partition is not None and partition.facts.get("alarms"):
            found.append(f"{day}: {partition.facts['why']}")
    return found


def late(settings: Settings, parts: list[PartState], now: datetime) -> list[str]:
    """What should be there at this hour and is not, for a log that still grows."""
    zone = ZoneInfo(open_source(settings).timezone)
    due = (now.astimezone(zone) - timedelta(hours=settings.services.lateness + GRACE_H)).date()
    expected = due - timedelta(days=1)
    found = []
    for part in parts:
        if part.note or expected in part.refused:
            continue
        if part.newest is None or part.newest < expected:
            have = part.newest or "no day"
            found.append(f"{part.part}: {expected} was due by now; the newest is {have}")
    return found


def plain(value: Any) -> Any:
    """Dates as texts, in dictionaries and lists of any depth."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, date) else value


def lines(found: Status) -> Iterator[str]:
    """The status for a terminal, a line each."""
    growth = f", today is {found.today}" if found.live else ", closed"
    yield f"log         {found.first} to {found.last}{growth}"
    for part in found.parts:
        yield f"{part.part:<11} {summary(part, found.live)}"
        groups = list(grouped(part.waiting))
        for states in groups[:SHOWN]:
            yield f"{'':<11}   {span_text(states)}: {states[0].why}"
        if len(groups) > SHOWN:
            yield f"{'':<11}   … and {len(groups) - SHOWN} more reasons (--json lists all)"
    yield f"champion    {'the model of ' + found.champion if found.champion else 'none yet'}"
    for why in found.held_back:
        yield f"HELD BACK   {why}"
    yield f"versions    {versions_summary(found.versions)}"
    for version_id, faults in found.versions.damaged.items():
        yield f"DAMAGED     {version_id}: {', '.join(faults)} (evergreen verify --repair)"
    for drift_line in found.drift:
        yield f"drift       {drift_line}"
    for late_line in found.late:
        yield f"LATE        {late_line}"


def versions_summary(known: Verified) -> str:
    """One line about the files of all versions."""
    if not known.versions:
        return "none yet"
    verified = f"{known.unverified} not verified yet" if known.unverified else "all verified"
    since = f" since {known.oldest:%Y-%m-%d}" if known.oldest and not known.unverified else ""
    return f"{known.versions} published, {verified}{since}"


def grouped(states: list[DayState]) -> Iterator[list[DayState]]:
    """Consecutive days with the same steps to run for the same reason."""
    group: list[DayState] = []
    for state in states:
        if group and (state.to_run, state.why) == (group[-1].to_run, group[-1].why):
            group.append(state)
            continue
        if group:
            yield group
        group = [state]
    if group:
        yield group


def span_text(states: list[DayState]) -> str:
    """The days of a group, and how many steps each has to run."""
    steps = f"{counted(len(states[0].to_run), 'step')} to run"
    if len(states) == 1:
        return f"{states[0].day}  {steps}"
    return f"{states[0].day} to {states[-1].day}  {len(states)} days, {steps} each"


def counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def summary(part: PartState, live: bool) -> str:
    """One line about a part."""
    if part.note:
        return part.note
    age = f", {counted(part.age_days or 0, 'day')} old" if live else ""
    newest = f"newest {part.newest}{age}" if part.newest else "no day yet"
    counts = f"{counted(part.current_days, 'day')} current, {len(part.waiting)} not"
    refused = f", {len(part.refused)} refused" if part.refused else ""
    return f"{newest}; {counts}{refused}"
