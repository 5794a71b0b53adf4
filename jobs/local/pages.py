"""Addresses of pages for links that people follow in a browser."""

from __future__ import annotations

from jobs.lake.store import Partition
from jobs.pipeline.published import published_version
from jobs.pipeline.tracking.runs import VIEW
from jobs.settings import Settings

# step -> the fact that names the version of the embedding that the step's task links to
VERSION_FACTS = {
    "publish": "version",
    "consistency": "version",
    "promote": "embedding",
    "words_publish": "version",
}


def registry_page(settings: Settings) -> str:
    """The registry's first page."""
    return settings.services.public_address(settings.services.registry_port)


def mlflow_page(settings: Settings) -> str:
    """The page of all experiments; empty where MLflow is off, or a database without a server.

    It may have the login that `mlflow.uri` names.
    """
    own = settings.services.public_address(settings.services.mlflow_port)
    server = settings.mlflow.uri or own
    return f"{server.rstrip('/')}/#/experiments{VIEW}" if server.startswith("http") else ""


def version_page(settings: Settings, partition: Partition) -> str:
    """The page of the version that a step has published, read or promoted; empty for none.

    Raises NotCommitted where the registry no longer has it.
    """
    content_id = partition.facts.get(VERSION_FACTS.get(partition.step, ""), "")
    if not content_id:
        return ""
    version = published_version(settings, content_id)
    return f"{registry_page(settings)}/embeddings/{version.id}"
