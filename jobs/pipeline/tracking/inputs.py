"""What a partition was computed from, as the data sets that MLflow lists with a run."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.lake.store import Lake, Partition

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

MOST_SOURCES = 50  # a log may have thousands of files; the manifest lists them all
# Characters: MLflow's limits. Its limit of a source, 65535, is more than any path has.
LONGEST_NAME = 500
LONGEST_DIGEST = 36


def data_sets(lake: Lake, log: Path, partition: Partition) -> list[DatasetInput]:
    """The input partitions, and the first files of the log that were read.

    log: the file or folder that the settings name.
    """
    found = []
    for key, digest in sorted(partition.inputs.items()):
        found.append(_data_set(key, digest, _address(lake, key, digest), "partition"))
    folder = log if log.is_dir() else log.parent
    for file, digest in sorted(partition.sources.items())[:MOST_SOURCES]:
        found.append(_data_set(file, digest, str(folder / file), "log"))
    return found


def _data_set(name: str, digest: str, address: str, context: str) -> DatasetInput:
    """One data set of the kind that `mlflow.data.get_source` can open."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    data_set = Dataset(
        # The end of a long path says more than its beginning.
        name=name[-LONGEST_NAME:],
        digest=digest[:LONGEST_DIGEST],
        source_type="local",
        source=json.dumps({"uri": address}),
    )
    return DatasetInput(data_set, [InputTag(MLFLOW_DATASET_CONTEXT, context)])


def _address(lake: Lake, key: str, digest: str) -> str:
    """The folder of an input partition; its name where it was replaced or deleted meanwhile."""
    step, _, day = key.rpartition("/")
    found = lake.find(step, date.fromisoformat(day))
    if found is None or found.digest != digest:
        return f"{key}@{digest}"
    return str(found.path)
