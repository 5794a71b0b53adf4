"""evaluate: test the champion and yesterday's challenger on the day, before anything trains on it.

A model that reads vectors of another space than the day's is tested with the newest version that it
was trained on, which the registry's alias `champion` names once it is the champion. Where the
registry has that version no longer, every vector is masked as unknown. Where both models are
tested, what the gate's guardrails look at is measured too (jobs.judging.guardrails).

predictions.parquet    consumer_id, the primary label, and the probability by each model that was
                       tested: champion, challenger
metrics.parquet        one row per model, label and bucket of consumers by their impressions of the
                       day: models.device_metrics, and rela_impr of the challenger over the champion
calibration_<role>.json
                       what makes the probabilities of that model rates of this day, by label:
                       models.calibration
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.facts import Fact
from embeddings.registry.client import Version
from embeddings.registry.errors import DamagedVersion
from embeddings.registry.vectors import Entity
from jobs.errors import SettingsError
from jobs.freed_memory import give_back
from jobs.judging import guardrails
from jobs.judging.calibration import Consumers, calibration_file
from jobs.judging.scores import Judgement, judge
from jobs.judging.shelves import Shelves
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.pipeline.needs import Needs, if_there, optional
from jobs.pipeline.plan import Reads, reads, recording
from jobs.pipeline.published import own_version
from jobs.settings import Settings
from jobs.steps.examples import EXAMPLES, clean_impressions, spec_of
from jobs.steps.train import open_day
from jobs.training.tested import draw, drawn_rows
from models.calibration import Calibration
from models.metrics import relative_improvement
from models.scratch import PIECE, Column, Rows, Scratch
from models.stored import StoredDay, tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from models.features import Day

CHAMPION, CHALLENGER = "champion", "challenger"  # the roles
PREDICTIONS = "predictions.parquet"
METRICS = "metrics.parquet"
ROW_GROUP = 1 << 20  # rows of a group of rows in the predictions
IDS = ["consumer_id", "producer_id"]

log = logging.getLogger(__name__)

SETTINGS = chain.SETTINGS
FORMAT = 6
SPARK = False
FACTS = (
    Fact("rows", "examples of the day", "rows"),
    Fact("champion", "day up to which the tested champion was trained"),
    Fact("challenger", "day up to which the tested challenger was trained"),
    Fact(
        "older_vectors", "which models were tested with vectors of an older space, or without any"
    ),
    Fact("untested_champion", "training day of a champion that could not be tested on the day"),
    Fact("untested_challenger", "training day of a challenger that could not be tested on the day"),
    Fact("why", "the reason where a model was not tested"),
    Fact(
        "champion_auc_<label>",
        "the champion's AUC on the day",
        "AUC",
        better="higher",
        headline=True,
    ),
    Fact("champion_log_loss_<label>", "the champion's log loss", "nats per row", better="lower"),
    Fact("champion_rce_<label>", "the champion's relative cross-entropy", "%", better="higher"),
    Fact("champion_ece_<label>", "the champion's calibration error", "probability", better="lower"),
    Fact(
        "champion_calibrated_ece_<label>",
        "the same, of each half of the consumers with the calibration of the other half",
        "probability",
        better="lower",
    ),
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
    Fact(
        "challenger_ece_<label>",
        "the challenger's calibration error",
        "probability",
        better="lower",
    ),
    Fact(
        "challenger_calibrated_ece_<label>",
        "the same, of each half of the consumers with the calibration of the other half",
        "probability",
        better="lower",
    ),
    *guardrails.FACTS,
)


def needs(settings: Settings, day: date) -> Needs[None]:
    """The day's examples; the previous day's challenger and decision, and the champion's model.

    Also the newest examples that the challenger was trained on.
    """
    yield ("validate", day)
    yield ("examples", day)
    decision = yield from chain.needs_of_previous(settings, day)
    models = contestants(decision)
    for trained in models.values():
        yield optional("train", trained)
    if CHALLENGER in models:
        yield if_there("examples", models[CHALLENGER])


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Score the day with the models of the days before it.

    What cannot be tested on the day is named in the facts, with the reason.
    """
    read = reads(settings, "evaluate", day)
    clean_impressions(read, day)
    examples = read["examples", day]
    # Before anything is computed: a misspelt label should fail in the first second.
    column = label_column(examples, settings.ranker.primary_label)
    entrants = entrants_of(settings, read, examples)
    untrained = reason_without_challenger(read)
    tested = {role: entrant for role, entrant in entrants.items() if not entrant.obstacle}
    with recording(settings, "evaluate", day, read.values()) as staging:
        staging.facts["rows"] = examples.facts["rows"]
        staging.facts |= entry_facts(entrants, day, untrained)
        if not tested:
            return
        rows = open_day(settings, examples)
        names = spec_of(examples).labels
        with Scratch(staging.path, PIECE) as scratch:
            labels = stored_labels(rows, scratch)
            shelves = Shelves.of(partial(id_pieces, rows, "consumer_id"), len(rows), scratch)
            consumers = Consumers.of(shelves)
            primary_scores: dict[str, Rows] = {}
            measured: list[dict[str, Any]] = []
            for role, entrant in tested.items():
                scores = stored_scores(scored(settings, entrant, rows), names, scratch)
                give_back()  # the pieces of the day, before labels take as much
                calibrations = {}
                threads = settings.ranker.threads
                for found in judge(consumers, names, labels, scores, scratch, threads):
                    staging.facts |= label_facts(role, found)
                    measured += [{"role": role, **row} for row in found.rows]
                    if found.calibration is not None:
                        calibrations[found.label] = found.calibration
                calibration = Calibration(str(day), calibrations)
                (staging.path / calibration_file(role)).write_text(calibration.to_json() + "\n")
                primary_scores[role] = scores[column]
            if len(tested) > 1:
                staging.facts |= guardrail_facts(settings, read, tested, rows, shelves)
                staging.facts |= cost_facts(settings, tested, rows)
            write_predictions(staging.path / PREDICTIONS, rows, labels[column], primary_scores)
            write_metrics(staging.path / METRICS, measured)
            happened = drawn_rows(labels[column])
            predicted = {role: drawn_rows(scores) for role, scores in primary_scores.items()}
    folder = settings.report("evaluate", day)
    draw(folder, happened, predicted, settings.ranker.primary_label, day)


# Who is tested


@dataclass(frozen=True)
class Entrant:
    """A model that meets the day.

    obstacle: why it cannot be tested on it, '' where it can. other_space: why it cannot read the
    day's vectors, '' where it can. own: the version that it reads instead; None for no vectors.
    """

    trained: date
    model: Partition | None
    obstacle: str
    other_space: str = ""
    own: Version | None = None

    @property
    def partition(self) -> Partition:
        """The model of one that can be tested."""
        assert self.model is not None, "a model that is missing has an obstacle"
        return self.model


def contestants(decision: Partition | None) -> dict[str, date]:
    """The models that should be tested: role -> training day. None on the first day of the chain.

    decision: the gate's on the previous day.
    """
    if decision is None:
        return {}
    models = {}
    if champion := decision.facts["champion_after"]:
        models[CHAMPION] = date.fromisoformat(champion)
    models[CHALLENGER] = decision.day
    return models


def reason_without_challenger(read: Reads) -> str:
    """Why the previous day did without a training; '' where it has trained a challenger."""
    decision = chain.previous(read)
    trained = read.get(("train", decision.day)) if decision else None
    return trained.facts["skipped"] if trained and not chain.has_model(trained) else ""


def entrants_of(settings: Settings, read: Reads, examples: Partition) -> dict[str, Entrant]:
    """The contestants of the examples' day, by role, each with how it meets them."""
    entrants = {}
    for role, trained in contestants(chain.previous(read)).items():
        model = read.get(("train", trained))
        if model is not None and not chain.has_model(model):
            continue  # the day did without a training: there is no challenger
        entrant = entrant_of(trained, model, examples)
        if model is not None and entrant.other_space:
            entrant = replace(entrant, own=own_version(settings, model))
        entrants[role] = entrant
    return entrants


def entrant_of(trained: date, model: Partition | None, examples: Partition) -> Entrant:
    """The model of that training day, as it meets these examples."""
    if reason := obstacle(model, examples):
        return Entrant(trained, model, reason)
    assert model is not None, "a model that is missing has an obstacle"
    return Entrant(trained, model, obstacle="", other_space=other_space(model, examples))


def obstacle(model: Partition | None, examples: Partition) -> str:
    """Why the model cannot be tested on these examples; '' where it can."""
    from models.rankers.base import RankerError
    from models.store import describe

    if model is None:
        return "it is missing and could not be trained again"
    try:
        spec = describe(model.path).spec
    except RankerError as error:
        return f"it was saved by another Evergreen: {error}"
    if spec != spec_of(examples):
        return "it reads other features than the day's examples have"
    return ""


def other_space(model: Partition, examples: Partition) -> str:
    """Why the model cannot read the vectors of these examples; '' where it can."""
    space = model.facts["space"]
    offered = examples.facts["space"]
    # A day before the first version, and a model of such days, has no space: it fits any.
    if space and offered and space != offered:
        return f"it reads vectors of space '{space}', those of the day are in space '{offered}'"
    return ""


def entry_facts(entrants: dict[str, Entrant], day: date, untrained: str = "") -> dict[str, str]:
    """Which models are tested, which with older vectors, which cannot be tested, and why.

    untrained: why the day before did without a training, if it did.
    """
    facts = {}
    reasons = [untrained] if untrained else []
    older = []
    for role, entrant in entrants.items():
        model = f"The {role} of {entrant.trained}"
        if entrant.obstacle:
            facts[f"untested_{role}"] = str(entrant.trained)
            reasons.append(f"{model} cannot be tested on {day}: {entrant.obstacle}.")
        else:
            facts[role] = str(entrant.trained)
        if entrant.other_space:
            older.append(f"{model} was tested {with_which(entrant)}: {entrant.other_space}.")
    if not entrants and not untrained:
        reasons.append(f"{day} is the first day of the chain: there is no older model to test.")
    if reasons:
        facts["why"] = " ".join(reasons)
    if older:
        facts["older_vectors"] = " ".join(older)
    return facts


def with_which(entrant: Entrant) -> str:
    """With which vectors a model that cannot read those of the day is tested."""
    content_id = entrant.partition.facts["embedding"]
    if entrant.own:
        return f"with the vectors of {content_id}"
    if content_id:
        return f"without vectors, because the registry has {content_id} no longer"
    return "without vectors, because the newest day that it was trained on had none"


# How it is scored


def scored(settings: Settings, entrant: Entrant, day: StoredDay) -> Iterator[np.ndarray]:
    """The probability of every label for every row, by a model that can be tested, piece by piece.

    day: the examples. Yields (r, L) float32.
    """
    from models.store import load
    from models.training import predict

    saved = load(entrant.partition.path)
    for piece in readable(settings, entrant, day):
        yield predict(saved.model, piece, saved.space, threads=settings.ranker.threads)


def stored_scores(
    scores: Iterable[np.ndarray], names: Sequence[str], scratch: Scratch
) -> list[Column]:
    """The scores of each label: (n,) float32 each."""
    columns = [scratch.column(np.float32) for _ in names]
    for piece in scores:
        for number, column in enumerate(columns):
            column.append(piece[:, number])
    return columns


def stored_labels(day: StoredDay, scratch: Scratch) -> list[Column]:
    """The labels of every row: (n,) bool each."""
    columns = [scratch.column(np.bool_) for _ in day.spec.labels]
    for piece in day.outcomes(PIECE):
        for number, column in enumerate(columns):
            column.append(piece[:, number] > 0)
    return columns


def readable(settings: Settings, entrant: Entrant, day: StoredDay) -> Iterator[Day]:
    """The rows of the day in pieces, with vectors that the model can read."""
    if not entrant.other_space:
        yield from day.pieces(PIECE)
    elif entrant.own is None:
        yield from day.masked().pieces(PIECE)
    else:
        with settings.open_registry() as registry:
            entities = registry.load(entrant.own).entities
        ids = tables(day.files, IDS, PIECE)
        for piece, of_piece in zip(day.masked().pieces(PIECE), ids, strict=True):
            yield with_vectors(piece, of_piece, entrant.own.space, entities)


def with_vectors_of(
    settings: Settings, version: Version | None, rows: Day, examples: Partition
) -> Day:
    """All rows of these examples with the vectors of another version. Masked without one."""
    if version is None:
        return rows.masked()
    with settings.open_registry() as registry:
        entities = registry.load(version).entities
    ids = pq.read_table(examples.path / EXAMPLES, columns=IDS)
    return with_vectors(rows, ids, version.space, entities)


def with_vectors(rows: Day, ids: pa.Table, space: str, entities: Mapping[str, Entity]) -> Day:
    """The rows with these vectors, found by id. Ids that have none get no vector.

    ids: consumer_id and producer_id of each row.
    """
    return replace(
        rows,
        space=space,
        consumer_rows=entities["consumer"].rows(ids["consumer_id"].to_numpy()),
        producer_rows=entities["producer"].rows(ids["producer_id"].to_numpy()),
        consumer_vectors=entities["consumer"].vectors,
        producer_vectors=entities["producer"].vectors,
    )


def label_column(examples: Partition, primary: str) -> int:
    """Position of the primary label among the labels. Raises SettingsError for an unknown one."""
    labels = [label.removeprefix("label_") for label in spec_of(examples).labels]
    if primary not in labels:
        raise SettingsError(
            f"ranker.primary_label is '{primary}', but the impressions of {examples.day} have the "
            f"labels {labels}: choose one of these."
        )
    return labels.index(primary)


def label_facts(role: str, found: Judgement) -> dict[str, float]:
    """<role>_<metric>_<label> of every defined metric."""
    plain = found.label.removeprefix("label_")
    return {f"{role}_{metric}_{plain}": value for metric, value in found.metrics.items()}


def id_pieces(day: StoredDay, column: str) -> Iterator[pa.StringArray]:
    """The ids of every row, in the order of the examples."""
    for piece in tables(day.files, [column], PIECE):
        yield piece[column].combine_chunks()


def write_predictions(path: Path, day: StoredDay, labels: Rows, scores: Mapping[str, Rows]) -> None:
    """The columns that the gate reads, in the order of the examples.

    labels: (n,) bool. scores: (n,) float32 by role.
    """
    kinds = [("consumer_id", pa.string()), ("label", pa.int8())]
    schema = pa.schema([*kinds, *((role, pa.float32()) for role in scores)])
    with pq.ParquetWriter(path, schema) as writer:
        done = 0
        for piece in tables(day.files, ["consumer_id"], ROW_GROUP):
            rows = slice(done, done + piece.num_rows)
            done = rows.stop
            columns = {"consumer_id": piece["consumer_id"], "label": labels[rows].astype(np.int8)}
            columns |= {role: column[rows] for role, column in scores.items()}
            writer.write_table(pa.table(columns, schema), row_group_size=ROW_GROUP)


def write_metrics(path: Path, measured: list[dict[str, Any]]) -> None:
    """What was measured, with the challenger's relative improvement beside its AUC."""
    from models.device_metrics import METRICS as MEASURED

    champion = {}
    for row in measured:
        if row["role"] == CHAMPION and "auc" in row:
            champion[row["users"], row["label"]] = row["auc"]
    for row in measured:
        base = champion.get((row["users"], row["label"]))
        if row["role"] == CHALLENGER and base is not None:
            row["rela_impr"] = relative_improvement(row["auc"], base)
    columns = ["role", "users", "label", "rows", *MEASURED, "rela_impr"]
    kinds = [pa.string()] * 3 + [pa.int64()] + [pa.float64()] * (len(columns) - 4)
    schema = pa.schema(list(zip(columns, kinds, strict=True)))
    pq.write_table(pa.Table.from_pylist(measured, schema), path)


# What the guardrails look at


def guardrail_facts(
    settings: Settings,
    read: Reads,
    tested: dict[str, Entrant],
    day: StoredDay,
    consumers: Iterable[pa.StringArray],
) -> dict[str, float | str]:
    """What promoting the challenger would change besides the scores; see jobs.judging.guardrails.

    Where the registry has a version no longer, or a damaged one, or the examples of the training
    are gone, what needs them is left out. consumers: those of the day's rows, of each all rows in
    one piece.
    """
    facts: dict[str, float | str] = {}
    versions = {}
    with settings.open_registry() as registry:
        for role, entrant in tested.items():
            if version := own_version(settings, entrant.partition):
                try:
                    versions[role] = registry.load(version)
                except DamagedVersion as error:  # it must not keep the day from being tested
                    log.warning("Coverage and neighbours are not compared: %s", error)
    if len(versions) == len(tested):
        ids = {"consumer": consumers, "producer": id_pieces(day, "producer_id")}
        facts |= guardrails.version_facts(versions, ids)
    learned = read.get(("examples", tested[CHALLENGER].trained))
    if learned is not None and spec_of(learned) == day.spec:
        before = [Path(part.path) for part in learned.parts(EXAMPLES)]
        facts |= guardrails.missing_facts(before, day.files, day.spec)
    return facts


def cost_facts(settings: Settings, tested: dict[str, Entrant], rows: StoredDay) -> dict[str, float]:
    """The operations of both models for one row. A challenger that takes long is logged."""
    from models.store import load

    batch = next(rows.masked().batches(guardrails.COST_ROWS), None)
    if batch is None:
        return {}
    models = {role: load(entrant.partition.path).model for role, entrant in tested.items()}
    facts = guardrails.cost_facts(models, batch)
    # A time is another one each time, so that it is no fact and decides nothing.
    ratio = guardrails.seconds_ratio(models, batch, settings.ranker.threads)
    if ratio > settings.guardrails.max_seconds_ratio:
        log.warning(
            "The challenger of %s takes %.1f times as long as the champion of %s for the same "
            "rows (guardrails.max_seconds_ratio is %g).",
            tested[CHALLENGER].trained,
            ratio,
            tested[CHAMPION].trained,
            settings.guardrails.max_seconds_ratio,
        )
    return facts
