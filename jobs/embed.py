"""embed: the matrix -> vectors of consumers and producers by truncated SVD, in coordinates of its own."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embeddings.csr import load_blocks, stack
from embeddings.normalize import normalize
from embeddings.svd import factorize
from jobs.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("matrix", day)]


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Factorise the day's matrix. Writes consumers, producers, fold_in, singular_values.npy, rows as in the matrix."""
    matrix = settings.lake.get("matrix", day)
    n_producers = len(np.load(matrix.path / "producers.npy", mmap_mode="r"))
    x = normalize(stack(load_blocks(matrix.path / "fitted"), n_producers))
    factors = factorize(x, settings.embedding.dim, settings.embedding.seed)
    with settings.lake.writing("embed", day, settings=settings.digest(*SETTINGS), inputs=[matrix]) as staging:
        for name in ("consumers", "producers", "fold_in", "singular_values"):
            np.save(staging.path / f"{name}.npy", getattr(factors, name), allow_pickle=False)
        energy = float(np.sum(factors.singular_values**2) / x.multiply(x).sum())
        staging.facts |= {
            "dim": settings.embedding.dim,
            "largest_singular_value": float(factors.singular_values[0]),
            "smallest_singular_value": float(factors.singular_values[-1]),
            "energy_share": energy,
        }
    plot_spectrum(
        factors.singular_values,
        settings.report("embed", day) / "singular_values.png",
        f"{day}: {energy:.1%} of the energy",
    )


def plot_spectrum(sigma: np.ndarray, path: Path, title: str) -> None:
    """How fast the strength of the directions falls."""
    from jobs.plots import figure

    with figure(path, title) as axes:
        axes.plot(np.arange(1, len(sigma) + 1), sigma, marker=".")
        axes.set(xlabel="direction", ylabel="singular value of x̂", ylim=(0, None))
