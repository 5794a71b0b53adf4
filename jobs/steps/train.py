"""train: a MaskNet on the examples of the window up to the day, in one pass, as safetensors and JSON.

Each day's vectors are those of the version published before it, memory-mapped. Days whose vectors live in another space
than the newest day's, or whose features are others, are left out and told.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from embeddings.registry.chunked import Rows
from embeddings.registry.files import open_files
from jobs.errors import Skip
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.chain import SETTINGS
from jobs.plots import figure
from jobs.settings import RankerSettings, Settings
from jobs.steps.examples import published_version, spec_of
from models.features import Day

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from models.training import Trained, TrainingConfig

LAST_SHARE = 0.1  # of the steps, over which the final loss is averaged


def needs(settings: Settings, day: date) -> Iterator[tuple[str, date]]:
    """The examples of the window's days. Which days have any shows when they are validated."""
    window = training_window(settings, day)
    yield from (("validate", d) for d in window)
    yield from (("examples", d) for d in window if chain.rankable(settings.lake.get("validate", d)))


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Train on the days up to `day`. Raises Skip where the day itself has no examples."""
    from models.rankers.masknet import MaskNetConfig
    from models.store import save
    from models.training import train

    partitions, left_out = usable(window_examples(settings, day))
    days = [load_day(settings, partition) for partition in partitions]
    spec = spec_of(partitions[-1])
    cfg = training_config(settings.ranker, chain.seed(settings, "train", day))
    trained = train(
        days,
        spec,
        MaskNetConfig(field_width=settings.ranker.field_width),
        cfg,
        Printer(f"train {day}"),
    )
    with settings.lake.writing(
        "train", day, settings=settings.digest(*SETTINGS), inputs=partitions
    ) as staging:
        save(staging.path, trained.model, trained.space)
        staging.facts |= facts_of(trained, days, left_out) | {
            "embedding": partitions[-1].facts["version"]
        }
    draw_losses(settings.report("train", day) / "loss.png", trained, day)


def track(settings: Settings, partition: Partition) -> None:
    """The model into MLflow, and a version of it under the settings' name."""
    from jobs.pipeline.tracking import register_model

    register_model(settings, partition)


# What is trained on


def training_window(settings: Settings, day: date) -> list[date]:
    """The trailing days of the chain's calendar up to `day`."""
    return chain.days_up_to(settings, day)[-settings.ranker.window_days :]


def window_examples(settings: Settings, day: date) -> list[Partition]:
    """The examples of the window, oldest first; those of `day` are the last. Raises Skip where `day` has none."""
    validated = [settings.lake.get("validate", d) for d in training_window(settings, day)]
    days = [p.day for p in validated if chain.rankable(p)]
    if not days or days[-1] != day:
        raise Skip(f"{day} has no trusted impressions: nothing new to train on.")
    return [settings.lake.get("examples", d) for d in days]


def usable(partitions: list[Partition]) -> tuple[list[Partition], dict[str, str]]:
    """The days that can be trained on together with the last one, and the others with the reason."""
    space, features = partitions[-1].facts["space"], spec_of(partitions[-1])
    left_out = {}
    for partition in partitions:
        if (theirs := partition.facts["space"]) and space and theirs != space:
            left_out[str(partition.day)] = (
                f"its vectors are in space '{theirs}', those of {partitions[-1].day} in '{space}'"
            )
        elif spec_of(partition) != features:
            left_out[str(partition.day)] = f"its features are not those of {partitions[-1].day}"
    return [p for p in partitions if str(p.day) not in left_out], left_out


def load_day(settings: Settings, examples: Partition) -> Day:
    """A partition of examples with the vectors of its own version, memory-mapped."""
    spec = spec_of(examples)
    names = [
        *(c.name for c in spec.categorical),
        *spec.numeric,
        *spec.labels,
        "consumer_row",
        "producer_row",
    ]
    table = pq.read_table(examples.path / "examples", columns=names)
    consumers: Rows = np.zeros((0, spec.vector_dim), dtype=np.float32)
    producers = consumers
    if examples.facts["version"]:
        entities = open_files(published_version(settings, examples.facts["version"]).path).entities
        consumers, producers = entities["consumer"].vectors, entities["producer"].vectors
    return Day.from_table(
        str(examples.day), table, spec, examples.facts["space"], consumers, producers
    )


def training_config(ranker: RankerSettings, seed: int) -> TrainingConfig:
    from models.training import TrainingConfig

    return TrainingConfig(
        ranker.batch_size, ranker.learning_rate, threads=ranker.threads, seed=seed
    )


# What is told


class Printer:
    """Progress as lines: the first batch, and then each tenth of the rows, no more than one a second."""

    def __init__(self, title: str) -> None:
        self.title, self.told, self.at = title, -1, 0.0

    def __call__(self, day: str, done: int, rows: int, loss: float) -> None:
        tenth = 10 * done // rows
        if tenth > self.told and (tenth == 10 or time.monotonic() - self.at > 1):
            self.told, self.at = tenth, time.monotonic()
            print(
                f"{self.title}: {done:,} of {rows:,} rows, at {day}, loss {loss:.4f}",
                file=sys.stderr,
                flush=True,
            )


def facts_of(
    trained: Trained, days: list[Day], left_out: dict[str, str]
) -> dict[str, int | float | str]:
    """Rows, size and final losses; the days left out, with the reason."""
    labels = trained.model.spec.labels
    last = trained.losses[-max(1, int(LAST_SHARE * len(trained.losses))) :].mean(
        axis=0, dtype=np.float64
    )
    told = "; ".join(f"{day}: {reason}" for day, reason in left_out.items())
    return {
        "rows": sum(len(day) for day in days),
        "days": len(days),
        "first_day": days[0].name,
        "space": trained.space,
        "left_out": told or "none",
        "steps": len(trained.losses),
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "loss": float(last.sum()),
        **{
            f"loss_{label.removeprefix('label_')}": float(loss)
            for label, loss in zip(labels, last, strict=True)
        },
    }


def draw_losses(path: Path, trained: Trained, day: date) -> None:
    """The loss of each label while training, smoothed over a fiftieth of the steps."""
    width = max(1, len(trained.losses) // 50)
    kernel = np.ones(width) / width
    with figure(path, f"Training up to {day}: loss by label") as axes:
        for column, label in enumerate(trained.model.spec.labels):
            smooth = np.convolve(trained.losses[:, column], kernel, mode="valid")
            axes.plot(np.arange(len(smooth)) + width, smooth, label=label.removeprefix("label_"))
        axes.set(xlabel="step", ylabel="binary cross-entropy", yscale="log")
        axes.legend(fontsize=7, ncols=2)
