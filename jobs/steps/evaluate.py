"""evaluate: test the champion and yesterday's challenger on the day, before anything trains on it.

predictions.parquet    consumer_id, the primary label, and the probability by each model that was
                       tested: champion, challenger
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.facts import Fact
from jobs.errors import EvergreenError, SettingsError
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.plan import writing
from jobs.plots import figure
from jobs.settings import Settings
from jobs.steps.examples import EXAMPLES, clean_impressions, spec_of
from jobs.steps.train import load_day
from models.metrics import metrics_by_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pyspark.sql import SparkSession

    from models.features import Day

CHAMPION, CHALLENGER = "champion", "challenger"  # the roles
PREDICTIONS = "predictions.parquet"
BINS = 20  # of the calibration curve, each with the same number of rows
PLOT_SIZE = (4.4, 4.0)  # inches

SETTINGS = chain.SETTINGS
FORMAT = 1
SPARK = False
FACTS = (
    Fact("rows", "examples of the day", "rows"),
    Fact("champion", "day up to which the tested champion was trained"),
    Fact("challenger", "day up to which the tested challenger was trained"),
    Fact("untested_champion", "training day of a champion that cannot read the day's vectors"),
    Fact("why", "the reason where no model was tested"),
    Fact(
        "champion_auc_<label>",
        "the champion's AUC on the day",
        "AUC",
        better="higher",
        headline=True,
    ),
    Fact("champion_log_loss_<label>", "the champion's log loss", "nats per row", better="lower"),
    Fact("champion_rce_<label>", "the champion's relative cross-entropy", "%", better="higher"),
    Fact(
        "challenger_auc_<label>",
        "the challenger's AUC on the day",
        "AUC",
        better="higher",
        headline=True,
    ),
    Fact(
        "challenger_log_loss_<label>", "the challenger's log loss", "nats per row", better="lower"
    ),
    Fact("challenger_rce_<label>", "the challenger's relative cross-entropy", "%", better="higher"),
)


def needs(settings: Settings, day: date) -> Iterator[tuple[str, date]]:
    """The day's examples; the previous day's challenger and decision, and the champion's model."""
    yield ("validate", day)
    yield ("examples", day)
    yield from chain.needs_of_previous(settings, day, ("train", "gate"))
    champion = champion_before(settings, day)
    if champion:
        yield ("train", champion)


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Score the day with the models of the days before it.

    Where there are none (the chain's first day, a new space), the facts hold the reason instead.
    """
    clean_impressions(settings, day)
    examples = settings.lake.get("examples", day)
    candidates = contestants(settings, day)
    models = {}
    for role, trained in candidates.items():
        if same_space(trained, examples):
            models[role] = trained
    # Before anything is computed: a misspelt label should fail in the first second.
    column = label_column(examples, settings.ranker.primary_label)
    with writing(settings, "evaluate", day) as staging:
        staging.facts["rows"] = examples.facts["rows"]
        for role, trained in models.items():
            staging.facts[role] = str(trained.day)
        if CHAMPION in candidates and CHAMPION not in models:
            # The gate needs its day, to keep it as the champion although it was not tested.
            staging.facts["untested_champion"] = str(candidates[CHAMPION].day)
        if not models:
            staging.facts["why"] = why_untested(candidates, examples)
            return
        rows = load_day(settings, examples)
        labels = rows.labels[:, column]
        primary_scores = {}
        for role, trained in models.items():
            scores = score(settings, trained, examples, rows)
            staging.facts |= role_metrics(role, rows.labels, spec_of(examples).labels, scores)
            primary_scores[role] = scores[:, column]
        write_predictions(staging.path / PREDICTIONS, examples, labels, primary_scores)
    folder = settings.report("evaluate", day)
    draw(folder, labels, primary_scores, settings.ranker.primary_label, day)


# Who is tested


def champion_before(settings: Settings, day: date) -> date | None:
    """Training day of the champion after the previous day of the chain; None without a champion."""
    yesterday = chain.previous(settings, day)
    if yesterday is None:
        return None
    champion = settings.lake.get("gate", yesterday).facts["champion_after"]
    return date.fromisoformat(champion) if champion else None


def contestants(settings: Settings, day: date) -> dict[str, Partition]:
    """The models that should be tested on `day`, by role: partitions of `train`."""
    training_days = {
        CHAMPION: champion_before(settings, day),
        CHALLENGER: chain.previous(settings, day),
    }
    found = {}
    for role, trained_on in training_days.items():
        if trained_on:
            found[role] = settings.lake.get("train", trained_on)
    return found


def same_space(trained: Partition, examples: Partition) -> bool:
    """May the model read the examples' vectors? Where one side has none, it may."""
    # A day before the first version has no vectors and no space.
    trained_on = trained.facts["space"]
    offered = examples.facts["space"]
    return not trained_on or not offered or trained_on == offered


def why_untested(candidates: dict[str, Partition], examples: Partition) -> str:
    """Why no model is tested on the day of these examples."""
    if not candidates:
        return f"{examples.day} is the first day of the chain: there is no older model to test."
    spaces = [f"{role} '{trained.facts['space']}'" for role, trained in candidates.items()]
    return (
        f"The vectors of {examples.day} are in the new space '{examples.facts['space']}', which no "
        f"model reads yet ({', '.join(spaces)}): the first is trained today and tested on the "
        "next day."
    )


# How it is scored


def score(settings: Settings, trained: Partition, examples: Partition, rows: Day) -> np.ndarray:
    """The probability of every label for every row: (n, L).

    Raises EvergreenError where the model reads other features than the examples have.
    """
    from models.store import load
    from models.training import predict

    saved = load(trained.path)
    if saved.model.spec != spec_of(examples):
        raise EvergreenError(
            f"The model of {trained.day} reads other features than the examples of {examples.day} "
            "have. Start a new chain with the current features: set ranker.start_day to "
            f"{examples.day}."
        )
    return predict(saved.model, rows, saved.space, threads=settings.ranker.threads)


def label_column(examples: Partition, primary: str) -> int:
    """Position of the primary label among the labels. Raises SettingsError for an unknown one."""
    labels = [label.removeprefix("label_") for label in spec_of(examples).labels]
    if primary not in labels:
        raise SettingsError(
            f"ranker.primary_label is '{primary}', but the impressions of {examples.day} have the "
            f"labels {labels}: choose one of these."
        )
    return labels.index(primary)


def role_metrics(
    role: str, labels: np.ndarray, names: tuple[str, ...], scores: np.ndarray
) -> dict[str, float]:
    """<role>_auc_<label>, <role>_log_loss_<label> and <role>_rce_<label> of every label."""
    plain = tuple(name.removeprefix("label_") for name in names)
    metrics = metrics_by_label(labels, scores, plain)
    return {f"{role}_{name}": value for name, value in metrics.items()}


def write_predictions(
    path: Path, examples: Partition, labels: np.ndarray, scores: dict[str, np.ndarray]
) -> None:
    """The columns that the gate reads, in the order of the examples."""
    consumers = pq.read_table(examples.path / EXAMPLES, columns=["consumer_id"])["consumer_id"]
    columns = {"consumer_id": consumers, "label": labels.astype(np.int8), **scores}
    pq.write_table(pa.table(columns), path)


# Plots


def draw(
    folder: Path, labels: np.ndarray, scores: dict[str, np.ndarray], label: str, day: date
) -> None:
    """calibration.png and roc.png of the primary label."""
    if labels.min() == labels.max():
        return  # with one class only, neither curve exists
    title = f"Calibration of '{label}' on {day}"
    with figure(folder / "calibration.png", title, PLOT_SIZE) as axes:
        for role, probabilities in scores.items():
            plot_calibration(axes, labels, probabilities, role)
        axes.axline((0, 0), slope=1, color="grey", linewidth=0.8)
        axes.set(xlabel="predicted", ylabel="happened")
        axes.legend()
    with figure(folder / "roc.png", f"ROC of '{label}' on {day}", PLOT_SIZE) as axes:
        for role, probabilities in scores.items():
            plot_roc(axes, labels, probabilities, role)
        axes.axline((0, 0), slope=1, color="grey", linewidth=0.8)
        axes.set(xlabel="false positives, share", ylabel="true positives, share")
        axes.legend()


def plot_calibration(axes: Axes, labels: np.ndarray, probabilities: np.ndarray, role: str) -> None:
    """Mean prediction against the share of positives, in BINS bins of equally many rows."""
    order = np.argsort(probabilities, kind="stable")  # ties in the order of the rows
    predicted = []
    happened = []
    for rows in np.array_split(order, min(BINS, len(order))):
        predicted.append(probabilities[rows].mean())
        happened.append(labels[rows].mean())
    axes.plot(predicted, happened, ".-", label=role)


def plot_roc(axes: Axes, labels: np.ndarray, probabilities: np.ndarray, role: str) -> None:
    """Share of true positives against the share of false positives, at every threshold."""
    positives = labels[np.argsort(-probabilities, kind="stable")] > 0
    false_positives = np.cumsum(~positives) / (~positives).sum()
    true_positives = np.cumsum(positives) / positives.sum()
    axes.plot(false_positives, true_positives, label=role)
