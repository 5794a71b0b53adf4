"""test: the champion and yesterday's challenger, judged on the day before anything trains on it.

predictions.parquet    consumer_id, the primary label, and what each model said: champion, challenger
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.errors import EvergreenError, SettingsError
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.chain import SETTINGS
from jobs.plots import figure
from jobs.settings import Settings
from jobs.steps.examples import clean_impressions, spec_of
from jobs.steps.train import load_day
from models.metrics import metrics_by_label

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from models.features import Day

PREDICTIONS = "predictions.parquet"
BINS = 20  # of the calibration curve, equally full


def needs(settings: Settings, day: date) -> Iterator[tuple[str, date]]:
    """The day's examples, and of the previous day of the chain the challenger and who was champion after it."""
    yield ("examples", day)
    yield from chain.needs_of_previous(settings, day, ("train", "gate"))
    if champion := champion_before(settings, day):
        yield ("train", champion)


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Score the day with the models of before it. On the chain's first day there are none: the partition says so."""
    clean_impressions(settings, day)
    examples = settings.lake.get("examples", day)
    invited = contestants(settings, day)
    models = {role: p for role, p in invited.items() if same_space(p, examples)}
    column = label_column(examples, settings.ranker.primary_label)
    with settings.lake.writing(
        "evaluate", day, settings=settings.digest(*SETTINGS), inputs=[examples, *models.values()]
    ) as staging:
        staging.facts |= {
            "rows": examples.facts["rows"],
            **{role: str(p.day) for role, p in models.items()},
        }
        if "champion" in invited and "champion" not in models:
            staging.facts["untested_champion"] = str(invited["champion"].day)
        if not models:
            staging.facts["why"] = why_nobody(invited, examples)
            return
        loaded = load_day(settings, examples)
        scores = {
            role: score(settings, trained, examples, loaded) for role, trained in models.items()
        }
        staging.facts |= judged(loaded.labels, spec_of(examples).labels, scores)
        labels, primary = (
            loaded.labels[:, column],
            {role: p[:, column] for role, p in scores.items()},
        )
        write_predictions(staging.path / PREDICTIONS, examples, labels, primary)
    draw(settings.report("evaluate", day), labels, primary, settings.ranker.primary_label, day)


def champion_before(settings: Settings, day: date) -> date | None:
    """The day whose model was champion after the previous day of the chain; None where there is none."""
    yesterday = chain.previous(settings, day)
    champion = settings.lake.get("gate", yesterday).facts["champion_after"] if yesterday else ""
    return date.fromisoformat(champion) if champion else None


def contestants(settings: Settings, day: date) -> dict[str, Partition]:
    """The models that are tested on `day`, by role: partitions of `train`."""
    days = {"champion": champion_before(settings, day), "challenger": chain.previous(settings, day)}
    return {role: settings.lake.get("train", trained) for role, trained in days.items() if trained}


def same_space(trained: Partition, examples: Partition) -> bool:
    """May the model read the examples' vectors? Where one side has none, it may."""
    return (
        not trained.facts["space"]
        or not examples.facts["space"]
        or trained.facts["space"] == examples.facts["space"]
    )


def why_nobody(invited: dict[str, Partition], examples: Partition) -> str:
    if not invited:
        return f"{examples.day} is the first day of the chain: there is no older model to test."
    theirs = ", ".join(f"{role} '{trained.facts['space']}'" for role, trained in invited.items())
    return (
        f"The vectors of {examples.day} are in the new space '{examples.facts['space']}' and no model reads them yet "
        f"({theirs}): one is trained on them today, and tested on the next day."
    )


def score(settings: Settings, trained: Partition, examples: Partition, day: Day) -> np.ndarray:
    """Probability of every label for every row, (n, L). Raises where model and examples do not belong together."""
    from models.store import load
    from models.training import predict

    saved = load(trained.path)
    if saved.model.spec != spec_of(examples):
        raise EvergreenError(
            f"The model of {trained.day} reads other features than the examples of {examples.day} have. "
            f"Start a new chain with the features of now: set ranker.start_day to {examples.day}."
        )
    return predict(saved.model, day, saved.space, threads=settings.ranker.threads)


def label_column(examples: Partition, primary: str) -> int:
    """Where the primary label stands among the labels. Raises SettingsError naming those that there are."""
    labels = [label.removeprefix("label_") for label in spec_of(examples).labels]
    if primary not in labels:
        raise SettingsError(
            f"ranker.primary_label is '{primary}', but the impressions of {examples.day} have the labels {labels}."
        )
    return labels.index(primary)


def judged(
    labels: np.ndarray, names: tuple[str, ...], scores: dict[str, np.ndarray]
) -> dict[str, float]:
    """<role>_auc_<label>, <role>_log_loss_<label>, <role>_rce_<label> of every model and label."""
    plain = tuple(name.removeprefix("label_") for name in names)
    return {
        f"{role}_{name}": x
        for role, p in scores.items()
        for name, x in metrics_by_label(labels, p, plain).items()
    }


def write_predictions(
    path: Path, examples: Partition, labels: np.ndarray, scores: dict[str, np.ndarray]
) -> None:
    """What the gate needs of each row, in the order of the examples."""
    consumers = pq.read_table(examples.path / "examples", columns=["consumer_id"])["consumer_id"]
    pq.write_table(
        pa.table({"consumer_id": consumers, "label": labels.astype(np.int8), **scores}), path
    )


def draw(
    folder: Path, labels: np.ndarray, scores: dict[str, np.ndarray], label: str, day: date
) -> None:
    """calibration.png and roc.png of the primary label."""
    if labels.min() == labels.max():
        return  # one class only: neither curve exists
    with figure(
        folder / "calibration.png", f"Calibration of '{label}' on {day}", (4.4, 4.0)
    ) as axes:
        for role, p in scores.items():
            parts = np.array_split(np.argsort(p, kind="stable"), min(BINS, len(p)))
            axes.plot(
                [p[i].mean() for i in parts], [labels[i].mean() for i in parts], ".-", label=role
            )
        axes.axline((0, 0), slope=1, color="grey", linewidth=0.8)
        axes.set(xlabel="predicted", ylabel="happened")
        axes.legend()
    with figure(folder / "roc.png", f"ROC of '{label}' on {day}", (4.4, 4.0)) as axes:
        for role, p in scores.items():
            positives = labels[np.argsort(-p, kind="stable")] > 0
            axes.plot(
                np.cumsum(~positives) / (~positives).sum(),
                np.cumsum(positives) / positives.sum(),
                label=role,
            )
        axes.axline((0, 0), slope=1, color="grey", linewidth=0.8)
        axes.set(xlabel="false positives, share", ylabel="true positives, share")
        axes.legend()
