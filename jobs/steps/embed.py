"""embed: the matrix -> vectors of consumers and producers, in coordinates of their own, by one barrier job.

producers.npy                 (m, k) float32, rows as in the matrix
consumers/block-00000.npy     (n, k) float32 of each fitted block, written by the task that holds the block
fold_in/...                   what makes vectors of other consumers: embeddings.fold_in
singular_values.npy           of the SVD
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from embeddings.embedders.als import ALSConfig, even_split, fit
from embeddings.embedders.blocks import load_block
from embeddings.embedders.svd import factors, leading
from embeddings.fold_in.als import ALSFoldIn
from embeddings.fold_in.base import FoldIn, restore
from embeddings.fold_in.svd import SVDFoldIn
from embeddings.kernels.communicator import Group
from embeddings.kernels.normalize import normalize, smoothed
from jobs.settings import EmbeddingSettings, Settings
from jobs.spark.barrier import Tell, Work, run_together

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")
Curve = list[list[float]]  # points of the convergence curve: work done, distance from the solution


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("matrix", day)]


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Factorise the day's matrix by `embedding.method`."""
    cfg, matrix = settings.embedding, settings.lake.get("matrix", day)
    member = {"svd": svd_member, "als": als_member}[cfg.method]
    with settings.lake.writing(
        "embed", day, settings=settings.digest(*SETTINGS), inputs=[matrix]
    ) as staging:
        (staging.path / "consumers").mkdir()
        answer = run_together(spark, settings, member(str(matrix.path), str(staging.path), cfg))[0]
        staging.facts |= {"method": cfg.method, "dim": cfg.dim, **answer["facts"]}
        sigma = np.load(staging.path / "singular_values.npy") if cfg.method == "svd" else None
    report = settings.report("embed", day)
    plot_convergence(
        answer["curve"],
        cfg,
        report / "convergence.png",
        f"{day}: {cfg.method.upper()}, k = {cfg.dim}",
    )
    if sigma is not None:
        energy = answer["facts"]["energy_share"]
        plot_spectrum(sigma, report / "singular_values.png", f"{day}: {energy:.1%} of the energy")


def svd_member(matrix: str, home: str, cfg: EmbeddingSettings) -> Work:
    """The task of one member of the group: its rows' part of the SVD, and their vectors."""

    def work(group: Group, tell: Tell) -> dict[str, Any]:
        column_sums = np.load(Path(matrix) / "column_sums.npy")
        blocks = own_blocks(Path(matrix), group, len(column_sums))
        rows = int(group.sum(np.array([sum(block.shape[0] for block in blocks.values())]))[0])
        raised, row_extra = smoothed(column_sums, rows, cfg.smoothing)
        x = stacked(
            [normalize(block, raised, row_extra, np.float32) for block in blocks.values()],
            len(raised),
        )
        curve: Curve = []

        def progress(columns: int, residuals: np.ndarray) -> None:
            curve.append([columns, float(residuals.max())])
            good = int(np.sum(residuals <= cfg.tolerance))
            tell(f"SVD: {columns} columns multiplied, {good} of {cfg.dim} directions good enough")

        sigma, v = leading(x, cfg.dim, group, cfg.seed, cfg.tolerance, progress)
        energy = float(group.sum(np.array([np.vdot(x.data, x.data)], np.float64))[0])
        found = factors(x, sigma, v)
        save_consumers(Path(home), blocks, found.consumers)
        if group.rank == 0:
            np.save(Path(home) / "producers.npy", found.producers)
            np.save(Path(home) / "singular_values.npy", sigma)
        if group.rank == group.size - 1:  # as much to write as the first has
            save_fold_in(Path(home) / "fold_in", SVDFoldIn(found.fold_in, raised, row_extra))
        facts = {
            "largest_singular_value": float(sigma[0]),
            "smallest_singular_value": float(sigma[-1]),
            "energy_share": float(np.sum(sigma**2)) / energy,
            "columns_multiplied": int(curve[-1][0]) if curve else len(column_sums),
        }
        return {"facts": facts, "curve": curve}

    return work


def als_member(matrix: str, home: str, cfg: EmbeddingSettings) -> Work:
    """The task of one member of the group: its consumers and its producers in every half step, and their vectors."""
    als = ALSConfig(dim=cfg.dim, seed=cfg.seed, **cfg.als.model_dump())

    def work(group: Group, tell: Tell) -> dict[str, Any]:
        m = len(np.load(Path(matrix) / "column_sums.npy", mmap_mode="r"))
        blocks = own_blocks(Path(matrix), group, m)
        by_consumer = stacked([block.astype(np.float32) for block in blocks.values()], m)
        curve: Curve = []

        def progress(iteration: int, loss: float) -> None:
            curve.append([iteration, loss])
            tell(f"ALS: {iteration} of {als.iterations} iterations, loss {loss:.6g}")

        found = fit(by_consumer, own_producers(Path(matrix), group, m), als, group, progress)
        save_consumers(Path(home), blocks, found.consumers)
        if group.rank == 0:
            np.save(Path(home) / "producers.npy", found.producers)
            save_fold_in(Path(home) / "fold_in", ALSFoldIn.of(found, als))
        return {
            "facts": {"loss": float(found.losses[-1]), "iterations": len(found.losses)},
            "curve": curve,
        }

    return work


# What a member holds


def own_blocks(matrix: Path, group: Group, m: int) -> dict[str, sp.csr_matrix]:
    """The fitted blocks of this member by name, strengths mapped; the members' blocks follow each other by rank."""
    names = sorted(home.name for home in (matrix / "fitted").glob("block-*"))
    own = np.array_split(np.array(names, dtype=object), group.size)[group.rank]
    return {name: load_block(matrix / "fitted" / name).matrix(m) for name in own}


def stacked(blocks: list[sp.csr_matrix], m: int) -> sp.csr_matrix:
    """One matrix of these rows; a single block is not copied."""
    if len(blocks) == 1:
        return blocks[0]
    return sp.vstack(blocks, format="csr") if blocks else sp.csr_matrix((0, m), dtype=np.float32)


def own_producers(matrix: Path, group: Group, m: int) -> sp.csr_matrix:
    """The transposed matrix of a contiguous range of producers, (own producers, all consumers): even in engagements.

    Every member reads all blocks once and keeps its columns.
    """
    homes = sorted((matrix / "fitted").glob("block-*"))
    counts = sum(
        (np.bincount(load_block(home).indices, minlength=m) for home in homes),
        np.zeros(m, np.int64),
    )
    mine = even_split(np.concatenate([[0], np.cumsum(counts)]), group.size)[group.rank]
    columns = [load_block(home).matrix(m).astype(np.float32)[:, mine].T.tocsr() for home in homes]
    return sp.hstack(columns, format="csr")


# What is written


def save_consumers(home: Path, blocks: dict[str, sp.csr_matrix], vectors: np.ndarray) -> None:
    """consumers/<block>.npy of this member's blocks. vectors: (n, k), block after block."""
    start = 0
    for name, block in blocks.items():
        np.save(
            home / "consumers" / f"{name}.npy",
            vectors[start : start + block.shape[0]],
            allow_pickle=False,
        )
        start += block.shape[0]


def save_fold_in(folder: Path, model: FoldIn) -> None:
    """<array>.npy of each of the model's arrays, and scalars.json."""
    folder.mkdir()
    for name, array in model.arrays().items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    (folder / "scalars.json").write_text(json.dumps(model.scalars(), sort_keys=True) + "\n")


def load_fold_in(folder: Path) -> FoldIn:
    """The model that `save_fold_in` wrote, its arrays mapped."""
    arrays = {
        file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in folder.glob("*.npy")
    }
    return restore(arrays, json.loads((folder / "scalars.json").read_text()))


# What a person looks at


def plot_convergence(curve: Curve, cfg: EmbeddingSettings, path: Path, title: str) -> None:
    """How the solver came near: the largest residual by columns multiplied, or the loss by iteration."""
    from jobs.plots import figure

    if not curve:
        return  # so small a matrix was solved at once
    done, distance = np.array(curve).T
    with figure(path, title) as axes:
        axes.plot(done, distance, marker=".")
        if cfg.method == "svd":
            axes.axhline(
                cfg.tolerance, color="grey", linestyle="--", linewidth=1, label="tolerance"
            )
            axes.set(
                xlabel="columns multiplied by XᵀX",
                ylabel="largest ‖XᵀXv − σ²v‖ / σ₁²",
                yscale="log",
            )
            axes.legend()
        else:
            axes.set(xlabel="iteration", ylabel="loss")


def plot_spectrum(sigma: np.ndarray, path: Path, title: str) -> None:
    """How fast the strength of the directions falls."""
    from jobs.plots import figure

    with figure(path, title) as axes:
        axes.plot(np.arange(1, len(sigma) + 1), sigma, marker=".")
        axes.set(xlabel="direction", ylabel="singular value of x̂", ylim=(0, None))
