"""What is seen of a step while it runs: a span, the names on its log lines, and how it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from jobs import logs, tracing
from jobs.errors import Skip
from jobs.lake.store import Partition
from jobs.parts import LEARNING_STEPS, WORD_STEPS
from jobs.pipeline.attempts import Attempt, remember
from jobs.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.trace import Span

ROWS = "rows"  # how the names of facts begin that count rows
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Observed:
    """An attempt at a step. span: None without traces."""

    span: Span | None

    def name_run(self, run_id: str) -> None:
        """Add the MLflow run to the span, and to the log lines from here on."""
        logs.bind(run=run_id)
        self._add(run=run_id)

    def count_rows(self, partition: Partition) -> None:
        """Add how many rows the step has counted to the span."""
        self._add(**{name: n for name, n in partition.facts.items() if name.startswith(ROWS)})

    def _add(self, **attributes: Any) -> None:
        if self.span is not None:
            self.span.set_attributes(tracing.prefixed(attributes))


@contextmanager
def observed(settings: Settings, step: str, day: date) -> Iterator[Observed]:
    """One attempt at a step of a day, from here to the end of the block.

    Its outcome is logged and remembered, unless it is interrupted. A step that has nothing to do on
    the day has not failed.
    """
    names = {"step": step, "day": str(day), "embedding": embedding_of(settings, step)}
    started = time.monotonic()

    def end(outcome: str, error: str = "") -> None:
        seconds = time.monotonic() - started
        log.info("%s/%s %s after %.1f s", step, day, outcome, seconds)
        remember(settings, Attempt(**names, ended_s=time.time(), seconds=seconds, error=error))

    with logs.bound(**names, run=""), tracing.span(step, **names) as span:
        try:
            yield Observed(span)
        except Skip:
            end("skipped")
            raise
        except Exception as reason:
            end("failed", type(reason).__name__)
            raise
        end("done")


def embedding_of(settings: Settings, step: str) -> str:
    """The embedding that a step is of; empty for one that all share."""
    if step in WORD_STEPS:
        return settings.words.name if settings.words is not None else ""
    return settings.embedding.name if step in LEARNING_STEPS else ""
