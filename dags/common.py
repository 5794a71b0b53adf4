"""What the DAGs share. A task is one step of one day, as `evergreen step NAME --day D` runs it."""

from __future__ import annotations

import os
from datetime import date, datetime, timedelta

from airflow.sdk import Asset, BaseOperatorLink, task

EMBEDDINGS = Asset("embeddings")  # partition D: the version of day D is in the registry
START = datetime(1970, 1, 1)  # any day of any log may be requested
# Of the log; jobs/local/environment.py sets them from the settings.
TIMEZONE = os.environ.get("EVERGREEN_TIMEZONE", "UTC")
LATENESS_H = float(os.environ.get("EVERGREEN_LATENESS", "0"))
LAST_DAY = os.environ.get("EVERGREEN_LAST_DAY")  # of a closed log; no later day is scheduled
# The scheduler may start a task before the API server listens: that attempt fails.
DEFAULTS = {"retries": 2, "retry_delay": timedelta(seconds=5)}


class MLflowRun(BaseOperatorLink):
    """A link from an Airflow task to its MLflow run: settings, figures and plots."""

    name = "MLflow run"

    def get_link(self, operator, *, ti_key) -> str:
        # Airflow calls this once, when a task ends, with the task instance itself as `ti_key`.
        return ti_key.xcom_pull(task_ids=ti_key.task_id, key="mlflow") or ""


def step(name: str, *, spark: bool = False, **options):
    """The task of one step. With spark it takes a slot of the pool and receives a session."""
    if spark:

        @task.pyspark(task_id=name, conn_id="spark", pool="spark", **options)
        def run(dag_run, ti, spark):
            return execute(name, dag_run, ti, spark)

    else:

        @task(task_id=name, **options)
        def run(dag_run, ti):
            return execute(name, dag_run, ti, None)

    ran = run()
    ran.operator.operator_extra_links = (MLflowRun(),)
    return ran


def execute(name: str, dag_run, ti, spark) -> dict[str, str]:
    """Run the step on the run's partition. Only what another attempt could fix is retried.

    spark: the task's session, None for a step without one.
    """
    # Imported here, because Airflow parses the DAG files all the time.
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    from jobs.errors import BadInput, SettingsError, Skip, UntrustedDay
    from jobs.pipeline import plan
    from jobs.pipeline.tracking.runs import Tracker
    from jobs.settings import load_settings
    from jobs.spark.session import spark_session

    if dag_run.partition_key is None:
        raise AirflowFailException(
            "This run has no day. Trigger it with a partition key such as 2022-04-25."
        )
    day = date.fromisoformat(dag_run.partition_key)
    settings = load_settings()

    def make_spark():
        # A step without Spark may have to compute a missing input that needs it.
        return spark if spark is not None else spark_session(settings)

    try:
        partition = plan.execute(settings, name, day, make_spark)
    except Skip as reason:
        raise AirflowSkipException(str(reason)) from None
    except (BadInput, SettingsError, UntrustedDay) as error:
        raise AirflowFailException(str(error)) from error
    finally:
        # Also after a failure: the run then holds the error and the reports.
        address = Tracker(settings).address(plan.tracked(settings, name), day)
        ti.xcom_push("mlflow", address)
    return {"partition": partition.key, "digest": partition.digest}
