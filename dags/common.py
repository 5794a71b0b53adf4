"""What the DAGs share. A task is one step of one day, as `evergreen step NAME --day D` runs it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta

from airflow.sdk import Asset, BaseOperatorLink, task

EMBEDDINGS = Asset("embeddings")  # partition D: the version of day D is in the registry
START = datetime(1970, 1, 1)  # any day of any log may be requested
# Of the log; jobs/local/environment.py sets them from the settings.
TIMEZONE = os.environ.get("EVERGREEN_TIMEZONE", "UTC")
LATENESS_H = float(os.environ.get("EVERGREEN_LATENESS", "0"))
FURTHER = [name for name in os.environ.get("EVERGREEN_FURTHER_NAMES", "").split(",") if name]
BY_HAND = os.environ.get("EVERGREEN_PROMOTION") == "by hand"  # a person promotes rankers
LAST_DAY = os.environ.get("EVERGREEN_LAST_DAY")  # of a closed log; no later day is scheduled
WORKERS = 2  # trials of a study at once: each takes a core or two
BEGAN_WITH = "began_with"  # XCom of a run's first task: digest of the settings, commit of the code
# The scheduler may start a task before the API server listens: that attempt fails.
DEFAULTS = {"owner": "evergreen", "retries": 2, "retry_delay": timedelta(seconds=5)}

log = logging.getLogger(__name__)


class MLflowRun(BaseOperatorLink):
    """A link from an Airflow task to its MLflow run: settings, figures and plots."""

    name = "MLflow run"

    def get_link(self, operator, *, ti_key) -> str:
        # Airflow calls this once, when a task ends, with the task instance itself as `ti_key`.
        return ti_key.xcom_pull(task_ids=ti_key.task_id, key="mlflow") or ""


class RegistryVersion(BaseOperatorLink):
    """A link from an Airflow task to the version that it published, read or promoted."""

    name = "Registry version"

    def get_link(self, operator, *, ti_key) -> str:
        return ti_key.xcom_pull(task_ids=ti_key.task_id, key="registry") or ""


def step(name: str, *, spark: bool = False, links=(), embedding: str = "", **options):
    """The task of one step. With spark it takes a slot of the pool and receives a session.

    links: what its page links to besides its MLflow run. embedding: of a further embedding.
    """
    if spark:

        @task.pyspark(task_id=name, conn_id="spark", pool="spark", **options)
        def run(dag_run, ti, spark):
            return execute(name, dag_run, ti, spark, embedding)

    else:

        @task(task_id=name, **options)
        def run(dag_run, ti):
            return execute(name, dag_run, ti, None, embedding)

    ran = run()
    ran.operator.operator_extra_links = (MLflowRun(), *links)
    return ran


def execute(name: str, dag_run, ti, spark, embedding: str = "") -> dict[str, str]:
    """Run the step on the run's partition. Only what another attempt could fix is retried.

    spark: the task's session, None for a step without one. Returns the partition and its digest,
    and `changed` where the settings or the code are no longer those that the run began with.
    """
    # Imported here, because Airflow parses the DAG files all the time.
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

    from jobs.errors import BadInput, SettingsError, Skip, UntrustedDay

    try:
        return run_step(name, day_of(dag_run), ti, spark, embedding)
    except Skip as reason:
        raise AirflowSkipException(str(reason)) from None
    except (BadInput, SettingsError, UntrustedDay) as error:
        raise AirflowFailException(str(error)) from error


def day_of(dag_run) -> date:
    """The day of a run. Raises BadInput where its partition key is no day."""
    from jobs.errors import BadInput

    key = dag_run.partition_key
    try:
        return date.fromisoformat(key or "")
    except ValueError:
        given = f"the partition key '{key}'" if key else "no partition key"
        raise BadInput(
            f"This run has {given}. Trigger it with a day as its key, such as 2022-04-25."
        ) from None


def run_step(name: str, day: date, ti, spark, embedding: str) -> dict[str, str]:
    """The step itself; what is written for people can fail without changing its outcome."""
    from jobs import parts
    from jobs.local.environment import without_login
    from jobs.local.pages import version_page
    from jobs.pipeline import plan, running
    from jobs.pipeline.tracking.runs import Tracker
    from jobs.settings import load_settings
    from jobs.spark.session import spark_session
    from jobs.words.weeks import week_of

    settings = load_settings().of_embedding(embedding)
    if name in parts.WORD_STEPS:
        day = week_of(day)  # any day names its week
    result: dict[str, str] = {}
    with only_logged("whether the settings or the code have changed"):
        result |= changes_since(parts.part_of(name)[0], name, ti, settings)

    def make_spark():
        # A step without Spark may have to compute a missing input that needs it.
        return spark if spark is not None else spark_session(settings)

    try:
        done = running.request(settings, name, day, make_spark)
    finally:
        # Also after a failure: the run then holds the error and the reports.
        with only_logged("the address of the MLflow run"):
            address = Tracker(settings).address(plan.tracked(settings, name), day)
            # Airflow stores it, and shows it to everybody.
            ti.xcom_push("mlflow", without_login(address) if address else None)
    with only_logged("the address of the version's page"):
        if page := version_page(settings, done.partition):
            ti.xcom_push("registry", page)
    how = "reused" if done.reused else "computed"
    found = done.partition
    return {"partition": found.key, "digest": found.digest, "result": how, **result}


def look(dag_run) -> dict[str, str | list[str]]:
    """The task of the watch. It fails where the run's day should be complete and is not.

    It is tried again where the day may still become complete by itself.
    """
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    from jobs.errors import BadInput, SettingsError
    from jobs.local.watch import watch
    from jobs.settings import load_settings

    try:
        findings = watch(load_settings(), day_of(dag_run))
    except (BadInput, SettingsError) as error:
        raise AirflowFailException(str(error)) from error
    for line in findings.lines:
        log.info(line)
    if findings.alarm:
        raise (AirflowException if findings.on_its_way else AirflowFailException)(findings.alarm)
    return {"started": [str(day) for day in findings.trigger]}


def report_decay(params) -> list[str]:
    """The task of the decay report. Returns its sentences, and where the page is."""
    from airflow.sdk.exceptions import AirflowFailException

    from jobs.errors import BadInput, SettingsError
    from jobs.reports.decay.ages import TooFewDays
    from jobs.reports.decay.run import report_on
    from jobs.settings import load_settings

    first, last = (params[name] and date.fromisoformat(params[name]) for name in ("from", "to"))
    try:
        lines = report_on(load_settings(), first, last, params["seeds"])
    except (BadInput, SettingsError, TooFewDays) as error:
        raise AirflowFailException(str(error)) from error
    for line in lines:
        log.info(line)
    return lines


def tuning(kind: str) -> None:
    """The tasks of a study: its plan, one mapped task per trial, its result.

    A trial is repeated by Airflow's own retries. The result is of those that have a value.
    """

    @task(task_id="begin")
    def begin() -> list[dict]:
        return plan_study(kind)

    @task(task_id="trial", max_active_tis_per_dagrun=WORKERS)
    def trial(planned: dict) -> str:
        return run_trial(planned)

    @task(task_id="result", trigger_rule="all_done")
    def result(planned: list[dict]) -> list[str]:
        return end_study(planned)

    planned = begin()
    trial.expand(planned=planned) >> result(planned)


def plan_study(kind: str) -> list[dict]:
    """The arguments of every trial of a study: the plan, and the number of the trial."""
    from airflow.sdk.exceptions import AirflowFailException

    from jobs.errors import EvergreenError
    from jobs.settings import load_settings
    from jobs.tuning import run

    settings = load_settings()
    try:
        plan = run.begin(settings, kind)
    except EvergreenError as error:
        raise AirflowFailException(str(error)) from error
    log.info("The study is '%s'.", plan.name)
    return [plan.as_json() | {"slot": slot} for slot in range(settings.tuning.trials)]


def run_trial(planned: dict) -> str:
    """A trial, as `plan_study` describes it. Returns a line about it."""
    from jobs.settings import load_settings
    from jobs.tuning import run
    from jobs.tuning.study import Plan

    line = run.run_trial(load_settings(), Plan.from_json(planned), planned["slot"])
    log.info(line)
    return line


def end_study(planned: list[dict]) -> list[str]:
    """The result of a study, in lines."""
    from airflow.sdk.exceptions import AirflowFailException

    from jobs.errors import EvergreenError
    from jobs.settings import load_settings
    from jobs.tuning import run
    from jobs.tuning.study import Plan

    try:
        lines = run.lines(run.finish(load_settings(), Plan.from_json(planned[0])))
    except EvergreenError as error:
        raise AirflowFailException(str(error)) from error
    for line in lines:
        log.info(line)
    return lines


def verify_some() -> int:
    """The task of the watch that reads published files; it fails where some are damaged.

    Returns how many versions it has read.
    """
    from airflow.sdk.exceptions import AirflowFailException

    from jobs.errors import SettingsError
    from jobs.pipeline import verify
    from jobs.settings import load_settings

    try:
        verified, damaged = verify.verify_some(load_settings())
    except SettingsError as error:
        raise AirflowFailException(str(error)) from error
    if damaged:
        found = "; ".join(map(str, damaged))
        raise AirflowFailException(f"{found}. Run `evergreen verify --repair`.")
    log.info("The files of %d versions are as they were published.", verified)
    return verified


def question_of(dag_run) -> dict[str, str]:
    """The task that asks a person, where the gate has left the day's promotion to one."""
    from airflow.sdk.exceptions import AirflowSkipException

    from jobs.pipeline.approval import question
    from jobs.settings import load_settings

    asked = question(load_settings(), day_of(dag_run))
    if asked is None:
        raise AirflowSkipException("The gate has left no promotion to a person.")
    return asked.as_conf()


def promote_approved(conf: dict[str, str], answer: dict) -> str:
    """The task after a person's approval. answer: what the task of the approval has returned."""
    from airflow.sdk.exceptions import AirflowFailException

    from jobs.pipeline.approval import Refused, approved
    from jobs.settings import load_settings
    from jobs.spark.session import spark_session

    settings = load_settings()
    person = (answer.get("responded_by_user") or {}).get("name", "")
    try:
        return approved(settings, conf, person, lambda: spark_session(settings))
    except Refused as error:
        raise AirflowFailException(str(error)) from error


@contextmanager
def only_logged(what: str) -> Iterator[None]:
    """Log an exception of the block and go on: the step has an outcome of its own."""
    try:
        yield
    except Exception:
        log.warning("Could not read or store %s; the step goes on without.", what, exc_info=True)


def changes_since(first: str, name: str, ti, settings) -> dict[str, str]:
    """What has changed since the first task of this run, as `changed`, also logged; {} if nothing.

    The step runs nevertheless, with the current settings: what it needs is computed again where it
    is out of date.
    """
    from jobs.pipeline.provenance import code_commit

    sections = [field for field in type(settings).model_fields if field != "home"]
    current = {"settings": settings.digest(*sections), "code": code_commit()}
    if name == first:
        ti.xcom_push(BEGAN_WITH, current)
        return {}
    began = ti.xcom_pull(task_ids=first, key=BEGAN_WITH) or current  # the first may have no record
    changes = []
    for what, before in began.items():
        if current[what] != before:
            changes.append(f"the {what} changed from {before} to {current[what]}")
    if not changes:
        return {}
    changed = " and ".join(changes)
    log.warning("Since this run began, %s: its steps may have different settings or code.", changed)
    return {"changed": changed}
