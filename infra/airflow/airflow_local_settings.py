"""Airflow imports this file when it starts. In the scheduler it imports what tasks need, so that tasks need not.

The LocalExecutor forks its workers from the scheduler, and they fork each task: what is imported here once is there in
every task, shared and at no cost. A fork keeps only the thread that forks, so nothing in the list may start a thread
when imported: tests/jobs/local checks it.
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
    "matplotlib.figure",
    "mlflow",
    "great_expectations",
    "torch",
    "jobs.pipeline.plan",
)

if os.environ.get("EVERGREEN_PRELOAD"):
    for name in PRELOAD:
        import_module(name)

__all__: list[str] = []  # nothing of this file changes Airflow's own settings
