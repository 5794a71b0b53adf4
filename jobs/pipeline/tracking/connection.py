"""The connection to MLflow: its client, its patience, and the one error of all failing calls."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from embeddings.durable import locked
from jobs.errors import EvergreenError
from jobs.settings.addresses import libpq_address

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# MLflow's own defaults keep a step waiting for minutes before it learns that the server is down.
# These give up after about ten seconds; a value that the user has set is kept.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # seconds, of one request
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
CONNECT_S = 10
LONGEST_REASON = 400  # characters of MLflow's own message; some hold a whole page of HTML


class TrackingError(EvergreenError):
    """MLflow that does not answer or refuses a call; names its address and what was being done."""


def open_client(uri: str, home: Path) -> MlflowClient:
    """A client of the server or database at this address. The tables of a database are created.

    home: where our server keeps artifacts, if the database is not a file beside them. Raises
    TrackingError where PostgreSQL does not answer, which MLflow would ask for minutes.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    if uri.startswith("postgresql"):
        require_answer(uri)
        database = home / "mlflow" / "mlflow.db"
    elif uri.startswith("sqlite:///"):
        database = Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0]))
    else:
        return MlflowClient(uri)
    # MLflow creates and migrates its database at the first use, and two processes that do so at the
    # same time break it for good.
    with locked(database.with_name(f"{database.name}.lock")):
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    serve_artifacts_from(database.parent / "artifacts")
    return client


def require_answer(uri: str) -> None:
    """Raise TrackingError where a PostgreSQL database cannot be connected to."""
    import psycopg

    try:
        psycopg.connect(libpq_address(uri), connect_timeout=CONNECT_S).close()
    except psycopg.OperationalError as error:
        reason = str(error).partition("\n")[0]
        raise TrackingError(
            f"MLflow's database {without_user(uri)} cannot be opened: {reason}. Is its server "
            'running? With database.url = "local" it runs with the services: evergreen up.'
        ) from None


def serve_artifacts_from(folder: Path) -> None:
    """Let this process reach what our server has stored while it does not run.

    The server names the artifacts of its experiments `mlflow-artifacts:/…` and keeps them below
    `folder`. Without an HTTP address to ask, MLflow would refuse them.
    """
    from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
    from mlflow.tracking import get_tracking_uri

    def repository(artifact_uri, tracking_uri=None, registry_uri=None):
        if (tracking_uri or get_tracking_uri()).startswith(("sqlite:", "postgresql")):
            below = unquote(urlsplit(artifact_uri).path).lstrip("/")
            return LocalArtifactRepository(str(folder / below))
        return MlflowArtifactsRepository(artifact_uri, tracking_uri, registry_uri)

    _artifact_repository_registry.register("mlflow-artifacts", repository)


@contextmanager
def explained(uri: str, action: str) -> Iterator[None]:
    """Turn a failing call to MLflow into a TrackingError.

    action: what the block does, such as "record gate 2022-04-25".
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except (MlflowException, RequestException) as error:
        reason = shorten(without_user(str(error)), LONGEST_REASON, placeholder=" …")
        # Without the cause: its traceback has dozens of frames of the HTTP library.
        raise TrackingError(
            f"MLflow at {without_user(uri)} failed to {action}: {reason}\nCommitted partitions are "
            "kept. Is MLflow running, and is mlflow.uri its address? Then run the same command "
            'again. mlflow.uri = "off" runs without tracking.'
        ) from None


def without_user(text: str) -> str:
    """A text whose addresses have no user and no password."""
    return re.sub(r"://[^/@\s]+@", "://", text)
