"""words_publish: the week's vectors as one version of the embedding of words.

Its entity is `word`. A text is folded in: the mean of the vectors of its words.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings.facts import Fact
from embeddings.fold_in.mean import MeanFoldIn
from embeddings.registry.client import IndexRule, Registry, Vectors, Version
from jobs.lake.store import Partition
from jobs.pipeline.plan import inputs, writing
from jobs.pipeline.provenance import airflow_run, code_commit
from jobs.pipeline.published import content_id
from jobs.pipeline.tracking.runs import active_run_id
from jobs.settings import Settings, days_between
from jobs.steps.benchmark import results_in
from jobs.steps.words_benchmark import LEARNED
from jobs.words.weeks import DAY, WEEK, words_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "words")
FORMAT = 1
SPARK = False
ENTITY = "word"
FACTS = (
    Fact("version", "the published version, name/day@digest", headline=True),
    Fact("space", "coordinate system of the vectors", headline=True),
    Fact("digest", "digest of the version's content"),
)


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [(LEARNED, day), ("words_align", day), ("words_benchmark", day)]


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Publish the aligned input vectors, and what this week says of the week before."""
    read = inputs(settings, "words_publish", day)
    train, align, benchmark = read
    vectors = np.load(align.path / "inputs.npy")
    ids = np.load(train.path / "words.npy")
    counts = np.load(train.path / "counts.npy").astype(np.int32)
    words = Vectors(ids, vectors, counts, np.zeros(len(ids), bool))
    model = MeanFoldIn(vectors, np.load(train.path / "keep.npy"))
    with writing(settings, "words_publish", day) as staging:
        with staging.fenced():
            registry = settings.open_registry()
            version = registry.publish(
                words_of(settings).name,
                day,
                align.facts["space"],
                {ENTITY: words},
                model,
                lineage_of(settings, read, day),
                results_in(benchmark, day),
                by="words_publish",
                index=IndexRule(settings.registry.index_above, settings.registry.min_recall),
            )
            add_later_results(settings, registry, version, train, benchmark)
        staging.facts |= {
            "version": content_id(version),
            "space": version.space,
            "digest": version.digest,
        }


def lineage_of(settings: Settings, read: list[Partition], day: date) -> dict[str, Any]:
    """Where a version comes from. read: the partitions that it is made of."""
    return {
        "days": [str(each) for each in days_between(day - WEEK + DAY, day)],
        "settings": settings.digest(*SETTINGS),
        "commit": code_commit(),
        "mlflow_run": active_run_id(),
        "airflow_run": airflow_run(),
        "inputs": {partition.key: partition.digest for partition in read},
        "method": "skip-gram",
        "metrics": {"loss": read[0].facts["loss"]},
    }


def add_later_results(
    settings: Settings, registry: Registry, version: Version, train: Partition, mine: Partition
) -> None:
    """Add to this version what the next week says, and to the last one what this week says.

    Weeks may be computed in any order. train, mine: the vectors of this version, and its benchmark.
    """
    later = settings.lake.find("words_benchmark", version.day + WEEK)
    if later and later.inputs.get(train.key) == train.digest:
        registry.add_results(version, results_in(later, version.day))
    judged = f"{LEARNED}/{version.day - WEEK}"
    for earlier in registry.versions(version.name):
        made_of = earlier.lineage.get("inputs", {})
        same = judged in mine.inputs and made_of.get(judged) == mine.inputs[judged]
        if earlier.day == version.day - WEEK and same:
            registry.add_results(earlier, results_in(mine, earlier.day))
