"""embed: the matrix -> vectors of consumers and producers, by one barrier job.

The vectors are in coordinates of their own; `align` rotates them into the space.

producers.npy                 (m, k) float32, rows as in the matrix
consumers/block-00000.npy     (n, k) float32 of each fitted block, written by the task that read it
fold_in/...                   embeds further consumers: `embeddings.fold_in.base`
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings.blocks import MatrixShare
from embeddings.embedders.base import Curve, Fitted, embedder, reads_features
from embeddings.facts import Fact
from embeddings.fold_in.base import save_fold_in
from embeddings.kernels.communicator import Communicator
from jobs.features.entity_features import consumer_features, producer_features
from jobs.lake.store import Partition
from jobs.pipeline.plan import inputs, writing
from jobs.plots import figure
from jobs.settings import EmbeddingSettings, Settings
from jobs.spark.barrier import Progress, Work, run_barrier

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")
FORMAT = 2
SPARK = True
FACTS = (
    Fact("method", "the embedder that fitted the vectors"),
    Fact("dim", "length of one vector", "dimensions"),
)


def chosen_facts(settings: Settings) -> tuple[Fact, ...]:
    """The facts of the embedder that the settings name."""
    return embedder(settings.embedding.method).FACTS


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("matrix", day), *needs_of_features(settings, day)]


def needs_of_features(settings: Settings, day: date) -> list[tuple[str, date]]:
    """The day's profiles and items, for an embedder that reads features; nothing for others."""
    return [("validate", day)] if reads_features(embedder(settings.embedding.method)) else []


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Fit the day's matrix by `embedding.method`."""
    cfg = settings.embedding
    read = {partition.step: partition for partition in inputs(settings, "embed", day)}
    with writing(settings, "embed", day) as staging:
        (staging.path / "consumers").mkdir()
        work = member(read["matrix"].path, staging.path, cfg, read.get("validate"))
        result = run_barrier(spark, settings, work)[0]  # facts and curves are equal on all workers
        staging.facts |= {"method": cfg.method, "dim": cfg.dim, **result["facts"]}
    report = settings.report("embed", day)
    for fields in result["curves"]:
        curve = Curve(**fields)
        title = f"{day}: {cfg.method.upper()}, k = {cfg.dim}, {curve.title}"
        draw(curve, title, report / f"{curve.name}.png")


def member(
    matrix: Path, home: Path, cfg: EmbeddingSettings, features: Partition | None = None
) -> Work:
    """The work of one task: fit together with the others, and write the vectors of its own blocks.

    matrix: folder of the partition. home: folder to write to. features: the clean tables, for an
    embedder that reads them. The result of each task holds the facts and curves of the fit.
    """

    def work(comm: Communicator, progress: Progress) -> dict[str, Any]:
        share = MatrixShare(matrix, comm)
        if features is not None:
            share.consumer_features = consumer_features(features, share.consumer_ids())
            share.producer_features = producer_features(features, share.producer_ids)
        solver = embedder(cfg.method)
        fitted = solver.fit(share, cfg.dim, cfg.seed, cfg.options, progress)
        save_vectors(home, share, fitted)
        return {"facts": fitted.facts, "curves": [asdict(curve) for curve in fitted.curves]}

    return work


def save_vectors(home: Path, share: MatrixShare, fitted: Fitted) -> None:
    """Write this worker's consumers; the first also writes producers, the last the fold-in."""
    start = 0
    # One file per block: the step `fold_in` runs one task per block.
    for name, size in share.block_sizes.items():
        vectors = fitted.consumers[start : start + size]
        np.save(home / "consumers" / f"{name}.npy", vectors, allow_pickle=False)
        start += size
    comm = share.comm
    if comm.rank == 0:
        np.save(home / "producers.npy", fitted.producers, allow_pickle=False)
    # Another worker, because a fold-in is about as large as the producers.
    if comm.rank == comm.size - 1:
        save_fold_in(home / "fold_in", fitted.fold_in)


def draw(curve: Curve, title: str, path: Path) -> None:
    """A curve of the fit as a picture."""
    with figure(path, title) as axes:
        axes.plot(curve.x, curve.y, marker=".")
        axes.set(xlabel=curve.xlabel, ylabel=curve.ylabel)
        if curve.log_scale:
            axes.set_yscale("log")
        if curve.from_zero:
            axes.set_ylim(bottom=0)
        if curve.target is not None:
            axes.axhline(curve.target, color="grey", linestyle="--", linewidth=1, label="target")
            axes.legend()
