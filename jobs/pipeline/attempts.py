"""The last attempt at each step: when it ended, how long it took, and what it failed with.

    home/attempts/<step>.json           <step>@<name>.json of a further embedding

For the metrics: MLflow has the same of every attempt, but may be off, or elsewhere.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from embeddings.durable import replace_text
from jobs.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """embedding: that the step is of; empty for a step that all share. day: as text.

    ended_s: unix time. error: name of the exception; empty where the step did not fail.
    """

    step: str
    embedding: str
    day: str
    ended_s: float
    seconds: float
    error: str = ""


def folder(settings: Settings) -> Path:
    return settings.home / "attempts"


def remember(settings: Settings, attempt: Attempt) -> None:
    """Replace what is remembered of the step. Where that fails, the step has succeeded still."""
    file = folder(settings) / f"{settings.lake.folder(attempt.step)}.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_text(file, json.dumps(asdict(attempt)))
    except OSError as error:  # such as a full disk
        log.warning("The end of %s/%s is not remembered: %s", attempt.step, attempt.day, error)


def attempts(settings: Settings) -> list[Attempt]:
    """The last attempt at every step, by the names of the files; without those of unknown form."""
    found = []
    for file in sorted(folder(settings).glob("[!.]*.json")):
        try:
            found.append(Attempt(**json.loads(file.read_text())))
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s cannot be read: %s. The next run of its step replaces it.", file, error)
    return found
