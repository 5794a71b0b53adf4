"""A Python process that can import nothing of ours, for models that bring their own code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

SCORE = """
import json, sys
# -I ignores PYTHONPATH and the working directory; this removes the editable install.
def editable(finder):
    return "editable" in getattr(finder, "__module__", "")
sys.meta_path = [finder for finder in sys.meta_path if not editable(finder)]
for name in ("models", "embeddings", "jobs"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} can be imported without the logged model: the test proves nothing")

import mlflow, pandas
loaded = mlflow.pyfunc.load_model(sys.argv[1])
table = pandas.read_parquet(sys.argv[2])
scores = loaded.predict(table).to_numpy().tolist()
ours = {name: module.__file__ for name, module in sys.modules.items()
        if name.split(".")[0] in ("models", "embeddings", "jobs")}
print(json.dumps([scores, ours]))
"""


def score(model: Path, table: pd.DataFrame, folder: Path) -> tuple[np.ndarray, dict[str, Path]]:
    """The scores of a logged model, and module name -> file of every module of ours it imported.

    model: folder of the MLflow model. folder: for the table, and the process's working directory.
    """
    table.to_parquet(folder / "table.parquet")
    command = [sys.executable, "-I", "-c", SCORE, str(model), str(folder / "table.parquet")]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert finished.returncode == 0, finished.stderr
    scores, modules = json.loads(finished.stdout.splitlines()[-1])
    files = {name: Path(file) for name, file in modules.items()}
    return np.array(scores, dtype=np.float32), files
