"""A backfill is run by the Airflow of this home where it runs, and by this process where not."""

from __future__ import annotations

from datetime import date

import httpx
import typer

from jobs.local.airflow_client import Airflow
from jobs.pipeline.loop import report_reasons, run_days
from jobs.settings import Settings

EMBEDDINGS_DAG = "embeddings_daily"


def run(settings: Settings, first: date, last: date, here: bool) -> bool:
    """Run these days. Has no step failed, or has Airflow accepted the request?"""
    with Airflow(settings.services) as airflow:
        if not here and answers(airflow):
            airflow.backfill(EMBEDDINGS_DAG, first, last)
            typer.echo(
                f"Airflow runs {first} to {last}: {airflow.address}/dags/{EMBEDDINGS_DAG}/backfills"
            )
            return True
    board, reasons = run_days(settings, first, last)
    report_reasons(board, reasons)
    return not board.failed()


def answers(airflow: Airflow) -> bool:
    """Does an Airflow listen there?"""
    try:
        airflow.call("GET", "/version")
    except httpx.TransportError:
        return False
    return True
