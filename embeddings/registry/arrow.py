"""Vectors as an Arrow stream, as the service answers them and its client reads them.

The stream has one batch with the columns of `schema`, whose metadata names the version, the space
and the length of the vectors. Any program reads it with `pyarrow.ipc.open_stream(body).read_all()`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from embeddings.registry.responses import Found, source
from embeddings.registry.versions import Version

ARROW = "application/vnd.apache.arrow.stream"
MAX_BULK_IDS = 100_000  # in one request


def arrow_stream(found: Found) -> bytes:
    """The stream of these vectors."""
    columns = [
        pa.array(found.entities, pa.string()).dictionary_encode(),
        pa.array(found.ids, pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(found.vectors.ravel()), found.vectors.shape[1]),
        pa.array(found.counts),
        pa.array(found.folded),
    ]
    batch = pa.record_batch(columns, schema=schema(found.version))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue().to_pybytes()


def schema(version: Version) -> pa.Schema:
    """The columns, which mean what they mean in `schemas.VectorRecord`, and the metadata."""
    fields = [
        ("entity", pa.dictionary(pa.int32(), pa.string())),
        ("id", pa.string()),
        ("vector", pa.list_(pa.float32(), version.dim)),
        ("count", pa.int32()),
        ("folded", pa.bool_()),
    ]
    return pa.schema(fields, metadata={**source(version), "dim": str(version.dim)})


def read_stream(stream: bytes) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    """The version's id, the vectors (n, k), counts (n,) and folded (n,) of a stream, read-only."""
    with pa.ipc.open_stream(stream) as reader:
        batch = reader.read_next_batch()
    version = batch.schema.metadata[b"version"].decode()
    dim = batch.schema.field("vector").type.list_size
    vectors = batch["vector"].values.to_numpy().reshape(len(batch), dim)
    return version, vectors, batch["count"].to_numpy(), batch["folded"].to_numpy(False)
