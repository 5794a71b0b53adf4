"""The registry's service with three pages more: what is stale here, which ranker serves, and whom.

    uvicorn --factory jobs.local.registry_app:app

    /status       what this home holds, and what of it is not current
    /decisions    which ranker serves from each day on, and why
    /recommend    what the champion recommends to a consumer, and why: jobs.serving.pages

The registry itself knows neither days that have not been published nor rankers, so these pages are
added here, and the metrics of the loop to those of the service. Torch is imported by the first look
at the home, for the page or the metrics, or by the first recommendation.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.responses import Response
from jinja2 import FileSystemLoader
from prometheus_client.metrics_core import Metric

from embeddings.registry import failures, pages
from embeddings.registry.service import app_from_environment
from jobs import logs
from jobs.errors import EvergreenError
from jobs.local import decisions
from jobs.local.environment import without_login
from jobs.local.loop_metrics import LoopCollector, families
from jobs.pipeline import guardrails
from jobs.pipeline.status import grouped, status, versions_summary
from jobs.pipeline.tracking.runs import VIEW
from jobs.serving import pages as recommendations
from jobs.settings import in_url, load_settings

SHOWN = 20  # reasons in a table
LINKS = {"Recommend": "/recommend", "Decisions": "/decisions", "Status": "/status"}


def lineage_link(request: Request, field: str, value: object) -> str:
    """The page of the run that a field of a lineage names; empty for any other field.

    Under the host by which the browser has reached this service, unless MLflow is elsewhere.
    """
    settings = load_settings()
    host = in_url(request.url.hostname or settings.services.local_host)
    if field == "mlflow_run" and value:
        ours = settings.services.mlflow_at
        uri = without_login(settings.mlflow_uri).rstrip("/")
        elsewhere = uri.startswith("http") and uri != ours
        base = uri if elsewhere else f"http://{host}:{settings.services.mlflow_port}"
        return f"{base}/#/runs/{quote(str(value))}{VIEW}"
    if field == "airflow_run" and value:
        dag, _, run = str(value).partition("/")
        airflow = f"http://{host}:{settings.services.airflow_port}"
        return f"{airflow}/dags/{quote(dag)}/runs/{quote(run, safe='')}"
    return ""


def now() -> list[Metric]:
    """The metrics of the loop, of the home that the settings name at this moment."""
    return families(load_settings(), datetime.now(UTC))


def app() -> FastAPI:
    """The service of the home that the settings name, configured by the environment."""
    settings = load_settings()
    logs.configure(settings.services.log_format)
    service = app_from_environment(settings.registry_place if settings.storage.url else None)
    service.state.metrics.registry.register(LoopCollector(now))
    rendering = pages.templates.env
    ours = Path(__file__).parent / "templates"
    rendering.loader = FileSystemLoader([pages.TEMPLATES, ours, recommendations.TEMPLATES])
    rendering.globals["grouped"] = grouped
    rendering.globals["links"] = LINKS
    rendering.globals["versions_summary"] = versions_summary
    rendering.globals["lineage_link"] = lineage_link

    recommendations.add(service)

    @service.get("/status", include_in_schema=False)
    def status_page(request: Request) -> Response:
        found = status(load_settings(), datetime.now(UTC))
        return pages.page(request, "status.html", found=found, shown=SHOWN)

    @service.get("/v1/status", tags=["service"], summary="What is stale in this home")
    def status_json() -> dict[str, Any]:
        return status(load_settings(), datetime.now(UTC)).as_json()

    @service.get("/decisions", include_in_schema=False)
    def decisions_page(request: Request) -> Response:
        settings = load_settings()
        label = settings.ranker.primary_label
        found = decisions.rows(settings)
        titles = [title for title, _ in guardrails.SHOWN.values()]
        return pages.page(
            request,
            "decisions.html",
            found=found,
            label=label,
            width=decisions.WIDTH,
            titles=titles,
        )

    @service.get("/v1/decisions", tags=["service"], summary="Which ranker served from each day on")
    def decisions_json() -> list[dict[str, Any]]:
        return [{"day": row.day, **row.facts} for row in decisions.rows(load_settings())]

    @service.exception_handler(EvergreenError)
    def unreadable(request: Request, error: EvergreenError) -> Response:
        """Such as a log that is not there: the registry goes on, only its status is unknown."""
        return failures.answer(request, 503, type(error).__name__, str(error))

    return service
