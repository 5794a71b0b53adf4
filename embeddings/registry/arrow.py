"""Vectors and features as Arrow streams, as the service answers them and its client reads them.

A stream has one batch. Its metadata names the version, or versions, and the space. Any program
reads it with `pyarrow.ipc.open_stream(body).read_all()`.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from embeddings.registry.features import Feature, Features
from embeddings.registry.responses import Found, facts, source
from embeddings.registry.versions import Version

ARROW = "application/vnd.apache.arrow.stream"
MAX_BULK_IDS = 100_000  # in one request
# The metadata that describes a version as the catalog's routes do, so that a client that knows
# vectors need not ask for their version.
DESCRIPTION = "description"


def arrow_stream(found: Found) -> bytes:
    """The stream of these vectors."""
    columns = [
        pa.array(found.entities, pa.string()).dictionary_encode(),
        pa.array(found.ids, pa.string()),
        _lists(found.vectors),
        pa.array(found.counts),
        pa.array(found.folded),
    ]
    form = schema(found.version, found.vectors.shape[1], found.shortened_by)
    return _stream(pa.record_batch(columns, schema=form))


def schema(version: Version, dim: int, shortened_by: str = "") -> pa.Schema:
    """The columns, which mean what they mean in `schemas.VectorRecord`, and the metadata."""
    fields = [
        ("entity", pa.dictionary(pa.int32(), pa.string())),
        ("id", pa.string()),
        ("vector", pa.list_(pa.float32(), dim)),
        ("count", pa.int32()),
        ("folded", pa.bool_()),
    ]
    about = {**_metadata(version), "dim": str(dim), "shortened_by": shortened_by}
    return pa.schema(fields, metadata=about)


def read_stream(stream: bytes) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]:
    """The version's facts, the vectors (n, k), counts (n,) and folded (n,) of a stream, read-only.

    The facts are those of `responses.facts`.
    """
    batch = _batch(stream)
    described = json.loads(batch.schema.metadata[DESCRIPTION.encode()])
    vectors = _rows(batch["vector"])
    return described, vectors, batch["count"].to_numpy(), batch["folded"].to_numpy(False)


def features_stream(found: Features) -> bytes:
    """The stream of these features: a column of ids, and one per feature, null where it is not.

    The metadata of each column names its version and space; `dtype` is NumPy's type of its values.
    """
    fields = [pa.field("id", pa.string())]
    columns = [pa.array(found.ids, pa.string())]
    for name, feature in found.features.items():
        column = _column(feature)
        metadata = {**_metadata(feature.version), "dtype": feature.values.dtype.str}
        fields.append(pa.field(name, column.type, metadata=metadata))
        columns.append(column)
    form = pa.schema(fields, metadata={"entity": found.entity})
    return _stream(pa.record_batch(columns, schema=form))


def read_features(stream: bytes) -> dict[str, tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    """Of each feature the facts of its version, its values and its mask, as `Feature` has them."""
    batch = _batch(stream)
    found = {}
    for field, column in list(zip(batch.schema, batch.columns, strict=True))[1:]:
        described = json.loads(field.metadata[DESCRIPTION.encode()])
        dtype = np.dtype(field.metadata[b"dtype"].decode())
        mask = column.is_valid().to_numpy(False)
        found[field.name] = described, _values(column, dtype), mask
    return found


def _column(feature: Feature) -> pa.Array:
    """The values of a feature, null where the mask is False."""
    missing = ~feature.mask
    if feature.values.ndim == 2:
        return _lists(feature.values, missing)
    if feature.values.dtype.kind == "S":
        return pa.array(feature.values.tolist(), pa.binary(), mask=missing).cast(pa.string())
    return pa.array(feature.values, mask=missing)


def _values(column: pa.Array, dtype: np.dtype) -> np.ndarray:
    """The values of a column, NaN or empty where it is null."""
    if pa.types.is_fixed_size_list(column.type):
        return _rows(column)
    if dtype.kind == "S":
        texts = column.cast(pa.binary()).fill_null(b"").to_pylist()
        return np.array(texts, dtype)
    return column.fill_null(np.nan).to_numpy()


def _lists(rows: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    """A list per row, null where it is missing. rows: (n, k); missing: (n,) bool."""
    mask = None if missing is None else pa.array(missing)
    numbers = pa.array(rows.ravel())
    return pa.FixedSizeListArray.from_arrays(numbers, rows.shape[1], mask=mask)


def _rows(lists: pa.Array) -> np.ndarray:
    """The rows (n, k) of a column of lists; those of nulls are as they were written."""
    return lists.values.to_numpy().reshape(len(lists), lists.type.list_size)


def _metadata(version: Version) -> dict[str, str]:
    return {**source(version), DESCRIPTION: json.dumps(facts(version))}


def _stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _batch(stream: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(stream) as reader:
        return reader.read_next_batch()
