"""The ranker as MLflow serves it: features and vectors in, one probability per label out.

The probabilities are calibrated as everywhere else once the ranker has met a day that it had not
seen: `calibration.json` is then added to the logged model. A server that runs already reads it when
it loads the model again.

MLflow runs this file by itself ("models from code"), so it cannot have relative imports.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array

from models.calibration import FILE, UNCALIBRATED, Calibration
from models.features import Day, FeatureSpec
from models.store import describe, load
from models.training import predict

ARTIFACT = "model"
# Published vectors of the model's space; zeros for an id that has none. For the champion it
# is the version that the alias `champion` names, also after a new space has opened.
CONSUMER_VECTOR, PRODUCER_VECTOR = "consumer_vector", "producer_vector"
VECTORS = (CONSUMER_VECTOR, PRODUCER_VECTOR)


class ServedRanker(PythonModel):
    """A saved ranker of any kind. `predict` reads the columns of `signature`."""

    def load_context(self, context: Any) -> None:
        home = Path(context.artifacts[ARTIFACT])
        self.saved = load(home)
        self.calibration = UNCALIBRATED
        if (home / FILE).exists():
            self.calibration = Calibration.from_json((home / FILE).read_text())

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One column per label, one row per row of the input."""
        model = self.saved.model
        rows = as_day(model_input, model.spec, self.saved.space)
        scores = predict(model, rows, self.saved.space)
        if self.calibration.maps:
            scores = self.calibration(model.spec.labels, scores).astype(np.float32)
        return pd.DataFrame(scores, columns=list(model.spec.labels), index=model_input.index)


def as_day(table: pd.DataFrame, spec: FeatureSpec, space: str) -> Day:
    """The rows of a request, each with its own two vectors."""
    categories = [column.name for column in spec.categorical]
    rows = np.arange(len(table))
    return Day(
        name="request",
        space=space,
        categories=table[categories].to_numpy(np.int64),
        numbers=table[list(spec.numeric)].to_numpy(np.float32),
        # The outcomes of a request are not known yet; `predict` does not read them.
        labels=np.zeros((len(table), len(spec.labels)), dtype=np.float32),
        consumer_rows=rows,
        producer_rows=rows,
        consumer_vectors=vectors(table, CONSUMER_VECTOR),
        producer_vectors=vectors(table, PRODUCER_VECTOR),
    )


def vectors(table: pd.DataFrame, column: str) -> np.ndarray:
    """A column of lists as an array (n, V) float32."""
    return np.stack(table[column].to_numpy()).astype(np.float32)


def signature(home: Path) -> ModelSignature:
    """The columns of a saved model: bucket numbers, numbers, two vectors -> probabilities."""
    spec = describe(home).spec
    inputs: list[ColSpec | TensorSpec] = []
    for column in spec.categorical:
        inputs.append(ColSpec(DataType.long, column.name))
    for name in spec.numeric:
        inputs.append(ColSpec(DataType.double, name))
    for name in VECTORS:
        inputs.append(ColSpec(Array(DataType.double), name))
    outputs: list[ColSpec | TensorSpec] = []
    for label in spec.labels:
        outputs.append(ColSpec(DataType.float, label))
    return ModelSignature(Schema(inputs), Schema(outputs))


def input_example(home: Path) -> pd.DataFrame:
    """One row of unknown ids: every category in bucket 0, every number 0, no vectors."""
    spec = describe(home).spec
    row: dict[str, Any] = {column.name: np.int64(0) for column in spec.categorical}
    row |= dict.fromkeys(spec.numeric, 0.0)
    for name in VECTORS:
        row[name] = [0.0] * spec.vector_dim
    return pd.DataFrame([row])


set_model(ServedRanker())
