"""The summary of a demo: figures from the lake and the registry, shown, and kept as home/summary.txt."""

from __future__ import annotations

import sys
from statistics import median

from rich.console import Console, Group
from rich.table import Table

from jobs.demo import Outcome, addresses
from jobs.settings import Settings
from jobs.steps import STEPS


def show(settings: Settings, outcome: Outcome) -> None:
    """Print the summary, and write it as plain text."""
    parts = [quality(settings, outcome), timing(outcome), *closing(settings, outcome), *outcome.failures]
    Console(file=sys.stdout).print(Group(*parts))
    with (settings.home / "summary.txt").open("w") as stream:
        Console(file=stream, width=120, color_system=None).print(Group(*parts))


def quality(settings: Settings, outcome: Outcome) -> Table:
    """A row a day: its version, and how yesterday's models did on it."""
    label = settings.ranker.primary_label
    table = Table(
        "day", "version", "champion", f"AUC of {label}", "challenger", "AUC", "champion after", title="Next-day quality"
    )
    for day in outcome.days:
        published, test, gate = (facts(settings, step, day) for step in ("publish", "test", "gate"))
        table.add_row(
            str(day),
            published.get("version", "–"),
            test.get("champion", "–"),
            number(test.get(f"champion_auc_{label}")),
            test.get("challenger", "–"),
            number(test.get(f"challenger_auc_{label}")),
            gate.get("champion_after") or "–",
        )
    return table


def timing(outcome: Outcome) -> Table:
    """Seconds of each step over the days."""
    table = Table("step", "days", "min", "median", "max", "peak memory", title="Seconds a step")
    for column in table.columns[1:]:
        column.justify = "right"
    for step in STEPS:
        if spent := [t.end - t.start for t in outcome.tasks if t.step == step and t.state == "done"]:
            peak = f"{outcome.peak_of_step.get(step, 0) / 2**30:.1f} GiB"
            table.add_row(step, str(len(spent)), *(f"{f(spent):.1f}" for f in (min, median, max)), peak)
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
        f"{len(outcome.days)} days in {outcome.seconds:.0f} s; at most {outcome.peak_bytes / 2**30:.1f} GiB of memory.",
        "To browse: make up, then open",
        *addresses(settings),
    ]


def registry_line(settings: Settings) -> str:
    """The versions of the embedding, first to last."""
    from embeddings.registry.client import Registry
    from embeddings.registry.errors import RegistryError

    try:
        versions = Registry(settings.registry_root, settings.registry_url).versions(settings.embedding.name)
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
