"""fold in: a vector for every consumer left out of the fit, from the aligned fold-in matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from embeddings.csr import load_block
from embeddings.fold_in import fold_in
from jobs.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "validation", "matrix", "embedding")


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("matrix", day), ("align", day)]


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """One task a block of left-out consumers; each writes its own block-N/vectors.npy."""
    matrix, align = settings.lake.get("matrix", day), settings.lake.get("align", day)
    blocks = [(home.name,) for home in sorted((matrix.path / "rest").glob("block-*"))]
    with settings.lake.writing("fold_in", day, settings=settings.digest(*SETTINGS), inputs=[matrix, align]) as staging:
        counts = []
        if blocks:
            write = vector_writer(str(matrix.path), str(align.path), str(staging.path))
            names = spark.createDataFrame(blocks, "block string").repartition(len(blocks))
            counts = names.mapInArrow(write, "consumers long, zero long").collect()
        staging.facts |= {
            "consumers": sum(row.consumers for row in counts),
            "consumers_at_zero": sum(row.zero for row in counts),
        }


def vector_writer(matrix: str, align: str, home: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The task: names of blocks in, their vectors written below home, counts out."""

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        column_sums = np.load(Path(matrix) / "column_sums.npy")
        fold_in_matrix = np.load(Path(align) / "fold_in.npy", mmap_mode="r")
        for batch in batches:
            for name in batch["block"].to_pylist():
                block = load_block(Path(matrix) / "rest" / name)
                vectors = fold_in(block.matrix(len(column_sums)), column_sums, fold_in_matrix)
                (Path(home) / name).mkdir(exist_ok=True)
                np.save(Path(home) / name / "vectors.npy", vectors, allow_pickle=False)
                zero = int((~vectors.any(axis=1)).sum())
                yield pa.record_batch({"consumers": [len(vectors)], "zero": [zero]})

    return write
