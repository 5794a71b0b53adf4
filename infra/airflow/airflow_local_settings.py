"""Imported by Airflow when it starts: makes the scheduler import what its tasks need.

The LocalExecutor forks its workers from the scheduler, and a worker forks each task: a module that
the scheduler has imported is already imported in every task, in shared memory. A fork copies only
the thread that calls it, so no module of this list may start a thread when it is imported;
tests/jobs/local/test_services.py checks that. See docs/decisions/0007.
"""

import os
from importlib import import_module

PRELOAD = (
    "airflow.sdk.execution_time.task_runner",
    "airflow.dag_processing.dagbag",
    "airflow.providers.apache.spark.decorators.pyspark",
    "airflow.providers.standard.decorators.python",
    "pyspark.sql.connect.session",
    "pyspark.sql.connect.functions",
    "pandas",
    "scipy.sparse.linalg",
    "sklearn.linear_model",
    "matplotlib.figure",
    "mlflow",
    "great_expectations",
    "torch._dynamo",  # every optimizer imports it when it is made
    "numba",
    "jobs.pipeline.plan",
    "jobs.spark.log_files",
    "models.rankers.masknet",
)

if os.environ.get("EVERGREEN_PRELOAD"):
    for name in PRELOAD:
        import_module(name)

__all__: list[str] = []  # this module changes no setting of Airflow
