"""What the DAGs share: a task is one step of one day, called as `evergreen step NAME --day D` calls it."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.sdk import Asset, BaseOperatorLink, task

EMBEDDINGS = Asset("embeddings")  # partition D: the version of day D is in the registry
START = datetime(1970, 1, 1)  # any day of any log may be asked for
LAST_DAY = os.environ.get(
    "EVERGREEN_LAST_DAY"
)  # a log that is closed has one; after it nothing runs by itself
DEFAULTS = {"retries": 2, "retry_delay": timedelta(seconds=5)}


class MLflowRun(BaseOperatorLink):
    """Leads from an Airflow task to the MLflow run that holds its settings, figures and plots."""

    name = "MLflow run"

    def get_link(self, operator, *, ti_key) -> str:
        return ti_key.xcom_pull(task_ids=ti_key.task_id, key="mlflow") or ""


def step(name: str, *, spark: bool = False, **options):
    """The task of one step; with spark, it takes a slot of the pool and is handed a session."""
    if spark:

        @task.pyspark(task_id=name, conn_id="spark", pool="spark", **options)
        def run(dag_run, ti, spark):
            return execute(name, dag_run, ti, lambda: spark)

    else:

        @task(task_id=name, **options)
        def run(dag_run, ti):
            return execute(name, dag_run, ti, None)

    ran = run()
    ran.operator.operator_extra_links = (MLflowRun(),)
    return ran


def execute(name: str, dag_run, ti, spark) -> dict[str, str]:
    """Run the step on the run's partition. Only what another try could mend is tried again."""
    from datetime import date

    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    from jobs.errors import BadInput, SettingsError, Skip, UntrustedDay
    from jobs.pipeline import plan as steps
    from jobs.pipeline import tracking
    from jobs.settings import load_settings
    from jobs.spark.session import LazySession

    if dag_run.partition_key is None:
        raise AirflowFailException(
            "This run has no day. Give it one: trigger it with a partition key such as 2022-04-25."
        )
    day, settings = date.fromisoformat(dag_run.partition_key), load_settings()
    try:
        partition = steps.execute(settings, name, day, spark or (lambda: LazySession(settings)))
    except Skip as reason:
        raise AirflowSkipException(str(reason)) from None
    except (BadInput, SettingsError, UntrustedDay) as error:
        raise AirflowFailException(str(error)) from error
    finally:
        ti.xcom_push("mlflow", tracking.address(settings, name, day))
    return {"partition": partition.key, "digest": partition.digest}
