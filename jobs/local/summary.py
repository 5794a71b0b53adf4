"""The summary of a demo: figures from the lake and the registry, shown, and kept as home/summary.txt."""

from __future__ import annotations

import sys
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from jobs.local.demo import Outcome, addresses
from jobs.pipeline.plan import STEPS
from jobs.settings import Settings

WIDTH = 110  # where there is no terminal


def show(settings: Settings, outcome: Outcome) -> None:
    """Print the summary, and write it as plain text."""
    lines = [Text(line) for line in [*closing(settings, outcome), *outcome.failures]]
    parts = Group(quality(settings, outcome), timing(outcome), *lines)
    Console(width=None if sys.stdout.isatty() else WIDTH).print(parts)
    with (settings.home / "summary.txt").open("w") as stream:
        Console(file=stream, width=WIDTH, color_system=None).print(parts)


def plain_table(title: str, *columns: str) -> Table:
    """A table whose first column is text and whose others are figures."""
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", no_wrap=True)
    return table


def quality(settings: Settings, outcome: Outcome) -> Table:
    """A row a day: the revision that was published, and how the models of before did on that day."""
    label, name = settings.ranker.primary_label, settings.embedding.name
    title = f"Next-day AUC of '{label}': models trained on the days before, tested on the day"
    table = plain_table(title, "day", name, "champion", "AUC", "challenger", "AUC", "promoted")
    for day in outcome.days:
        published, test, gate = (
            facts(settings, step, day) for step in ("publish", "evaluate", "gate")
        )
        table.add_row(
            str(day),
            published.get("version", "–").rpartition(".")[2],
            test.get("champion", "–"),
            number(test.get(f"champion_auc_{label}")),
            test.get("challenger", "–"),
            number(test.get(f"challenger_auc_{label}")),
            {1: "yes", 0: "no"}[gate["promoted"]] if gate else "–",
        )
    return table


def timing(outcome: Outcome) -> Table:
    """Seconds of each step over the days."""
    table = plain_table("Seconds a step", "step", "days", "min", "median", "max", "peak memory")
    for step in STEPS:
        if spent := [
            t.end - t.start for t in outcome.tasks if t.step == step and t.state == "done"
        ]:
            peak = f"{outcome.peak_of_step.get(step, 0) / 2**30:.1f} GiB"
            table.add_row(
                step, str(len(spent)), *(f"{f(spent):.1f}" for f in (min, median, max)), peak
            )
    return table


def closing(settings: Settings, outcome: Outcome) -> list[str]:
    """The champion, the versions, the totals and where to look."""
    promoted = [facts(settings, "promote", day) for day in outcome.days]
    champion = next((p for p in reversed(promoted) if p.get("champion")), None)
    return [
        f"Champion: the model of {champion['champion']}. {champion['why']}"
        if champion
        else "There is no champion yet.",
        f"Registry: {registry_line(settings)}",
        f"{len(outcome.days)} days in {outcome.seconds:.0f} s, after {outcome.startup_s:.0f} s of starting services.",
        f"All processes together took at most {outcome.peak_bytes / 2**30:.1f} GiB of memory.",
        "To browse: make up, then open",
        *addresses(settings),
    ]


def registry_line(settings: Settings) -> str:
    """The versions of the embedding, first to last."""
    from embeddings.registry.client import Registry
    from embeddings.registry.errors import RegistryError

    try:
        versions = Registry(settings.registry_root, settings.registry_url).versions(
            settings.embedding.name
        )
    except RegistryError as error:
        return str(error)
    ids = [version.id for version in versions]
    return f"{len(ids)} versions, {ids[0]} to {ids[-1]}"


def facts(settings: Settings, step: str, day) -> dict:
    """What a partition says of itself; nothing where there is none."""
    found = settings.lake.find(step, day)
    return found.facts if found else {}


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
