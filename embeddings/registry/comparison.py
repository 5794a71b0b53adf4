"""The benchmarks of several embeddings or versions side by side: as a table, and as a picture.

A task about the future is compared on one day for all: two results answer the same question only
if their labels are the same. A task about a version's own day is compared as it is.
Source: Table 1 of Shiebler et al. 2018, "Fighting Redundancy and Model Decay with Embeddings".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from embeddings.benchmarks.results import ByDay, Result, by_metric
from embeddings.registry.client import Registry, Version
from embeddings.registry.errors import BadRequest

NONE = "–"
COLOURS = ("tab:gray", "tab:orange", "tab:blue", "tab:purple", "tab:brown")  # of baselines


@dataclass(frozen=True)
class Row:
    """One metric. results: of each column, None where it has none on the day.

    on: the day of the labels; None for each version's own. baselines: of any column, by name.
    """

    task: str
    metric: str
    on: date | None
    results: list[Result | None]
    baselines: dict[str, float]

    @property
    def title(self) -> str:
        return f"{self.task} {self.metric}".replace("_", " ")

    @property
    def day(self) -> str:
        return str(self.on or "own day")

    @property
    def best(self) -> float | None:
        """The largest value; None where fewer than two columns have one."""
        values = [result.value for result in self.results if result is not None]
        return max(values) if len(values) > 1 else None

    @property
    def best_baseline(self) -> str:
        """As in "0.034 popularity"."""
        if not self.baselines:
            return NONE
        name = max(self.baselines, key=self.baselines.__getitem__)
        return f"{self.baselines[name]:.3f} {words(name)}"


@dataclass(frozen=True)
class Comparison:
    """columns: the names of what is compared; rows: one per metric, by task."""

    columns: list[str]
    rows: list[Row]

    @property
    def baselines(self) -> list[str]:
        """The names of all baselines, in order of first use."""
        names: dict[str, None] = {}
        for row in self.rows:
            names.update(dict.fromkeys(row.baselines))
        return list(names)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows, with the best baseline only."""
        rows = []
        for row in self.rows:
            values = [shown(result) for result in row.results]
            rows.append([row.title, row.day, *values, row.best_baseline])
        columns = [column.replace("/", "/\n") for column in self.columns]
        return ["benchmark", "labels of", *columns, "best baseline"], rows

    def markdown(self) -> str:
        """As a Markdown table with all baselines; the best of several is bold."""
        header = ["benchmark", "labels of", *self.columns, *map(words, self.baselines)]
        lines = [line_of(header), line_of(["---"] * len(header))]
        for row in self.rows:
            cells = [row.title, row.day]
            for result in row.results:
                is_best = result is not None and result.value == row.best
                cells.append(f"**{shown(result)}**" if is_best else shown(result))
            for name in self.baselines:
                value = row.baselines.get(name)
                cells.append(NONE if value is None else f"{value:.3f}")
            lines.append(line_of(cells))
        return "\n".join(lines)


def words(name: str) -> str:
    return name.replace("_", " ")


def shown(result: Result | None) -> str:
    """A value with half the width of its interval."""
    if result is None:
        return NONE
    return f"{result.value:.3f} ±{(result.high - result.low) / 2:.3f}"


def line_of(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def compare(registry: Registry, references: Sequence[str]) -> Comparison:
    """The benchmarks of these embeddings or versions.

    references: 'author' for an embedding, whose newest version with labels of the day counts, or
    'author/2022-05-01', 'author/champion' for one version. Each metric is shown on the newest day
    on which most of them have a result. Raises BadRequest, UnknownName, UnknownVersion.
    """
    if not references:
        raise BadRequest("Name at least one embedding, as in: evergreen registry benchmarks author")
    columns = [results_of(registry, reference) for reference in references]
    metrics = sorted({key for column in columns for key in column})
    rows = []
    for key in metrics:
        found = [column.get(key, {}) for column in columns]
        on = newest_shared_day(found)
        results = [results.get(on) for results in found]
        baselines: dict[str, float] = {}
        for result in results:
            baselines |= result.baselines if result else {}
        rows.append(Row(*key, on, results, baselines))
    if not rows:
        raise BadRequest(
            f"{' and '.join(references)} have no benchmarks: they were published before there were "
            "any. Publish them again: evergreen backfill --changed"
        )
    return Comparison(list(references), rows)


def results_of(registry: Registry, reference: str) -> dict[tuple[str, str], ByDay]:
    """By task and metric, the result of each day of labels."""
    name, slash, version = reference.partition("/")
    if slash:
        found = registry.find(name, version)
        return by_metric([(found.day, registry.results(found))])
    known = registry.all_results(name)
    # Oldest first: of two versions with labels of the same day, the newer one counts.
    versions = current(registry.versions(name))
    return by_metric([(version.day, known.get(version.id, [])) for version in versions])


def current(versions: Sequence[Version]) -> list[Version]:
    """Of each day the version that was published last."""
    return list({version.day: version for version in versions}.values())


def newest_shared_day(found: Sequence[ByDay]) -> date | None:
    """The newest of the days on which most of these have a result; None for their own days."""
    counts: dict[date | None, int] = {}
    for results in found:
        for day in results:
            counts[day] = counts.get(day, 0) + 1
    return max(counts, key=lambda day: (counts[day], day or date.min))


def draw(comparison: Comparison, path: Path) -> None:
    """Save a picture: one panel per metric, every column with its interval, baselines as lines."""
    # Not pyplot, which looks for a display. Imported here, because matplotlib takes a while.
    from matplotlib.figure import Figure

    across = min(3, len(comparison.rows))
    down = -(-len(comparison.rows) // across)
    picture = Figure(figsize=(4.2 * across, 0.9 * down + 0.45 * down * len(comparison.columns)))
    picture.set_layout_engine("constrained")
    panels = picture.subplots(down, across, squeeze=False).ravel()
    for panel in panels[len(comparison.rows) :]:
        panel.set_axis_off()
    colours = dict(zip(comparison.baselines, COLOURS, strict=False))
    for row, panel in zip(comparison.rows, panels, strict=False):
        draw_row(row, comparison.columns, colours, panel)
    picture.savefig(path, dpi=110)


def draw_row(row: Row, columns: Sequence[str], colours: dict[str, str], panel) -> None:
    """One metric: points with intervals, and a line for each baseline."""
    for place, result in enumerate(row.results):
        if result is not None:
            panel.plot([result.low, result.high], [place, place], color="tab:green", linewidth=3)
            panel.plot(result.value, place, "o", color="tab:green")
    for name, value in row.baselines.items():
        panel.axvline(value, color=colours.get(name, "black"), linewidth=1, label=words(name))
    panel.set_yticks(range(len(columns)), columns)
    panel.set_ylim(len(columns) - 0.5, -0.5)
    panel.set_title(f"{row.title}, {row.day}", fontsize="medium")
    panel.legend(fontsize="x-small", loc="best")
    panel.grid(axis="x", alpha=0.3)
