"""The step `fold_in` on Spark, its partition committed, beside the plain way: mapInArrow to Parquet."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from rich.progress import track

from embeddings.embedders.blocks import Block, save_block
from embeddings.fold_in.svd import SVDFoldIn
from jobs.settings import Settings, load_settings
from jobs.spark.session import spark_session
from jobs.steps import fold_in
from jobs.steps.embed import load_fold_in, save_fold_in
from perf.report import Figure

DAY, ROUNDS, BLOCKS = date(2024, 1, 1), 5, 2
BAR = 2.0


def end_to_end(x: sp.csr_matrix, model: SVDFoldIn) -> Figure:
    """Users per second of wall time, on all cores, Spark's start and the first workers left out. x: (n, m) raw."""
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as home:
        settings = load_settings().model_copy(update={"home": Path(home)})
        spark = spark_session(settings)
        commit_inputs(settings, x, model)
        rows, target = Path(home) / "rows", Path(home) / "vectors"
        write_rows(rows, x)

        def ours() -> None:
            fold_in.run(spark, settings, DAY)

        def naive() -> None:
            saved = settings.lake.get("align", DAY).path / "fold_in"
            found = spark.read.parquet(str(rows)).mapInArrow(
                folder(str(saved)), "id binary, vector array<float>"
            )
            found.write.mode("overwrite").parquet(str(target))

        seconds(ours), seconds(naive)  # workers started, kernels compiled
        pairs = [(seconds(ours), seconds(naive)) for _ in track(range(ROUNDS), "fold_in on Spark")]
        check_same(settings, target)
        spark.stop()
    mine, theirs = (x.shape[0] / median(took) for took in zip(*pairs, strict=True))
    return Figure(
        "SVD on Spark, committed",
        mine,
        "users/s",
        "mapInArrow to Parquet",
        theirs,
        BAR,
        at_most=False,
        bar_on_ratio=True,
    )


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def ids(n: int) -> np.ndarray:
    return np.array([b"consumer%08d" % row for row in range(n)])


def commit_inputs(settings: Settings, x: sp.csr_matrix, model: SVDFoldIn) -> None:
    """The partitions that the step reads, everybody left out of the fit."""
    with settings.lake.writing("matrix", DAY, settings="") as staging:
        for number, rows in enumerate(np.array_split(np.arange(x.shape[0]), BLOCKS)):
            part = x[rows[0] : rows[-1] + 1]
            counts, indptr = np.diff(part.indptr).astype(np.int32), part.indptr.astype(np.int64)
            block = Block(
                ids(x.shape[0])[rows], counts, indptr, part.indices, part.data.astype(np.float64)
            )
            save_block(staging.path / "rest" / f"block-{number:05d}", block)
    with settings.lake.writing("embed", DAY, settings=""):
        pass
    with settings.lake.writing("align", DAY, settings="") as staging:
        np.save(staging.path / "rotation.npy", np.eye(model.matrix.shape[1]))
        save_fold_in(staging.path / "fold_in", model)


def write_rows(home: Path, x: sp.csr_matrix) -> None:
    """The same histories as a table: id, producer rows, strengths."""
    home.mkdir()
    every = ids(x.shape[0])
    for number, rows in enumerate(np.array_split(np.arange(x.shape[0]), BLOCKS)):
        part = x[rows[0] : rows[-1] + 1]
        offsets = pa.array(part.indptr, pa.int32())
        columns = [
            pa.ListArray.from_arrays(offsets, pa.array(values))
            for values in (part.indices, part.data)
        ]
        table = pa.table(
            {"id": pa.array(every[rows].tolist()), "producers": columns[0], "strengths": columns[1]}
        )
        pq.write_table(table, home / f"part-{number:05d}.parquet")


def folder(saved: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The plain task: histories in, ids and vectors out, for Spark to carry and to write."""

    def fold(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = load_fold_in(Path(saved))
        for batch in batches:
            producers, strengths = batch["producers"], batch["strengths"]
            indptr = producers.offsets.to_numpy() - producers.offsets[0].as_py()
            values = (strengths.flatten().to_numpy(), producers.flatten().to_numpy(), indptr)
            vectors = model.fold(sp.csr_matrix(values, shape=(len(batch), model.n_producers)))
            offsets = np.arange(0, vectors.size + 1, vectors.shape[1], dtype=np.int32)
            yield pa.record_batch(
                [batch["id"], pa.ListArray.from_arrays(offsets, vectors.ravel())], ["id", "vector"]
            )

    return fold


def check_same(settings: Settings, target: Path) -> None:
    """Both ways found the same vectors."""
    from embeddings.registry.shards import open_shards

    mine = open_shards(settings.lake.get("fold_in", DAY).path / "consumer")
    theirs = pq.read_table(target)
    vectors = theirs["vector"].combine_chunks().values.to_numpy().reshape(theirs.num_rows, -1)
    rows = mine.rows(np.array(theirs["id"].to_pylist()))
    np.testing.assert_allclose(mine.vectors[rows], vectors, atol=1e-6)
