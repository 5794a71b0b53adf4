"""The page /recommend and its JSON, beside the registry's own: who gets which items, and why.

Plain HTML without JavaScript, as all pages of the registry. The ranker of a day and what was known
before it stay open for FRESH_S, so that only the first request waits for them.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response

from embeddings.registry import failures, pages
from jobs.errors import EvergreenError, NotCommitted
from jobs.serving.champion import FIRST_DAYS
from jobs.settings import Settings, load_settings

if TYPE_CHECKING:
    from jobs.serving.recommending import Answer, Recommender

TEMPLATES = Path(__file__).parent / "templates"
FRESH_S = 60.0  # seconds that what was opened is used; a backfill may have replaced it by then
Consumer = Annotated[str, Query(max_length=1000, description="Id; an unknown one is new.")]
Day = Annotated[date | None, Query(description="Nothing of it or later is used; default: newest.")]
Top = Annotated[int, Query(ge=1, le=100, description="How many items.")]
Hour = Annotated[int, Query(ge=0, le=23, description="Hour of the day, UTC.")]
Label = Annotated[str, Query(max_length=200, description="Of the reasons; default: the heaviest.")]


class Opened:
    """The recommender of the day that was asked for last. One request at a time computes."""

    def __init__(self) -> None:
        self.lock = Lock()  # torch's settings belong to the whole process
        self.day: date | None = None
        self.until = 0.0
        self.recommender: Recommender | None = None

    def of(self, settings: Settings, day: date) -> Recommender:
        from jobs.serving.recommending import Recommender

        if self.recommender is None or day != self.day or time.monotonic() > self.until:
            self.recommender = Recommender.open(settings, day)
            self.day, self.until = day, time.monotonic() + FRESH_S
        return self.recommender

    def answer(
        self, consumer: str, day: date | None, top: int, hour: int, label: str
    ) -> dict[str, Any]:
        """The answer with its reasons, as JSON values. Raises EvergreenError."""
        from jobs.serving.explaining import explain

        settings = load_settings()
        with self.lock:
            try:
                recommender = self.of(settings, day or newest(settings))
                answer = recommender.recommend(consumer, top, hour)
                reasons = explain(recommender, answer, label)
                return described(recommender, answer, label) | {"why": list(map(asdict, reasons))}
            finally:
                settings.lake.place.release()  # what it needs further is read


def add(app: FastAPI) -> None:
    """Add the page and the route to a service that shows the registry's pages."""
    opened = Opened()

    @app.get("/recommend", include_in_schema=False)
    def page(
        request: Request,
        consumer: Consumer = "",
        day: Day = None,
        top: Top = 10,
        hour: Hour = 12,
        label: Label = "",
    ) -> Response:
        found, error = None, ""
        try:
            day = day or newest(load_settings())
            if consumer:
                found = opened.answer(consumer, day, top, hour, label)
        except EvergreenError as unanswered:
            error = str(unanswered)
        asked = {"consumer": consumer, "day": day, "top": top, "hour": hour}
        status = 404 if error else 200
        return pages.page(request, "recommend.html", status, asked=asked, found=found, error=error)

    @app.get("/v1/recommend", tags=["service"], summary="The best items for a consumer, and why")
    def recommend(
        request: Request,
        consumer: Consumer,
        day: Day = None,
        top: Top = 10,
        hour: Hour = 12,
        label: Label = "",
    ) -> Any:
        try:
            return opened.answer(consumer, day, top, hour, label)
        except EvergreenError as error:
            return failures.answer(request, 404, type(error).__name__, str(error))


def newest(settings: Settings) -> date:
    """The newest day that a ranker serves: the one after the last promotion."""
    promoted = settings.lake.days("promote")
    if not promoted:
        raise NotCommitted(f"No ranker serves yet. {FIRST_DAYS}")
    return promoted[-1] + timedelta(days=1)


def described(recommender: Recommender, answer: Answer, label: str) -> dict[str, Any]:
    """The answer, with what it was computed with. label: of the reasons, '' for the heaviest."""
    serving = recommender.serving
    return {
        "consumer": answer.consumer,
        "day": str(recommender.day),
        "model": str(serving.model.day),
        "calibrated_on": serving.calibration.day,
        "embedding": recommender.past.version.id if recommender.past.version else "",
        "candidates": answer.candidates,
        "engagements": answer.engagements,
        "labels": recommender.labels,
        "label": label or recommender.main_label,
        "items": [asdict(item) for item in answer.items],
        "milliseconds": answer.stages,
    }
