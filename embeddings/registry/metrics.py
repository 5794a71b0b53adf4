"""What the service counts, for Prometheus: requests, their time, and the versions that are open.

Every label has few values: the template of a route, never the path, which anyone may invent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from http import HTTPMethod

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embeddings.registry.errors import RegistryError
from embeddings.registry.files import open_versions
from embeddings.registry.verifications import Verified

CONTENT_TYPE = CONTENT_TYPE_LATEST
UNMATCHED = "unmatched"  # the route of a request to a path that does not exist
OTHER = "other"  # a method that HTTP does not define
METHODS = frozenset(HTTPMethod)
BUCKETS_S = (0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Metrics:
    """The metrics of one service. Each has its own: two services in a process do not clash."""

    def __init__(self, verified: Callable[[], Verified]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "evergreen_registry_requests",
            "Requests by route, method and status.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "evergreen_registry_request_seconds",
            "Seconds from the request to the last byte of its answer, by route.",
            ["route"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        opened = Gauge(
            "evergreen_registry_open_versions",
            "Versions whose files this process has mapped.",
            registry=self.registry,
        )
        opened.set_function(open_versions)
        self.registry.register(Bytes(verified))
        ProcessCollector(registry=self.registry)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)

    def record(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one request that was answered."""
        route = getattr(scope.get("route"), "path", UNMATCHED)
        method = scope["method"] if scope["method"] in METHODS else OTHER
        self.requests.labels(route, method, status).inc()
        self.seconds.labels(route).observe(seconds)


class Bytes(Collector):
    """What is known of the bytes of all versions, asked for when it is read."""

    def __init__(self, verified: Callable[[], Verified]) -> None:
        self.verified = verified

    def describe(self) -> list[Metric]:
        """Nothing: a description would be made by asking, before anything is published."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Nothing while the catalog cannot be read: the other metrics still can."""
        try:
            found = self.verified()
        except (RegistryError, SQLAlchemyError):
            return
        prefix = "evergreen_registry"
        yield GaugeMetricFamily(
            f"{prefix}_damaged_versions",
            "Versions whose files had faults when they were last verified.",
            len(found.damaged),
        )
        yield GaugeMetricFamily(
            f"{prefix}_unverified_versions",
            "Versions that were not verified since they were published.",
            found.unverified,
        )
        if found.oldest is not None:
            yield GaugeMetricFamily(
                f"{prefix}_oldest_verification_timestamp_seconds",
                "When the version was verified that was not for longest.",
                found.oldest.timestamp(),
            )


class Measured:
    """Middleware that records every request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500  # of an answer that never starts

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            self.metrics.record(scope, status, time.perf_counter() - started)
