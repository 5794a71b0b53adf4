"""The step `fold_in` on Spark, until its partition is committed, against mapInArrow to Parquet."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from rich.progress import track

from embeddings.blocks import Block, save_block
from embeddings.fold_in.base import load_fold_in, save_fold_in
from embeddings.fold_in.svd import SVDFoldIn
from jobs.settings import Settings, load_settings
from jobs.spark.session import spark_session
from jobs.steps import fold_in
from perf.report import Figure
from perf.timing import seconds

DAY = date(2024, 1, 1)
ROUNDS = 5
N_BLOCKS = 2
MIN_RATIO = 2.0


def end_to_end(x: sp.csr_matrix, model: SVDFoldIn) -> Figure:
    """Users per second of wall time, on all cores, in a warm session. x: (n, m), not normalised."""
    with tempfile.TemporaryDirectory(prefix="evergreen-bench-") as folder:
        home = Path(folder)
        settings = load_settings().model_copy(update={"home": home})
        spark = spark_session(settings)
        commit_inputs(settings, x, model)
        write_histories(home / "rows", x)

        def ours() -> None:
            fold_in.run(spark, settings, DAY)

        def plain() -> None:
            saved = settings.lake.get("align", DAY).path / "fold_in"
            rows = spark.read.parquet(str(home / "rows"))
            vectors = rows.mapInArrow(folder_of(str(saved)), "id binary, vector array<float>")
            vectors.write.mode("overwrite").parquet(str(home / "vectors"))

        # Start the workers and compile before anything is timed.
        ours()
        plain()
        ours_s = []
        plain_s = []
        for _ in track(range(ROUNDS), "fold_in on Spark"):
            ours_s.append(seconds(ours))
            plain_s.append(seconds(plain))
        check_same(settings, home / "vectors")
        spark.stop()
    return Figure(
        "SVD on Spark, committed",
        x.shape[0] / median(ours_s),
        "users/s",
        peer="mapInArrow to Parquet",
        peer_value=x.shape[0] / median(plain_s),
        bar=MIN_RATIO,
        at_most=False,
        bar_on_ratio=True,
    )


def consumer_ids(n: int) -> np.ndarray:
    return np.array([b"consumer%08d" % row for row in range(n)])


def commit_inputs(settings: Settings, x: sp.csr_matrix, model: SVDFoldIn) -> None:
    """The partitions that the step reads, in which no consumer was fitted."""
    ids = consumer_ids(x.shape[0])
    with settings.lake.writing("matrix", DAY, settings="") as staging:
        for number, rows in enumerate(np.array_split(np.arange(x.shape[0]), N_BLOCKS)):
            part = x[rows[0] : rows[-1] + 1]
            block = Block(
                ids=ids[rows],
                engagements=np.diff(part.indptr).astype(np.int32),
                indptr=part.indptr.astype(np.int64),
                indices=part.indices,
                strengths=part.data.astype(np.float64),
            )
            save_block(staging.path / "rest" / f"block-{number:05d}", block)
    with settings.lake.writing("embed", DAY, settings=""):
        pass
    with settings.lake.writing("align", DAY, settings="") as staging:
        np.save(staging.path / "rotation.npy", np.eye(model.matrix.shape[1]))
        save_fold_in(staging.path / "fold_in", model)


def write_histories(home: Path, x: sp.csr_matrix) -> None:
    """The same histories as a table: id, producer rows, strengths."""
    home.mkdir()
    ids = consumer_ids(x.shape[0])
    for number, rows in enumerate(np.array_split(np.arange(x.shape[0]), N_BLOCKS)):
        part = x[rows[0] : rows[-1] + 1]
        offsets = pa.array(part.indptr, pa.int32())
        columns = {
            "id": pa.array(ids[rows].tolist()),
            "producers": pa.ListArray.from_arrays(offsets, pa.array(part.indices)),
            "strengths": pa.ListArray.from_arrays(offsets, pa.array(part.data)),
        }
        pq.write_table(pa.table(columns), home / f"part-{number:05d}.parquet")


def folder_of(saved: str) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The plain task: histories in, ids and vectors out, which Spark transports and writes."""

    def fold(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = load_fold_in(Path(saved))
        for batch in batches:
            producers = batch["producers"]
            strengths = batch["strengths"].flatten().to_numpy()
            indptr = producers.offsets.to_numpy() - producers.offsets[0].as_py()
            entries = (strengths, producers.flatten().to_numpy(), indptr)
            vectors = model.fold(sp.csr_matrix(entries, shape=(len(batch), model.n_producers)))
            offsets = np.arange(0, vectors.size + 1, vectors.shape[1], dtype=np.int32)
            lists = pa.ListArray.from_arrays(offsets, vectors.ravel())
            yield pa.record_batch([batch["id"], lists], ["id", "vector"])

    return fold


def check_same(settings: Settings, target: Path) -> None:
    """Raise AssertionError unless both ways wrote the same vectors."""
    from embeddings.registry.shards import open_shards

    ours = open_shards(settings.lake.get("fold_in", DAY).path / "consumer")
    plain = pq.read_table(target)
    vectors = plain["vector"].combine_chunks().values.to_numpy().reshape(plain.num_rows, -1)
    rows = ours.rows(np.array(plain["id"].to_pylist()))
    np.testing.assert_allclose(ours.vectors[rows], vectors, atol=1e-6)
