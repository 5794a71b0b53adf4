"""Experiment: the paper's studies of MaskNet, on the log of the settings and on public data.

Every network is trained with several seeds on the same rows and scores the same others: the next
days of the log (jobs.reports.next_day), MovieLens-100K (jobs.reports.movielens) and Frappe
(jobs.reports.frappe), where the data are present. Each is compared with the network as set of its
structure, on the same rows, with an interval by consumer. What the masks do is measured on tested
rows (jobs.reports.masknet.masks).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jobs.reports.frappe import Frappe
from jobs.reports.masknet.masks import MaskFigures, field_rows, measured, value_rows
from jobs.reports.masknet.pictures import draw_fields, draw_studies, draw_values
from jobs.reports.masknet.variants import BASE, KIND, MASKS, Variant, base, variants
from jobs.reports.movielens import MovieLens
from jobs.reports.next_day import candidates, next_day_trials
from jobs.reports.public_trials import public_trials
from jobs.reports.report import Report, ReportProgress, Row, progress_bar, select
from jobs.reports.scored import Scored, difference_rows, markdown, summary_row
from jobs.reports.trials import Outcome, Trial, figures_of
from jobs.settings import Settings
from models.rankers.base import RankerOptions


@dataclass(frozen=True)
class Plan:
    """What is trained. rows: at most so many for each network; None for all."""

    networks: list[Variant]
    inspect: bool  # what the masks do
    seeds: int
    rows: int | None

    @property
    def structures(self) -> list[str]:
        return list(dict.fromkeys(network.structure for network in self.networks))


@dataclass
class Found:
    """What was measured on the tests of one data set; scored and masks are by structure."""

    runs: list[Row] = field(default_factory=list)
    scored: dict[str, list[Scored]] = field(default_factory=dict)
    masks: dict[str, list[MaskFigures]] = field(default_factory=dict)


def run(
    settings: Settings,
    data: Path | None,
    studies: list[str],
    structures: list[str],
    seeds: int,
    days: int,
    rows: int | None,
    folder: Path | None = None,
) -> Report:
    """Write the tables masknet-studies-*, and per data set Markdown and pictures.

    studies, structures: none for all. data: the folder of the public data sets. days: how many of
    the log's last days are tested; 0 for the public data alone. Raises EvergreenError for an
    unknown study or structure.
    """
    inspect = not studies or MASKS in studies
    plan = Plan(variants(studies, structures), inspect, seeds, rows)
    report = Report(settings, "masknet-studies", 0, folder)
    public, left_out = public_trials(settings, data, (MovieLens, Frappe))
    report.warn(left_out)
    found: dict[str, Found] = {}
    read = len(candidates(settings, days)) if days else 0
    total = read + (days + len(public)) * len(plan.networks) * seeds
    with progress_bar(report.name, total) as progress:
        for trial in trials_of(settings, days, public, progress):
            measure(trial, plan, found.setdefault(trial.data, Found()), progress)
    write(report, plan, found)
    return report


def trials_of(
    settings: Settings, days: int, public: list[Trial], progress: ReportProgress
) -> Iterator[Trial]:
    if days:
        yield from next_day_trials(settings, days, progress)
    yield from public


# What is measured


def measure(trial: Trial, plan: Plan, found: Found, progress: ReportProgress) -> None:
    """Train and test every network on one trial, and add the figures to `found`."""
    if plan.rows is not None:
        trial.keep(plan.rows)
    for structure in plan.structures:
        scores: dict[str, list[np.ndarray]] = {}
        for network, seed, outcome in fits(trial, plan, structure, progress):
            row: Row = {"data": trial.data, "test": trial.test, "kind": network.kind, "seed": seed}
            found.runs.append(row | figures_of(trial, outcome))
            scores.setdefault(network.kind, []).append(outcome.scores)
            # Without masks in the settings there is nothing to inspect.
            if plan.inspect and network.name == BASE and outcome.model.options.mask:
                found.masks.setdefault(structure, []).append(measured(outcome.model, trial))
        scored = Scored(trial.data, trial.test, trial.users, trial.labels, scores)
        found.scored.setdefault(structure, []).append(scored)


def fits(
    trial: Trial, plan: Plan, structure: str, progress: ReportProgress
) -> Iterator[tuple[Variant, int, Outcome]]:
    """The trained networks of one structure, seed by seed; equal ones are trained once."""
    as_set = trial.options(KIND)
    for seed in range(plan.seeds):
        trained: dict[RankerOptions, Outcome] = {}
        for network in plan.networks:
            if network.structure != structure:
                continue
            progress(f"{trial.data} {trial.test}, {network.kind}, seed {seed}")
            options = as_set.model_copy(update=dict(network.changes))
            if options not in trained:
                trained[options] = trial.fit(KIND, seed, options)
            yield network, seed, trained[options]


# Tables and pictures


def write(report: Report, plan: Plan, found: dict[str, Found]) -> None:
    """The tables, the pictures, and the run in MLflow."""
    runs: list[Row] = []
    summaries: list[Row] = []
    differences: list[Row] = []
    fields: list[Row] = []
    values: list[Row] = []
    for data, of_data in found.items():
        runs += of_data.runs
        rows = summary(of_data.runs, plan.networks)
        summaries += rows
        (report.folder / f"{report.name}-{data}.md").write_text(markdown(rows))
        if any(network.study for network in plan.networks):
            draw_studies(report.picture(data), data, rows)
        for structure, scored in of_data.scored.items():
            differences += difference_rows(scored, base(structure).kind)
        of_fields: list[Row] = []
        for structure, masks in of_data.masks.items():
            start: Row = {"data": data, "structure": structure}
            of_fields += field_rows(start, masks)
            values += value_rows(start, masks)
        if of_fields:
            draw_fields(report.picture(f"{data}-fields"), data, of_fields)
            draw_values(report.picture(f"{data}-masks"), data, of_data.masks)
        fields += of_fields
    report.table("runs", runs)
    report.table("networks", summaries)
    report.table("differences", differences)
    report.table("mask-fields", fields)
    report.table("mask-values", values)
    for row in summaries:
        report.add_figures(f"{row['data']}_{row['kind']}", row)
    report.track()


def summary(runs: list[Row], networks: list[Variant]) -> list[Row]:
    """A row per network in the order of the studies: mean and deviation of its figures."""
    rows = []
    for network in networks:
        row = summary_row(select(runs, "kind", network.kind))
        named: Row = {
            "structure": network.structure,
            "study": network.study,
            "name": network.name,
        }
        rows.append(row | named)
    return rows
