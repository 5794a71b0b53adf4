"""Traces of what a run does, sent to an OpenTelemetry endpoint where one is set.

`OTEL_EXPORTER_OTLP_ENDPOINT` names a receiver of OTLP over HTTP, such as http://127.0.0.1:4318.
Without it nothing is imported, and every function here does nothing. Inside an Airflow task, spans
go where Airflow sends its own, below the span of the task.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from jobs.errors import Skip

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SERVICE = "evergreen"  # the service's name, unless OTEL_SERVICE_NAME is set
PREFIX = "evergreen."  # of the names of our attributes


def enabled() -> bool:
    """Is there an endpoint to send traces to?"""
    return any(os.environ.get(name) for name in ENDPOINTS)


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[Span | None]:
    """A span around the block, below the current one; None without an endpoint.

    attributes: their names get our prefix. An exception of the block marks the span as failed,
    unless it is a Skip.
    """
    if not enabled():
        yield None
        return
    from opentelemetry.trace import Status, StatusCode

    with tracer().start_as_current_span(
        name,
        attributes=prefixed(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except Skip:
            raise
        except Exception as error:
            current.record_exception(error)
            current.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def record(
    name: str, parent: str, start_ms: int, end_ms: int, attributes: Mapping[str, Any], error: str
) -> None:
    """A span of the past. parent: a traceparent. error: why it failed; empty where it did not."""
    from opentelemetry.trace import Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    below = TraceContextTextMapPropagator().extract({"traceparent": parent})
    past = tracer().start_span(
        name, context=below, start_time=start_ms * 1_000_000, attributes=attributes
    )
    if error:
        past.set_status(Status(StatusCode.ERROR, error))
    past.end(end_time=end_ms * 1_000_000)


def traceparent() -> str:
    """The current span as W3C Trace Context writes it; empty where there is none."""
    if not enabled():
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def prefixed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{PREFIX}{name}": value for name, value in attributes.items()}


@cache
def tracer() -> Tracer:
    """Where spans are made: by Airflow's provider in its tasks, else by one of our own.

    Ours sends what is left when the process ends.
    """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        name = os.environ.get("OTEL_SERVICE_NAME") or SERVICE
        provider = TracerProvider(resource=Resource.create({"service.name": name}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    return trace.get_tracer(SERVICE)
