"""publish: everything of the day as one version of the embedding in the registry."""

from __future__ import annotations

import subprocess
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embeddings.csr import load_blocks, stack
from embeddings.registry.client import FoldIn, Registry, Vectors
from jobs.align import space
from jobs.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("fold_in", day)]


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Publish ids, vectors, fold-in matrix, space and lineage. The same result again is the same version."""
    lake = settings.lake
    matrix, align, folded = lake.get("matrix", day), lake.get("align", day), lake.get("fold_in", day)
    producers, order = producer_vectors(matrix.path, align.path)
    version = open_registry(settings).publish(
        settings.embedding.name,
        day,
        space(settings),
        {"consumer": consumer_vectors(matrix.path, align.path, folded.path), "producer": producers},
        FoldIn(np.load(align.path / "fold_in.npy")[order], np.load(matrix.path / "column_sums.npy")[order]),
        lineage={
            "days": sorted(key.removeprefix("validate/") for key in matrix.inputs),
            "settings": settings.digest(*SETTINGS),
            "commit": code_commit(),
            "mlflow_run": active_mlflow_run(),
            "inputs": {p.key: p.digest for p in (matrix, align, folded)},
            "metrics": {
                name: fact
                for p in (lake.get("embed", day), align)
                for name, fact in p.facts.items()
                if name in ("energy_share", "cosine_to_anchor", "residual")
            },
        },
    )
    with lake.writing("publish", day, settings=settings.digest(*SETTINGS), inputs=[matrix, align, folded]) as staging:
        staging.facts |= {"version": version.id, "space": version.space, "digest": version.digest}


def open_registry(settings: Settings) -> Registry:
    return Registry(settings.registry_root, settings.registry_url)


def consumer_vectors(matrix: Path, align: Path, folded: Path) -> Vectors:
    """Fitted and folded consumers together, ids sorted."""
    fitted, rest = load_blocks(matrix / "fitted"), load_blocks(matrix / "rest")
    rest_vectors = [np.load(home / "vectors.npy") for home in sorted(folded.glob("block-*"))]
    ids = np.concatenate([b.ids for b in [*fitted, *rest]])
    order = np.argsort(ids)
    n_fitted = sum(len(b.ids) for b in fitted)
    return Vectors(
        ids=ids[order],
        vectors=np.concatenate([np.load(align / "consumers.npy"), *rest_vectors])[order],
        counts=np.concatenate([b.engagements for b in [*fitted, *rest]])[order],
        folded=(np.arange(len(ids)) >= n_fitted)[order],
    )


def producer_vectors(matrix: Path, align: Path) -> tuple[Vectors, np.ndarray]:
    """Producers with ids sorted, and the order that sorted them. counts: fitted consumers who engaged with each."""
    ids = np.load(matrix / "producers.npy")
    counts = np.diff(stack(load_blocks(matrix / "fitted"), len(ids)).tocsc().indptr).astype(np.int32)
    order = np.argsort(ids)
    vectors = np.load(align / "producers.npy")
    return Vectors(ids[order], vectors[order], counts[order], np.zeros(len(ids), dtype=bool)), order


@cache
def code_commit() -> str:
    """The commit of the running code, with + when the tree differs from it; 'unknown' outside a checkout."""
    root = Path(__file__).parent.parent

    def git(*args: str) -> str:
        return subprocess.run(["git", "-C", root, *args], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def active_mlflow_run() -> str:
    """The run that records this step, '' where there is none."""
    import mlflow

    run = mlflow.active_run()
    return run.info.run_id if run else ""
