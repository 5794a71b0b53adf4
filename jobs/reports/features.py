"""Experiment: what each group of features adds to a ranker on the next day.

One kind of ranker is trained on the same rows with more and fewer of its features, with several
seeds, and scores the days after (jobs/reports/next_day.py). Of two sets of features the difference
of their AUCs has an interval by consumer over all tested days.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from embeddings.embedders.als import ALSConfig
from jobs.features.columns import profile_numbers
from jobs.lake.store import Partition
from jobs.pipeline.plan import module
from jobs.plots import panels
from jobs.reports.daily_log import ID_FIELDS
from jobs.reports.methods import ALS, SVD
from jobs.reports.next_day import NextDay, candidates, next_day_trials
from jobs.reports.pair_features import (
    engaged_before,
    learned,
    lookalike_features,
    product_features,
    recent,
    recent_features,
)
from jobs.reports.report import Report, ReportProgress, Row, column_of, progress_bar
from jobs.reports.scored import Scored, mean_aucs
from jobs.settings import Settings
from models.features import Day, FeatureSpec

NAME = "features"
PAIRS = ("product", "ALS product", "item product", "recent producers", "recent items", "lookalike")
SMOOTHING = 1.0  # of the SVD, as in the loop


@dataclass(frozen=True)
class Variant:
    """What a ranker reads besides profile and context."""

    name: str
    counts: bool = False
    vectors: bool = False
    pairs: tuple[str, ...] = ()  # of PAIRS
    ids: bool = False


BASE = "profile, context"
COUNTS = "+ counts"
VARIANTS = (
    Variant(BASE),
    Variant("+ ids", ids=True),
    Variant("+ vectors", vectors=True),
    Variant("+ pairs", pairs=PAIRS),
    Variant(COUNTS, counts=True),
    Variant("+ counts, ids", counts=True, ids=True),
    Variant("+ counts, vectors", counts=True, vectors=True),
    Variant("+ counts, pairs", counts=True, pairs=PAIRS),
    Variant("+ counts, vectors, pairs", counts=True, vectors=True, pairs=PAIRS),
    Variant("all", counts=True, vectors=True, pairs=PAIRS, ids=True),
    *(Variant(f"+ counts, {pair}", counts=True, pairs=(pair,)) for pair in PAIRS),
)


def run(settings: Settings, seeds: int, days: int, out: Path | None = None) -> Report:
    """Write the tables features-runs and features-variants, a picture and Markdown.

    days: how many of the log's last days are tested. Raises EvergreenError where there are too few.
    """
    report = Report(settings, NAME, 0, out)
    runs: list[Row] = []
    tests = []
    total = len(candidates(settings, days)) + days * len(VARIANTS) * seeds
    with progress_bar(NAME, total) as progress:
        pairs = Pairs(settings)
        for trial in next_day_trials(settings, days, progress):
            assert isinstance(trial, NextDay), "of the settings' own log"
            scores, of_trial = score(trial, pairs, seeds, progress)
            tests.append(Scored(trial.data, trial.test, trial.users, trial.labels, scores))
            runs += of_trial
    rows = variant_rows(tests, runs)
    report.table("runs", runs)
    report.table("variants", rows)
    (report.folder / f"{NAME}.md").write_text(markdown(rows))
    draw(rows, report.picture("auc"))
    for row in rows:
        report.add_figures(str(row["features"]), row)
    report.track()
    return report


def score(
    trial: NextDay, pairs: Pairs, seeds: int, progress: ReportProgress
) -> tuple[dict[str, list[np.ndarray]], list[Row]]:
    """The scores of every variant by seed, and a row of each training."""
    from jobs.reports.trials import figures_of

    scores: dict[str, list[np.ndarray]] = {}
    rows: list[Row] = []
    complete = [pairs.added(partition, day) for partition, day in trial.dated_days()]
    for variant in VARIANTS:
        spec = spec_of(trial.spec, variant)
        read = [chosen(day, trial.spec, variant) for day in complete]
        for seed in range(seeds):
            progress(f"{trial.test}, {variant.name}, seed {seed}")
            outcome = trial.fit_on(read, spec, trial.settings.ranker.kind, seed)
            scores.setdefault(variant.name, []).append(outcome.scores)
            row: Row = {"test": trial.test, "features": variant.name, "seed": seed}
            rows.append(row | figures_of(trial, outcome))
    return scores, rows


class Pairs:
    """Features of consumer and candidate, computed once for every day of examples."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.found: dict[date, np.ndarray] = {}

    def added(self, partition: Partition, day: Day) -> Day:
        """The day with the pair features behind its numbers, in the order of `pair_names`."""
        if partition.day not in self.found:
            self.found[partition.day] = self.computed(partition)
        return replace(day, numbers=np.column_stack([day.numbers, self.found[partition.day]]))

    def computed(self, partition: Partition) -> np.ndarray:
        """(r, features) float32, of the rows of a day's examples."""
        path = partition.path / module("examples").EXAMPLES
        names = pq.ParquetDataset(path).schema.names
        profile = [name for name in names if name.startswith("hash_consumer_cat_")]
        columns = ["consumer_id", "producer_id", "item_id", *profile]
        rows = pq.read_table(path, columns=columns).to_pandas()
        dim, least = self.settings.embedding.dim, self.settings.matrix.min_engagements
        parts: dict[str, np.ndarray] = {}
        for entity, prefix in (("producer", ""), ("item", "item ")):
            engaged = engaged_before(self.settings, partition.day, entity)
            u = engaged.consumers.get_indexer(rows["consumer_id"])
            v = engaged.entities.get_indexer(pd.Index(rows[f"{entity}_id"]))
            sides = learned(engaged, SVD(dim, SMOOTHING), least)
            parts[f"{prefix}product"] = product_features(sides, u, v)
            parts[f"recent {entity}s"] = recent_features(sides, recent(engaged), u, v)
            if entity == "producer":
                groups = rows[profile].to_numpy()
                parts["lookalike"] = lookalike_features(sides, groups, u, v)
                als = learned(engaged, ALS(ALSConfig(dim=dim)), least)
                parts["ALS product"] = product_features(als, u, v)
        return np.column_stack([parts[name] for name in PAIRS])


WIDTHS = dict.fromkeys(PAIRS, 2) | {"lookalike": 3}  # numbers of each


def pair_names(pairs: tuple[str, ...]) -> list[str]:
    """The names of the numbers of these pair features."""
    names = []
    for pair in pairs:
        names += [f"{pair} {number}" for number in range(WIDTHS[pair])]
    return names


def spec_of(spec: FeatureSpec, variant: Variant) -> FeatureSpec:
    """The columns that a variant reads. spec: of the examples."""
    categorical, numeric = positions(spec, variant)
    names = [*spec.numeric, *pair_names(PAIRS)]
    return replace(
        spec,
        categorical=tuple(spec.categorical[place] for place in categorical),
        numeric=tuple(names[place] for place in numeric),
    )


def chosen(day: Day, spec: FeatureSpec, variant: Variant) -> Day:
    """The day as a variant reads it. day: with the pair features; spec: of the examples."""
    categorical, numeric = positions(spec, variant)
    read = day if variant.vectors else day.masked()
    return replace(read, categories=day.categories[:, categorical], numbers=day.numbers[:, numeric])


def positions(spec: FeatureSpec, variant: Variant) -> tuple[list[int], list[int]]:
    """The categorical and the numeric columns of a variant, by position."""
    categorical = []
    for place, column in enumerate(spec.categorical):
        if variant.ids or column.field not in ID_FIELDS:
            categorical.append(place)
    wanted = set(spec.numeric if variant.counts else profile_numbers(spec))
    wanted |= set(pair_names(variant.pairs))
    names = [*spec.numeric, *pair_names(PAIRS)]
    return categorical, [place for place, name in enumerate(names) if name in wanted]


# The report


def variant_rows(tests: list[Scored], runs: list[Row]) -> list[Row]:
    """A row per variant: mean figures, and its AUC over that of BASE and of COUNTS."""
    estimates = mean_aucs(tests)
    rows: list[Row] = []
    for variant, estimate in estimates.items():
        of_variant = [run for run in runs if run["features"] == variant]
        row: Row = {"features": variant, **estimate.fields("auc")}
        for name in ("log_loss", "rce", "gauc"):
            row[name] = float(column_of(of_variant, name).mean())
        for other in (BASE, COUNTS):
            row |= (estimate - estimates[other]).fields(f"over {other.removeprefix('+ ')}")
        rows.append(row)
    return rows


def markdown(rows: list[Row]) -> str:
    """The variants as a table for a page."""
    lines = [
        "| features | AUC | RCE, % | GAUC | AUC over profile, context | AUC over counts |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        gains = [with_interval(row, f"over {name}") for name in ("profile, context", "counts")]
        figures = f"{row['auc']:.4f} | {row['rce']:.2f} | {row['gauc']:.4f}"
        lines.append(f"| {row['features']} | {figures} | {gains[0]} | {gains[1]} |")
    return "\n".join(lines) + "\n"


def with_interval(row: Row, name: str) -> str:
    return f"{row[name]:+.4f} [{row[f'{name}_low']:+.4f}, {row[f'{name}_high']:+.4f}]"


def draw(rows: list[Row], path: Path) -> None:
    """The AUC of every variant, and what it has over the counts, with intervals."""
    places = np.arange(len(rows))
    with panels(path, ["AUC", "over counts"], height=1 + 0.25 * len(rows)) as all_axes:
        for axes, name in zip(all_axes, ("auc", "over counts"), strict=True):
            values = column_of(rows, name)
            low, high = column_of(rows, f"{name}_low"), column_of(rows, f"{name}_high")
            axes.errorbar(values, places, xerr=[values - low, high - values], fmt="o", capsize=2)
        all_axes[1].axvline(0, color="grey", linewidth=0.8)
        all_axes[0].set_yticks(places, [str(row["features"]) for row in rows])
        all_axes[0].invert_yaxis()
