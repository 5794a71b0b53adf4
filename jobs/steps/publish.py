"""publish: everything of the day as one version of the embedding in the registry."""

from __future__ import annotations

import re
import subprocess
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embeddings.embedders.blocks import load_blocks
from embeddings.registry.client import Registry, Vectors
from jobs.settings import Settings
from jobs.steps.embed import load_fold_in
from jobs.steps.lookalike import GROUPS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("fold_in", day), ("lookalike", day)]


METRICS = re.compile(
    "energy_share|loss|(cosine_to|residual_to|overlap10_with|shared_with)_(anchor|previous)"
)


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Publish ids, vectors, fold-in, space and lineage. The same result again is the same version."""
    lake = settings.lake
    inputs = [lake.get(step, day) for step in ("matrix", "embed", "align", "fold_in", "lookalike")]
    matrix, embed, align, folded, lookalike = inputs
    producers, order = producer_vectors(matrix.path, align.path)
    entities: dict[str, Vectors | Path] = {
        "consumer": folded.path / "consumer",
        "producer": producers,
    }
    if lookalike.facts["groups"]:
        entities[GROUPS] = lookalike.path / GROUPS
    version = open_registry(settings).publish(
        settings.embedding.name,
        day,
        align.facts["space"],
        entities,
        load_fold_in(align.path / "fold_in").in_order(order),
        lineage={
            "days": sorted(key.removeprefix("validate/") for key in matrix.inputs),
            "settings": settings.digest(*SETTINGS),
            "commit": code_commit(),
            "mlflow_run": active_mlflow_run(),
            "inputs": {p.key: p.digest for p in inputs},
            "method": embed.facts["method"],
            "metrics": {
                n: fact
                for p in (embed, align)
                for n, fact in p.facts.items()
                if METRICS.fullmatch(n)
            },
        },
    )
    with lake.writing(
        "publish", day, settings=settings.digest(*SETTINGS), inputs=inputs
    ) as staging:
        staging.facts |= {"version": version.id, "space": version.space, "digest": version.digest}


def open_registry(settings: Settings) -> Registry:
    return Registry(settings.registry_root, settings.registry_url)


def producer_vectors(matrix: Path, align: Path) -> tuple[Vectors, np.ndarray]:
    """Producers with ids sorted, and the order that sorted them. counts: fitted consumers who engaged with each."""
    ids, vectors = np.load(matrix / "producers.npy"), np.load(align / "producers.npy")
    blocks = load_blocks(matrix / "fitted")
    counts = sum(
        (np.bincount(block.indices, minlength=len(ids)) for block in blocks),
        np.zeros(len(ids), np.int64),
    )
    order = np.argsort(ids)
    return Vectors(
        ids[order], vectors[order], counts[order].astype(np.int32), np.zeros(len(ids), dtype=bool)
    ), order


@cache
def code_commit() -> str:
    """The commit of the running code, with + when the tree differs from it; 'unknown' outside a checkout."""
    root = Path(__file__).parents[2]

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", root, *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "-uno") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def active_mlflow_run() -> str:
    """The run that records this step, '' where there is none."""
    import mlflow

    run = mlflow.active_run()
    return run.info.run_id if run else ""
