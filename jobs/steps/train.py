"""train: a ranker on the examples of the window up to the day, in one pass.

The examples are read piece by piece, so that memory does not grow with the window. A training that
was killed goes on from its last checkpoint, to the same weights.

Each day's vectors are those of the version published before it, memory-mapped. Days whose vectors
are in another space than the newest day's are trained on without them: every vector is masked as
unknown. Days whose features differ are left out. The facts name both with the reason. The partition
holds model.safetensors and model.json: see models.store.

With `ranker.retrain = "when it pays"`, a day may do without a model: see jobs.pipeline.retraining.
With `ranker.warm_start`, it goes on from the model before it: see jobs.pipeline.warm_start. Then
the partition also holds seen.safetensors where not every category has a vector: models.admission.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embeddings.facts import Fact
from embeddings.registry.chunked import Rows
from jobs import logs
from jobs.errors import Skip
from jobs.lake.store import Partition
from jobs.pipeline import chain, retraining, warm_start
from jobs.pipeline.needs import Needs, optional
from jobs.pipeline.plan import Reads, reads, recipe, recording
from jobs.pipeline.published import published_version
from jobs.pipeline.tracking.models import ModelRegistry
from jobs.pipeline.tracking.runs import Tracker
from jobs.pipeline.warm_start import Beginning
from jobs.settings import RankerSettings, Settings
from jobs.steps.examples import EXAMPLES, spec_of
from jobs.training.pictures import draw_losses, draw_masks
from models.features import Day, Examples
from models.stored import StoredDay

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from models.checkpoint import Checkpoint
    from models.start import Start
    from models.training import Trained, TrainingConfig

log = logging.getLogger(__name__)

LAST_SHARE = 0.1  # of the steps, over which the final loss is averaged

SETTINGS = chain.SETTINGS
FORMAT = 2
SPARK = False
FACTS = (
    Fact("rows", "examples trained on, those of masked days included", "rows"),
    Fact("days", "days trained on, masked ones included", "days"),
    Fact("first_day", "oldest day trained on"),
    Fact("space", "space of the vectors that the model reads", headline=True),
    Fact("embedding", "version whose vectors the newest examples point into"),
    Fact("masked", "days trained on with every vector masked as unknown, with the reason"),
    Fact("left_out", "days of the window that were not trained on, with the reason"),
    Fact("steps", "batches trained on", "steps"),
    Fact("parameters", "weights of the model", "weights"),
    Fact(
        "loss",
        "training loss over the last tenth of the steps, sum of all labels",
        "nats per row",
        better="lower",
        headline=True,
    ),
    Fact(
        "loss_<label>",
        "the label's part of the loss",
        "nats per row",
        better="lower",
    ),
)


NOT_DRAWN = Fact("negatives_left_out", "rows without a positive label that were not drawn", "rows")
CATEGORIES = "buckets of categories"
ADMISSION = (
    Fact("admitted", "those that got a vector of their own with this training", CATEGORIES),
    Fact("kept", "those that had one before", CATEGORIES),
    Fact("evicted", "those that lost theirs, not read for too long", CATEGORIES),
)


def chosen_facts(settings: Settings) -> tuple[Fact, ...]:
    """What is recorded besides where not all days, rows or categories are treated alike."""
    ranker = settings.ranker
    facts: tuple[Fact, ...] = ()
    if ranker.retrain == retraining.WHEN_IT_PAYS:
        facts += retraining.FACTS
    if ranker.negatives_kept < 1:
        facts += (NOT_DRAWN,)
    if ranker.warm_start:
        facts += warm_start.FACTS
    if ranker.admit_after:
        facts += ADMISSION
    return facts


def needs(settings: Settings, day: date) -> Needs[None]:
    """The examples of the window's days; which days have any is known once they are validated.

    Without those of an earlier day, the window is shorter. A training that goes on from a model
    needs this and the days after it.
    """
    window = training_window(settings, day)
    if settings.ranker.warm_start:
        begun = yield from warm_start.needs_to_begin(settings, day, window)
        window = begun.days(window)
    for earlier in window[:-1]:
        there = yield optional("validate", earlier)
        if there and chain.rankable(settings.lake.get("validate", earlier)):
            yield optional("examples", earlier)
    yield ("validate", day)
    if chain.rankable(settings.lake.get("validate", day)):
        yield ("examples", day)
        yield from retraining.needs_to_decide(settings, day)


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Train on the days up to `day`, if that pays. Raises Skip where the day has no examples."""
    from models.processes import announce
    from models.store import save

    read = reads(settings, "train", day)
    begun = beginning(settings, read, day)
    examples, missing = window_examples(read, begun.days(training_window(settings, day)), day)
    outlook = retraining.outlook(settings, read, day)
    if not outlook.pays:
        log.info("%s: %s", day, outlook.why)
        with recording(settings, "train", day, read.values()) as staging:
            outlook.record(staging)
        return
    use = usable(examples)
    days = opened(settings, use)
    checkpoint = checkpoint_of(settings, day, read)
    announce(go_on=True)  # to the processes that train with this one
    start = warm_start.start_of(settings, begun, day)
    printer = ProgressPrinter(f"train {day}")
    trained = train_on(settings, day, use, days, start, checkpoint, printer)
    with recording(settings, "train", day, read.values()) as staging:
        save(staging.path, trained.model, trained.space)
        staging.facts |= facts_of(trained, days)
        if settings.ranker.warm_start:
            staging.facts |= begun.facts(use.kept[-1])
        if trained.admitted is not None:
            staging.facts |= trained.admitted.changes
            if settings.ranker.warm_start:
                trained.admitted.seen.save(staging.path)
        if settings.ranker.negatives_kept < 1:
            read_rows = sum(len(one_day) for one_day in days)
            staging.facts[NOT_DRAWN.name] = read_rows - trained.rows
        staging.facts["embedding"] = use.kept[-1].facts["version"]
        staging.facts["masked"] = with_reasons(use.masked)
        staging.facts["left_out"] = with_reasons(missing | use.left_out)
        outlook.record(staging)
    shutil.rmtree(checkpoint.path.parent, ignore_errors=True)
    folder = settings.report("train", day)
    draw_losses(folder / "loss.png", trained, day)
    draw_masks(folder, trained, days[-1])


def join(settings: Settings, day: date) -> None:
    """Train in a further process what `run` trains in the first one, which writes the result."""
    read = reads(settings, "train", day)
    begun = beginning(settings, read, day)
    examples, _ = window_examples(read, begun.days(training_window(settings, day)), day)
    use = usable(examples)
    start = warm_start.start_of(settings, begun, day)
    train_on(settings, day, use, opened(settings, use), start, checkpoint_of(settings, day, read))


def beginning(settings: Settings, read: Reads, day: date) -> Beginning:
    """What the training goes on from."""
    if not settings.ranker.warm_start:
        return Beginning()
    return warm_start.beginning(read, day, training_window(settings, day))


def opened(settings: Settings, use: Usable) -> list[StoredDay]:
    """The days that are trained on, oldest first."""
    days = []
    for partition in use.kept:
        days.append(open_day(settings, partition, masked=str(partition.day) in use.masked))
    return days


def train_on(
    settings: Settings,
    day: date,
    use: Usable,
    days: list[StoredDay],
    start: Start | None,
    checkpoint: Checkpoint,
    progress: ProgressPrinter | None = None,
) -> Trained:
    """The ranker of the settings, trained on these days."""
    from models.training import train

    ranker = settings.ranker
    cfg = training_config(ranker, chain.seed(settings, "train", day), warm=start is not None)
    spec = spec_of(use.kept[-1])
    return train(days, spec, ranker.kind, ranker.options, cfg, progress, checkpoint, start)


def track(tracker: Tracker, partition: Partition) -> None:
    """Log the model to MLflow and register it as a version under the settings' name."""
    if chain.has_model(partition):
        ModelRegistry(tracker).register(partition)


# How it is trained


def training_config(ranker: RankerSettings, seed: int, warm: bool = False) -> TrainingConfig:
    """The part of the settings that concerns the training, and not the kind of the ranker.

    warm: does it go on from an older model?
    """
    from models.training import TrainingConfig, fastest_precision

    precision = ranker.precision
    return TrainingConfig(
        batch_size=ranker.batch_size,
        learning_rate=ranker.learning_rate * (ranker.warm_rate if warm else 1.0),
        # The day is not the end of what is learned. Falling to zero cost AUC: decision 21.
        last_rate=1.0 if warm else 0.0,
        threads=ranker.threads,
        precision=fastest_precision() if precision == "auto" else precision,
        compiled=ranker.compiled,
        seed=seed,
        negatives_kept=ranker.negatives_kept,
        tables=ranker.tables,
        admit_after=ranker.admit_after,
    )


def checkpoint_of(settings: Settings, day: date, read: Reads) -> Checkpoint:
    """Where the training of the day goes on after a kill, if its recipe and inputs are the same."""
    import torch

    from models.checkpoint import Checkpoint

    ranker = settings.ranker
    inputs = [f"{partition.key} {partition.digest}" for partition in read.values()]
    # Precision and compiler are no part of a recipe at their defaults, and `auto` is part by name.
    shaping = [recipe(settings, "train"), ranker.precision, ranker.compiled, ranker.threads]
    identity = f"{shaping} on {inputs} by torch {torch.__version__}"
    return Checkpoint(settings.lake.scratch("train", day) / "checkpoint.pt", identity)


# What it is trained on


def training_window(settings: Settings, day: date) -> list[date]:
    """The trailing days of the chain's calendar up to `day`."""
    return chain.days_up_to(settings, day)[-settings.ranker.window_days :]


def window_examples(
    read: Reads, window: list[date], day: date
) -> tuple[list[Partition], dict[str, str]]:
    """The examples of the window, oldest first and `day` last; what each missing day lacks.

    Raises Skip where `day` has none.
    """
    examples = []
    missing = {}
    for candidate in window:
        verdict = read.get(("validate", candidate))
        if verdict is None:
            missing[str(candidate)] = "it could not be validated"
        elif chain.rankable(verdict):
            found = read.get(("examples", candidate))
            if found is None:
                missing[str(candidate)] = "its examples could not be computed"
            else:
                examples.append(found)
    if not examples or examples[-1].day != day:
        raise Skip(f"{day} has no trusted impressions: nothing new to train on.")
    return examples, missing


@dataclass(frozen=True)
class Usable:
    """The days that can be trained on together with the newest one, oldest first.

    masked: which of them are trained on without their vectors. left_out: the other days. Both map
    a day to the reason.
    """

    kept: list[Partition]
    masked: dict[str, str]
    left_out: dict[str, str]


def usable(partitions: list[Partition]) -> Usable:
    """How each of these days can be trained on together with the last one."""
    newest = partitions[-1]
    newest_features = spec_of(newest)
    kept = []
    left_out = {}
    for partition in partitions:
        if spec_of(partition) == newest_features:
            kept.append(partition)
        else:
            left_out[str(partition.day)] = f"its features are not those of {newest.day}"
    return Usable(kept, in_older_spaces(kept), left_out)


def in_older_spaces(partitions: list[Partition]) -> dict[str, str]:
    """The days whose vectors are in another space than the newest ones, with the reason."""
    # A day without vectors has no space, and can be mixed with any: even the newest may be one.
    in_a_space = [partition for partition in partitions if partition.facts["space"]]
    older = {}
    for partition in in_a_space:
        space = partition.facts["space"]
        newest = in_a_space[-1]
        if space != newest.facts["space"]:
            older[str(partition.day)] = (
                f"its vectors are in space '{space}', those of {newest.day} in "
                f"'{newest.facts['space']}'"
            )
    return older


def open_day(settings: Settings, examples: Partition, masked: bool = False) -> StoredDay:
    """A partition of examples, to be read piece by piece, with the vectors of its own version.

    masked: without these vectors, as if every row were of an unknown consumer and producer. Raises
    SpaceMismatch where the registry's version is not in the space of the examples.
    """
    spec = spec_of(examples)
    space = examples.facts["space"]
    known = examples.facts["known_consumers"] > 0 or examples.facts["known_producers"] > 0
    # Before the first version there are no vectors, and every row number is -1.
    nothing: Rows = np.zeros((0, spec.vector_dim), dtype=np.float32)
    consumers, producers = nothing, nothing
    # The version of a masked day is not opened: the registry may not have it any more.
    if examples.facts["version"] and not masked:
        version = published_version(settings, examples.facts["version"])
        entities = settings.open_registry().load(version, space=space).entities
        consumers, producers = entities["consumer"].vectors, entities["producer"].vectors
    files = tuple(Path(part.path) for part in examples.parts(EXAMPLES))
    day = StoredDay(str(examples.day), space, files, spec, known, consumers, producers)
    return day.masked() if masked else day


def load_day(settings: Settings, examples: Partition, masked: bool = False) -> Day:
    """The same in memory."""
    return open_day(settings, examples, masked).load()


# What is reported


class ProgressPrinter:
    """Prints progress to stderr: after the first batch, then after every tenth of the rows.

    At most one line per second, but always the last one.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.printed_tenth = -1
        self.printed_at = 0.0

    def __call__(self, day: str, done: int, rows: int, loss: float) -> None:
        tenth = 10 * done // rows
        due = tenth == 10 or time.monotonic() - self.printed_at > 1
        if tenth <= self.printed_tenth or not due:
            return
        self.printed_tenth = tenth
        self.printed_at = time.monotonic()
        line = f"{self.title}: {done:,} of {rows:,} rows, at {day}, loss {loss:.4f}"
        if logs.is_json():
            log.info("%s", line)
        else:
            print(line, file=sys.stderr, flush=True)


def facts_of(trained: Trained, days: Sequence[Examples]) -> dict[str, int | float | str]:
    """Rows, size and final losses."""
    last_steps = max(1, int(LAST_SHARE * len(trained.losses)))
    losses = trained.losses[-last_steps:].mean(axis=0, dtype=np.float64)
    facts: dict[str, int | float | str] = {
        "rows": trained.rows,
        "days": len(days),
        "first_day": days[0].name,
        "space": trained.space,
        "steps": len(trained.losses),
        "parameters": sum(weights.numel() for weights in trained.model.parameters()),
        "loss": float(losses.sum()),
    }
    for label, loss in zip(trained.model.spec.labels, losses, strict=True):
        facts[f"loss_{label.removeprefix('label_')}"] = float(loss)
    return facts


def with_reasons(days: dict[str, str]) -> str:
    """The days in order, each with its reason; "none" without any."""
    reasons = [f"{day}: {reason}" for day, reason in sorted(days.items())]
    return "; ".join(reasons) or "none"
