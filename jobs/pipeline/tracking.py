"""What happened, in MLflow: one parent run a DAG and day, one nested run a step, continued by every retry.

Nothing here decides anything: with `mlflow.uri = "off"` the loop computes the same partitions and tells nobody.
MLflow takes a second to import, so it is imported where it is used.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from jobs.errors import Skip
from jobs.lake.store import Partition
from jobs.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models.model import ModelInfo
    from mlflow.tracking import MlflowClient

OFF = "off"
EMBEDDINGS, RANKER = "embeddings", "ranker"  # the experiments, and the parts of a day
TAG = "evergreen."
VIEW = "?workflowType=machine_learning"  # MLflow's pages of training runs; without it they show the traces of a chat
LONGEST_TAG, LONGEST_PARAM = 5000, 6000  # what MLflow's database holds
HEADLINE = re.compile(
    r"version|space|rows_(impressions|engagements)|bad_(impressions|engagements)|consumers_.*|producers|pairs|energy_share"
    r"|loss|(cosine|residual)_to_.*|overlap10_with_.*|champion_after|promoted|difference.*|(champion|challenger)_auc_.*"
)  # facts of a step that stand on the day's own run too


def enabled(settings: Settings) -> bool:
    return settings.mlflow.uri != OFF


def dag_of(step: str) -> str:
    """The part of the day that a step belongs to."""
    from jobs.pipeline.plan import EMBEDDING_STEPS

    return EMBEDDINGS if step in EMBEDDING_STEPS else RANKER


# Runs


@contextmanager
def run_of(settings: Settings, dag: str, day: date) -> Iterator[Run]:
    """The one parent run of a part ("embeddings" or "ranker") and day: found or made, and RUNNING while the block runs.

    It stays RUNNING until the last step of the part is done; a block that fails leaves it FAILED.
    """
    client = client_of(settings)
    run = find_or_create(
        client, experiment_id(settings, client, dag), f"{dag} {day}", {"dag": dag, "day": str(day)}
    )
    client.update_run(run.info.run_id, status="RUNNING")
    try:
        yield run
    except BaseException as error:
        client.set_terminated(run.info.run_id, status_after(error))
        raise


@contextmanager
def step_run(settings: Settings, step: str, day: date) -> Iterator[Callable[[Partition], None]]:
    """The nested run of a step and day, active while the block runs; the block calls what it gets with its partition.

    A retry with the same settings continues the same run. A failure leaves it FAILED with the message, the reports, and
    the facts of what had been committed (a refused day has some).
    """
    if not enabled(settings):
        yield lambda partition: None
        return
    import mlflow

    mlflow.set_tracking_uri(settings.mlflow_uri)
    client = client_of(settings)
    with run_of(settings, dag_of(step), day) as parent:
        run_id = step_run_id(settings, client, parent, step, day)
        mlflow.set_experiment(
            experiment_id=parent.info.experiment_id
        )  # one that the step before left active is refused
        mlflow.start_run(run_id=run_id, nested=True)
        try:
            yield lambda partition: record(settings, client, run_id, parent.info.run_id, partition)
        except BaseException as error:
            record_failure(settings, client, run_id, step, day, error)
            mlflow.end_run(status_after(error))
            raise
        record_reports(settings, client, run_id, step, day)
        mlflow.end_run("FINISHED")
        if is_last(step):
            client.set_terminated(parent.info.run_id, "FINISHED")


def address(settings: Settings, step: str, day: date) -> str | None:
    """Where a person sees the run of a step and day; None when nothing is tracked, or not by a server."""
    if not settings.mlflow_uri.startswith("http"):
        return None
    client = client_of(settings)
    experiment = experiment_id(settings, client, dag_of(step))
    runs = find(client, experiment, step_tags(settings, step, day))
    return run_address(settings, runs[0]) if runs else None


def run_address(settings: Settings, run: Run) -> str:
    return f"{settings.mlflow_uri.rstrip('/')}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{VIEW}"


def step_run_id(settings: Settings, client: MlflowClient, parent: Run, step: str, day: date) -> str:
    """The nested run, found or made, with the settings as parameters and the tags of this attempt."""
    from mlflow.entities import Param, RunTag
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    extra = {MLFLOW_PARENT_RUN_ID: parent.info.run_id}
    run = find_or_create(
        client, parent.info.experiment_id, f"{step} {day}", step_tags(settings, step, day), extra
    )
    tags = [
        RunTag(f"{TAG}dag", dag_of(step)),
        *(RunTag(TAG + k, v) for k, v in airflow_tags(settings).items()),
    ]
    params = [Param(name, value) for name, value in params_of(settings, step).items()]
    client.log_batch(run.info.run_id, params=params, tags=tags)
    for outcome in ("error", "skipped"):  # of an earlier attempt
        if f"{TAG}{outcome}" in run.data.tags:
            client.delete_tag(run.info.run_id, f"{TAG}{outcome}")
    return run.info.run_id


def step_tags(settings: Settings, step: str, day: date) -> dict[str, str]:
    """What makes two attempts the same run."""
    from jobs.pipeline.plan import module

    return {"step": step, "day": str(day), "settings": settings.digest(*module(step).SETTINGS)}


def is_last(step: str) -> bool:
    from jobs.pipeline.plan import EMBEDDING_STEPS, RANKER_STEPS

    return step in (EMBEDDING_STEPS[-1], RANKER_STEPS[-1])


def status_after(error: BaseException) -> str:
    if isinstance(error, Skip):
        return "FINISHED"
    return "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"


# Finding


def client_of(settings: Settings) -> MlflowClient:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.tracking import MlflowClient

    if settings.mlflow_uri.startswith("sqlite:///"):
        Path(settings.mlflow_uri.removeprefix("sqlite:///")).parent.mkdir(
            parents=True, exist_ok=True
        )
    return MlflowClient(settings.mlflow_uri)


def experiment_id(settings: Settings, client: MlflowClient, name: str) -> str:
    """The experiment of that name, made where it is missing. Without a server its artifacts lie below home."""
    from mlflow.exceptions import MlflowException

    if (found := client.get_experiment_by_name(name)) is None:
        served = settings.mlflow_uri.startswith("http")
        location = (
            None if served else (settings.home / "mlflow" / "artifacts" / name).resolve().as_uri()
        )
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException:  # somebody else was quicker
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return found.experiment_id


def find(client: MlflowClient, experiment: str, tags: dict[str, str]) -> list[Run]:
    """The runs that carry all these tags of ours, oldest first."""
    wanted = " and ".join(f"tags.`{TAG}{name}` = '{value}'" for name, value in tags.items())
    return list(
        client.search_runs(
            [experiment], wanted, order_by=["attributes.start_time ASC", "attributes.run_id ASC"]
        )
    )


def find_or_create(
    client: MlflowClient,
    experiment: str,
    name: str,
    tags: dict[str, str],
    extra: dict[str, str] | None = None,
) -> Run:
    """The oldest run with these tags, made where it is missing; of two made at once, the younger is deleted."""
    if "step" not in tags:
        tags = {**tags, "step": "all"}
    if found := find(client, experiment, tags):
        return found[0]
    from jobs.steps.publish import code_commit

    own = {TAG + k: v for k, v in tags.items()} | {f"{TAG}commit": code_commit()} | (extra or {})
    created = client.create_run(experiment, tags=own, run_name=name)
    oldest = find(client, experiment, tags)[0]
    if oldest.info.run_id != created.info.run_id:
        client.delete_run(created.info.run_id)
    return oldest


# What is recorded


def record(
    settings: Settings, client: MlflowClient, run_id: str, parent_id: str, partition: Partition
) -> None:
    """The partition's facts and digests, the headlines on the parent too, and what the step itself tracks."""
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

    from jobs.pipeline.plan import module

    log_facts(
        client,
        run_id,
        partition.facts,
        {"digest": partition.digest, "inputs": listed(partition.inputs)},
    )
    if why := partition.facts.get("why"):
        for told in (run_id, parent_id):
            client.set_tag(told, MLFLOW_RUN_NOTE, why)
    if headlines := {
        name: fact for name, fact in partition.facts.items() if HEADLINE.fullmatch(name)
    }:
        log_facts(client, parent_id, headlines)
    if track := getattr(module(partition.step), "track", None):
        track(settings, partition)


def record_failure(
    settings: Settings,
    client: MlflowClient,
    run_id: str,
    step: str,
    day: date,
    error: BaseException,
) -> None:
    """Why there is no result, and what there is nevertheless."""
    from jobs.pipeline.plan import current

    kind = "skipped" if isinstance(error, Skip) else "error"
    client.set_tag(run_id, TAG + kind, (str(error) or type(error).__name__)[:LONGEST_TAG])
    if not isinstance(error, Skip):
        if (verdict := current(settings, step, day)) is not None:
            log_facts(client, run_id, verdict.facts)
        record_reports(settings, client, run_id, step, day)


def record_reports(
    settings: Settings, client: MlflowClient, run_id: str, step: str, day: date
) -> None:
    """The files that a person reads, as artifacts."""
    folder = settings.report(step, day)
    if any(folder.iterdir()):
        client.log_artifacts(run_id, str(folder), "report")


def log_facts(
    client: MlflowClient, run_id: str, facts: dict[str, Any], tags: dict[str, str] | None = None
) -> None:
    """Numbers as metrics, texts as tags, in one request for each hundred of them."""
    from mlflow.entities import Metric, RunTag

    now = int(time.time() * 1000)
    numbers = {
        name: float(fact) for name, fact in facts.items() if isinstance(fact, bool | int | float)
    }
    texts = {name: str(fact) for name, fact in facts.items() if name not in numbers} | (tags or {})
    metrics = [Metric(metric_name(name), value, now, 0) for name, value in numbers.items()]
    run_tags = [RunTag(TAG + metric_name(name), text[:LONGEST_TAG]) for name, text in texts.items()]
    for start in range(0, max(len(metrics), len(run_tags)), 100):
        client.log_batch(
            run_id, metrics=metrics[start : start + 100], tags=run_tags[start : start + 100]
        )


def metric_name(name: str) -> str:
    """MLflow takes letters, digits, _ - . space and /; anything else becomes _."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)


def listed(inputs: dict[str, str]) -> str:
    return " ".join(f"{key}={digest}" for key, digest in sorted(inputs.items()))


def params_of(settings: Settings, step: str) -> dict[str, str]:
    """The options of the sections that shape the step, as section.option."""
    from jobs.pipeline.plan import module

    chosen = {
        section: getattr(settings, section).model_dump(mode="json")
        for section in module(step).SETTINGS
    }
    flat = {
        f"{section}.{name}": str(value)
        for section, options in chosen.items()
        for name, value in options.items()
    }
    return {name: value[:LONGEST_PARAM] for name, value in flat.items()}


def airflow_tags(settings: Settings) -> dict[str, str]:
    """The Airflow run that this process works for, and its address; nothing outside of Airflow."""
    context = {
        name: os.environ.get(f"AIRFLOW_CTX_{name.upper()}", "")
        for name in ("dag_id", "dag_run_id", "task_id", "try_number")
    }
    if not context["dag_run_id"]:
        return {}
    host = f"http://127.0.0.1:{settings.services.airflow_port}"
    page = (
        f"{host}/dags/{context['dag_id']}/runs/{context['dag_run_id']}/tasks/{context['task_id']}"
    )
    return {
        "airflow_run": context["dag_run_id"],
        "airflow_try": context["try_number"],
        "airflow_address": page,
    }


# Models


def register_model(settings: Settings, trained: Partition) -> ModelVersion:
    """The registered version of a trained model, logged first where it is missing; the same bytes are one version."""
    import mlflow

    client = client_of(settings)
    if (version := registered(settings, client, trained)) is None:
        mlflow.set_tracking_uri(settings.mlflow_uri)
        mlflow.set_experiment(
            experiment_id=experiment_id(settings, client, RANKER)
        )  # or it goes to MLflow's default
        info = log_model(settings, trained)
        version = mlflow.register_model(
            info.model_uri, settings.ranker.name, tags=model_tags(settings, client, trained)
        )
    return version


def registered(settings: Settings, client: MlflowClient, trained: Partition) -> ModelVersion | None:
    """The version made of this partition: the same day and the same bytes."""
    wanted = f"name = '{settings.ranker.name}' and tags.`{TAG}partition` = '{trained.key}@{trained.digest}'"
    return next(iter(client.search_model_versions(wanted)), None)


def model_tags(settings: Settings, client: MlflowClient, trained: Partition) -> dict[str, str]:
    """What a version is: bytes, day, space, the embedding whose vectors it saw last, and the day's parent run."""
    parents = find(
        client,
        experiment_id(settings, client, RANKER),
        {"dag": RANKER, "day": str(trained.day), "step": "all"},
    )
    tags = {
        "partition": f"{trained.key}@{trained.digest}",
        "day": str(trained.day),
        "space": trained.facts["space"],
        "embedding": trained.facts["embedding"],
        "parent_run": parents[0].info.run_id if parents else "",
    }
    return {TAG + name: text for name, text in tags.items()}


def log_model(settings: Settings, trained: Partition) -> ModelInfo:
    """Log the weights with the code that reads them: models from code, no pickle."""
    import mlflow

    from models.packaging import logging_arguments

    with TemporaryDirectory() as code_folder:
        return mlflow.pyfunc.log_model(
            name=settings.ranker.name,
            **logging_arguments(trained.path, Path(code_folder)),
        )


def set_alias(settings: Settings, alias: str, trained: Partition) -> None:
    """Point an alias at a model's version, unless it points at one of a newer day."""
    client, version = client_of(settings), register_model(settings, trained)
    day = alias_day(settings, client, alias)
    if day is None or day <= trained.day:
        client.set_registered_model_alias(settings.ranker.name, alias, version.version)


def alias_day(settings: Settings, client: MlflowClient, alias: str) -> date | None:
    """The day of the version that an alias points at; None where it is not set."""
    from mlflow.exceptions import MlflowException

    try:
        version = client.get_model_version_by_alias(settings.ranker.name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return date.fromisoformat(version.tags[f"{TAG}day"])
