"""publish: the day's vectors as one version of the embedding in the registry.

Beside it, tables of features: the topics of its producers, and the day's profiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings.blocks import load_blocks
from embeddings.facts import Fact, headlines
from embeddings.fold_in.base import load_fold_in
from embeddings.lengths.encoder import load_encoder
from embeddings.registry.client import IndexRule, Registry, Vectors, Version
from embeddings.registry.shards import read_shards
from jobs.errors import DamagedPartition, EvergreenError, NotCommitted
from jobs.features.tables import publish_producers, publish_profiles
from jobs.judging.coverage import coverage
from jobs.judging.labels import read_topics
from jobs.judging.vectors import ENCODER
from jobs.lake.store import Partition
from jobs.pipeline.embedding_gate import next_day_retrieval, promote_version
from jobs.pipeline.plan import inputs, recipe, tracked, writing
from jobs.pipeline.provenance import airflow_run, code_commit
from jobs.pipeline.published import content_id
from jobs.pipeline.tracking.runs import active_run_id
from jobs.settings import Settings
from jobs.steps.benchmark import AGES, LEARNED, results_in
from jobs.steps.lookalike import GROUPS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding", "benchmark")
FORMAT = 1
SPARK = False
COMBINED = ("validate", "matrix", "embed", "align", "fold_in", "lookalike", "benchmark")
FACTS = (
    Fact("version", "the published version, name/day@digest", headline=True),
    Fact("space", "coordinate system of the vectors", headline=True),
    Fact("digest", "digest of the version's content"),
)


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [(step, day) for step in COMBINED]


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Publish vectors, fold-in, space, lineage and benchmarks. The same result is the same version.

    The results that the day's engagements gave for versions of earlier days are added to these.
    """
    read = inputs(settings, "publish", day)
    require_one_run(settings, read)
    clean, matrix, _, align, folded, lookalike, benchmark = read
    producers, order = producer_vectors(matrix.path, align.path)
    entities: dict[str, Vectors | Path] = {
        "consumer": folded.path / "consumer",
        "producer": producers,
    }
    # A log without profiles has no groups, and then no folder of them.
    if lookalike.facts["groups"]:
        entities[GROUPS] = lookalike.path / GROUPS
    lineage = lineage_of(settings, read)
    shards = [shard.ids for shard in read_shards(folded.path / "consumer")]
    covered = {"consumer": shards, "producer": [producers.ids]}
    lineage["metrics"] |= coverage(clean, settings.matrix.weights, covered)
    # Its columns follow the producers, which the registry keeps sorted by id.
    model = load_fold_in(align.path / "fold_in").in_order(order)
    space = align.facts["space"]
    with writing(settings, "publish", day) as staging:
        # A runner that was thought dead must not publish after its successor.
        with staging.fenced():
            registry = settings.open_registry()
            version = registry.publish(
                settings.embedding.name,
                day,
                space,
                entities,
                model,
                lineage,
                results_in(benchmark, day),
                by="publish",
                index=IndexRule(settings.registry.index_above, settings.registry.min_recall),
                encoder=load_encoder(align.path / ENCODER),
            )
            add_later_results(settings, registry, version, read)
            if not settings.is_first:  # the alias of the first one follows the ranker
                promote_judged(settings, registry, day)
            else:  # the tables are the same beside any embedding of the matrix
                topics = read_topics(clean, settings.benchmark.topic_column)
                tables = about_tables(lineage)
                publish_producers(registry, day, producers.ids, topics, tables)
                publish_profiles(registry, day, clean, tables)
        staging.facts |= {
            "version": content_id(version),
            "space": version.space,
            "digest": version.digest,
        }


def lineage_of(settings: Settings, read: list[Partition]) -> dict[str, Any]:
    """Where a version comes from. read: the partitions that it is made of."""
    _, matrix, embed, align, *_ = read
    return {
        "days": sorted(key.removeprefix("validate/") for key in matrix.inputs),
        "settings": settings.digest(*SETTINGS),
        "commit": code_commit(),
        "mlflow_run": active_run_id(),
        "airflow_run": airflow_run(),
        "inputs": {partition.key: partition.digest for partition in read},
        "method": embed.facts["method"],
        "metrics": metrics(settings, [embed, align]),
    }


def about_tables(lineage: dict[str, Any]) -> dict[str, Any]:
    """What of a version's lineage also holds for the tables that are published beside it."""
    fields = ("settings", "commit", "mlflow_run", "airflow_run", "inputs")
    return {field: lineage[field] for field in fields}


def require_one_run(settings: Settings, inputs: list[Partition]) -> None:
    """Raises EvergreenError unless the partitions belong together.

    They do if they were computed from each other, with the settings and the code of now. Ids of one
    are joined with vectors of another by position. The plan recomputes stale partitions first, so
    this fails only where a run beside this one replaces them meanwhile.
    """
    committed = {partition.key: partition.digest for partition in inputs}
    for partition in inputs:
        if partition.recipe != recipe(settings, partition.step):
            raise EvergreenError(
                f"{partition.key} was computed with other settings or other code than those of "
                "this run, which changed meanwhile: run publish again."
            )
        for key, digest in partition.inputs.items():
            if committed.get(key, digest) != digest:
                raise EvergreenError(
                    f"{partition.key} was computed from another {key} than is committed now. "
                    "Another run is replacing the day: run publish again when it has ended."
                )


def add_later_results(
    settings: Settings, registry: Registry, version: Version, read: list[Partition]
) -> None:
    """Add to each version what a later day says about it.

    The later day is this one, or one that was computed before it: days may be asked for in any
    order. read: the partitions that this version was made of.
    """
    mine = {partition.key: partition.digest for partition in read}
    benchmark = read[-1]
    for days in AGES:
        age = timedelta(days=days)
        later = found(settings, "benchmark", version.day + age)
        if later and judges(later, version.day, mine):
            registry.add_results(version, results_in(later, version.day))
        for earlier in registry.versions(version.name):
            if earlier.day == version.day - age and judged_by(settings, benchmark, earlier):
                registry.add_results(earlier, results_in(benchmark, earlier.day))


def promote_judged(settings: Settings, registry: Registry, day: date) -> None:
    """Move the alias of a further embedding to the version that this day has judged, if any."""
    before = day - timedelta(days=AGES[0])
    current = [v for v in registry.versions(settings.embedding.name) if v.day == before]
    if current and next_day_retrieval(registry.results(current[-1]), before):
        reason = f"judged on {day}, and not held back"
        promote_version(settings, current[-1], reason, by="publish")


def judged_by(settings: Settings, benchmark: Partition, version: Version) -> bool:
    """Does this partition judge the vectors of a published version?

    Its lineage says what these are made of; or the lake, if the same vectors were made again.
    """
    if judges(benchmark, version.day, version.lineage.get("inputs", {})):
        return True
    again = found(settings, "publish", version.day)
    is_same = again is not None and again.facts["digest"] == version.digest
    return is_same and again is not None and judges(benchmark, version.day, again.inputs)


def found(settings: Settings, step: str, day: date) -> Partition | None:
    """A committed partition that is whole; None where there is none."""
    try:
        return settings.lake.get(step, day)
    except (NotCommitted, DamagedPartition):
        return None


def judges(benchmark: Partition, day: date, made_of: Mapping[str, str]) -> bool:
    """Does this partition judge the vectors of that day which are made of these partitions?"""
    keys = [f"{step}/{day}" for step in LEARNED]
    return all(key in made_of and benchmark.inputs.get(key) == made_of[key] for key in keys)


def metrics(settings: Settings, partitions: list[Partition]) -> dict[str, Any]:
    """The figures among the headlines of these steps: they are published with the version."""
    found = {}
    for partition in partitions:
        declared = tracked(settings, partition.step).facts
        for name, value in headlines(declared, partition.facts).items():
            if not isinstance(value, str):  # texts, such as the space, are fields of the version
                found[name] = value
    return found


def producer_vectors(matrix: Path, align: Path) -> tuple[Vectors, np.ndarray]:
    """The producers sorted by id, and the order (m,) that sorted them.

    Their counts are the fitted consumers who engaged with each.
    """
    ids = np.load(matrix / "producers.npy")
    vectors = np.load(align / "producers.npy")
    counts = np.zeros(len(ids), np.int64)
    # A block has one entry per pair of consumer and producer.
    for block in load_blocks(matrix / "fitted"):
        counts += np.bincount(block.indices, minlength=len(ids))
    order = np.argsort(ids)
    folded = np.zeros(len(ids), dtype=bool)
    return Vectors(ids[order], vectors[order], counts[order].astype(np.int32), folded), order
