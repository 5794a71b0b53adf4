"""Log lines for programs: one JSON object a line, with the step and the day that it is about.

The names that are bound here are structlog's, so that Airflow's task logs, which are JSON as well,
have them too.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter

OURS = ("dags", "embeddings", "jobs", "models")  # whose progress is logged, not only warnings
UVICORN = ("uvicorn", "uvicorn.access")


class JsonFormatter(ProcessorFormatter):
    """time, level, logger and message of a line, then what is bound, and a traceback."""

    def __init__(self) -> None:
        super().__init__(
            foreign_pre_chain=[
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.contextvars.merge_contextvars,
            ],
            processors=[
                ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.EventRenamer("message"),
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )


@contextmanager
def bound(**names: Any) -> Iterator[None]:
    """Add these names to every line that is logged in the block."""
    with structlog.contextvars.bound_contextvars(**names):
        yield


def bind(**names: Any) -> None:
    """Add these names to every line from here to the end of the enclosing `bound` block.

    They must be names that the block has bound already, which then get another value.
    """
    structlog.contextvars.bind_contextvars(**names)


def configure(log_format: str) -> None:
    """Log to stderr in this format: "json", or "text", which is Python's own.

    Also uvicorn's lines, in whose process the registry runs.
    """
    if log_format == "text":
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in UVICORN:
        logger = logging.getLogger(name)
        if logger.handlers:  # uvicorn gives none to a log that is off
            logger.handlers.clear()
            logger.propagate = True


def is_json() -> bool:
    """Has `configure` made the log lines of this process JSON?"""
    return any(isinstance(one.formatter, JsonFormatter) for one in logging.getLogger().handlers)
