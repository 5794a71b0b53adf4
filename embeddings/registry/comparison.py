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
from embeddings.registry.errors import BadRequest, NotWritten

NONE = "–"
COLOURS = ("tab:gray", "tab:orange", "tab:blue", "tab:purple", "tab:brown")  # of baselines


@dataclass(frozen=True)
class Row:
    """One metric. results: of each column, None where it has none on the day.

    on: the day of the labels; None for each version's own.
    """

    task: str
    metric: str
    on: date | None
    results: list[Result | None]

    @property
    def title(self) -> str:
        return words(f"{self.task} {self.metric}")

    @property
    def day(self) -> str:
        return str(self.on or "own day")

    @property
    def best(self) -> float | None:
        """The largest value; None where fewer than two columns have one."""
        values = [result.value for result in self.results if result is not None]
        return max(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Comparison:
    """columns: the names of what is compared; rows: one per metric, by task."""

    columns: list[str]
    rows: list[Row]

    @property
    def baselines(self) -> list[str]:
        """The names of all baselines, sorted."""
        names: set[str] = set()
        for row in self.rows:
            for result in row.results:
                names |= result.baselines.keys() if result else set()
        return sorted(names)

    def lines(self) -> list[tuple[str, str, str, str, str]]:
        """One line per metric and column: metric, day, column, value, the best baseline.

        Every version has baselines of its own: its popularity is that of its window.
        """
        lines = []
        for row in self.rows:
            title, day = row.title, row.day
            for column, result in zip(self.columns, row.results, strict=True):
                lines.append((title, day, column, shown(result), best_baseline(result)))
                title = day = ""  # said once per metric
        return lines

    def markdown(self) -> str:
        """As a Markdown table, each value with its best baseline; the best of several is bold."""
        header = ["benchmark", "labels of", *self.columns]
        lines = [line_of(header), line_of(["---"] * len(header))]
        for row in self.rows:
            cells = [row.title, row.day]
            for result in row.results:
                cell = shown(result)
                if result is not None and result.value == row.best:
                    cell = f"**{cell}**"
                cells.append(f"{cell} ({best_baseline(result)})" if result else cell)
            lines.append(line_of(cells))
        return "\n".join(lines)


def words(name: str) -> str:
    return name.replace("_", " ")


def shown(result: Result | None) -> str:
    """A value with half the width of its interval."""
    if result is None:
        return NONE
    return f"{result.value:.3f} ±{(result.high - result.low) / 2:.3f}"


def best_baseline(result: Result | None) -> str:
    """As in "0.034 popularity"."""
    if result is None or not result.baselines:
        return NONE
    name = max(result.baselines, key=result.baselines.__getitem__)
    return f"{result.baselines[name]:.3f} {words(name)}"


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
        rows.append(Row(*key, on, results))
    if not rows:
        raise BadRequest(
            f"{' and '.join(references)}: no benchmarks. Either too few consumers and producers "
            "had labels (see `not_judged` of the step benchmark, in MLflow), or it was published "
            "before there were benchmarks: then run `evergreen backfill --changed`."
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
    """Save a picture as PNG: one panel per metric, every column with its interval and baselines.

    Raises NotWritten.
    """
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
    try:
        picture.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise NotWritten(error.errno, f"{path} cannot be written: {error.strerror}") from None


def draw_row(row: Row, columns: Sequence[str], colours: dict[str, str], panel) -> None:
    """One metric: of each column a point with its interval, and a tick for each baseline."""
    for place, result in enumerate(row.results):
        if result is None:
            continue
        panel.plot([result.low, result.high], [place, place], color="tab:green", linewidth=3)
        panel.plot(result.value, place, "o", color="tab:green")
        for name, value in result.baselines.items():
            colour = colours.get(name, "black")
            panel.vlines(value, place - 0.4, place + 0.4, colour, label=words(name))
    panel.set_yticks(range(len(columns)), columns)
    panel.set_ylim(len(columns) - 0.5, -0.5)
    panel.set_title(f"{row.title}, {row.day}", fontsize="medium")
    handles = dict(zip(*panel.get_legend_handles_labels()[::-1], strict=True))  # each name once
    panel.legend(handles.values(), handles.keys(), fontsize="x-small", loc="best")
    panel.grid(axis="x", alpha=0.3)
