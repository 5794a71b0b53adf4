"""The ranker as MLflow serves it: features and vectors in, a probability a label out. MLflow runs this file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array

from models.features import Day, FeatureSpec
from models.store import load
from models.training import predict

ARTIFACT = "model"
VECTORS = (
    "consumer_vector",
    "producer_vector",
)  # published vectors of the model's space; zeros for somebody who has none
REQUIREMENTS = ("mlflow==3.17.2", "numpy", "pandas<3", "pyarrow", "safetensors", "torch==2.13.0")


class Ranker(PythonModel):
    """Loads the safetensors; `predict` takes the columns of `signature` and returns one column a label."""

    def load_context(self, context: Any) -> None:
        self.saved = load(Path(context.artifacts[ARTIFACT]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        spec = self.saved.model.spec
        scores = predict(
            self.saved.model, as_day(model_input, spec, self.saved.space), self.saved.space
        )
        return pd.DataFrame(scores, columns=list(spec.labels), index=model_input.index)


def as_day(table: pd.DataFrame, spec: FeatureSpec, space: str) -> Day:
    """Rows as they come, each with its own two vectors."""
    rows = np.arange(len(table))
    consumers, producers = (np.stack(table[name].to_numpy()).astype(np.float32) for name in VECTORS)
    return Day(
        name="request",
        space=space,
        categories=table[[c.name for c in spec.categorical]].to_numpy(np.int64),
        numbers=table[list(spec.numeric)].to_numpy(np.float32),
        labels=np.zeros((len(table), len(spec.labels)), dtype=np.float32),
        consumer_rows=rows,
        producer_rows=rows,
        consumer_vectors=consumers,
        producer_vectors=producers,
    )


def signature(home: Path) -> ModelSignature:
    """The columns of a saved model: bucket numbers, numbers, two vectors -> probabilities."""
    spec = load(home).model.spec
    inputs: list[ColSpec | TensorSpec] = [ColSpec(DataType.long, c.name) for c in spec.categorical]
    inputs += [ColSpec(DataType.double, name) for name in spec.numeric]
    inputs += [ColSpec(Array(DataType.double), name) for name in VECTORS]
    outputs: list[ColSpec | TensorSpec] = [ColSpec(DataType.float, label) for label in spec.labels]
    return ModelSignature(Schema(inputs), Schema(outputs))


def input_example(home: Path) -> pd.DataFrame:
    """One row of nobody known: every category in bucket 0, every number 0, no vectors."""
    spec = load(home).model.spec
    row: dict[str, Any] = {c.name: np.int64(0) for c in spec.categorical}
    row |= dict.fromkeys(spec.numeric, 0.0)
    row |= {name: [0.0] * spec.vector_dim for name in VECTORS}
    return pd.DataFrame([row])


set_model(Ranker())
