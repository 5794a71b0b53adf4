"""The summary of a demo: figures from the lake and the registry, printed and kept in a file."""

from __future__ import annotations

import sys
from datetime import date
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from jobs.local.outcome import Outcome
from jobs.local.services import addresses
from jobs.parts import STEPS
from jobs.pipeline.plan import tracked
from jobs.settings import Settings

WIDTH = 110  # where the output is not a terminal
NONE = "–"


def show_summary(settings: Settings, outcome: Outcome) -> None:
    """Print the summary, and write it as plain text to home/summary.txt."""
    # As Text, so that brackets in a message are not read as markup.
    closing_text = Text("\n".join([*closing(settings, outcome), *outcome.failures]))
    tables = (quality(settings, outcome), benchmarks(settings, outcome), timing(outcome))
    summary = Group(*tables, closing_text)
    Console(width=None if sys.stdout.isatty() else WIDTH).print(summary)
    with (settings.home / "summary.txt").open("w") as stream:
        Console(file=stream, width=WIDTH, color_system=None).print(summary)


def plain_table(title: str, *columns: str) -> Table:
    """A table whose first column is text and whose other columns are figures."""
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", no_wrap=True)
    return table


def quality(settings: Settings, outcome: Outcome) -> Table:
    """One row per day: the published version, and how the models of earlier days did on it."""
    label = settings.ranker.primary_label
    embedding = settings.embedding.name
    title = f"Next-day AUC of '{label}': models trained on earlier days, evaluated on this day"
    table = plain_table(title, "day", embedding, "champion", "AUC", "challenger", "AUC", "promoted")
    revisions = revisions_of(settings, embedding)
    for day in outcome.days:
        published = facts(settings, "publish", day)
        evaluated = facts(settings, "evaluate", day)
        gate = facts(settings, "gate", day)
        table.add_row(
            str(day),
            revisions.get((day, published.get("digest", "")), NONE),
            evaluated.get("champion", NONE),
            number(evaluated.get(f"champion_auc_{label}")),
            evaluated.get("challenger", NONE),
            number(evaluated.get(f"challenger_auc_{label}")),
            promotion(gate),
        )
    return table


def benchmarks(settings: Settings, outcome: Outcome) -> Table:
    """One row per day: the headline of every task, and how much fresher vectors gain."""
    declared = tracked(settings, "benchmark").facts
    tasks = [fact.name for fact in declared if fact.headline]
    title = "Benchmarks: the day's version; tasks about the next day judge the version before it"
    table = plain_table(title, "day", *(heading(task) for task in tasks))
    for day in outcome.days:
        measured = facts(settings, "benchmark", day)
        table.add_row(str(day), *(three_digits(measured.get(task)) for task in tasks))
    return table


def heading(name: str) -> str:
    """'interested_in_ndcg' -> the task, and below it the metric."""
    task, _, metric = name.rpartition("_")
    return f"{task.replace('_', ' ')}\n{metric}"


def revisions_of(settings: Settings, name: str) -> dict[tuple[date, str], str]:
    """Day and digest of every version of an embedding -> its revision, as r1."""
    registry = settings.open_registry()
    if name not in registry.names():
        return {}
    found = {}
    for version in registry.versions(name):
        found[version.day, version.digest] = f"r{version.revision}"
    return found


def promotion(gate: dict) -> str:
    """Whether the gate let the challenger through; gate: the facts of its partition."""
    if not gate:
        return NONE
    return "yes" if gate["promoted"] else "no"


def timing(outcome: Outcome) -> Table:
    """Seconds of each step over the days, and the memory of all processes while it ran."""
    table = plain_table("Seconds per step", "step", "days", "min", "median", "max", "peak memory")
    for step in STEPS:
        done = [task for task in outcome.runs_of(step) if task.state == "done"]
        if not done:
            continue
        seconds = [task.end - task.start for task in done]
        peak_gib = outcome.peak_of_step.get(step, 0) / 2**30
        table.add_row(
            step,
            str(len(done)),
            f"{min(seconds):.1f}",
            f"{median(seconds):.1f}",
            f"{max(seconds):.1f}",
            f"{peak_gib:.1f} GiB",
        )
    return table


def closing(settings: Settings, outcome: Outcome) -> list[str]:
    """The champion, the versions, the totals and the addresses of the services."""
    return [
        champion(settings, outcome),
        *(f"Registry: {registry_line(each)}" for each in settings.of_each_embedding()),
        *stored(settings),
        f"{len(outcome.days)} days in {outcome.seconds:.0f} s, after {outcome.startup_s:.0f} s "
        "to start the services.",
        f"Peak memory of all processes together: {outcome.peak_bytes / 2**30:.1f} GiB.",
        "To browse, run `make up` and open:",
        *addresses(settings),
    ]


def champion(settings: Settings, outcome: Outcome) -> str:
    """The champion after the last day that has one."""
    for day in reversed(outcome.days):
        promoted = facts(settings, "promote", day)
        if promoted.get("champion"):
            return f"Champion: the model of {promoted['champion']}. {promoted['why']}"
    return "There is no champion yet."


def stored(settings: Settings) -> list[str]:
    """What is in the bucket, if there is one."""
    if not settings.storage.url:
        return []
    sizes: dict[str, list[int]] = {}
    for key, (size, _), _ in settings.storage.objects.listed(""):
        sizes.setdefault(key.partition("/")[0], []).append(size)
    found = [
        f"{name} {len(of)} objects, {sum(of) / 1e6:,.1f} MB" for name, of in sorted(sizes.items())
    ]
    return [f"In {settings.storage.objects}: {'; '.join(found)}."]


def registry_line(settings: Settings) -> str:
    """How many versions the embedding has, the first and the last."""
    from embeddings.registry.errors import RegistryError

    registry = settings.open_registry()
    try:
        versions = registry.versions(settings.embedding.name)
    except RegistryError as error:
        return str(error)
    return f"{len(versions)} versions, {versions[0].id} to {versions[-1].id}"


def facts(settings: Settings, step: str, day: date) -> dict:
    """The facts of a partition; empty where it does not exist."""
    partition = settings.lake.find(step, day)
    return partition.facts if partition else {}


def number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def three_digits(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"
