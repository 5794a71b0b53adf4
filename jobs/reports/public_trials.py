"""Which trials on public data sets can be made, and why the others are left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobs.reports.recipe import RecipeTrial
from jobs.reports.trials import Trial
from jobs.settings import Settings


def public_trials(
    settings: Settings, data: Path | None, classes: Sequence[type[RecipeTrial]]
) -> tuple[list[Trial], list[str]]:
    """The trials whose files are in the folder, and a message for each that is left out."""
    trials: list[Trial] = []
    messages = []
    for trial in classes:
        missing = [str(file) for file in trial.files if data and not (data / file).exists()]
        if data is None:
            problem = "no data folder is set"
        elif missing:
            problem = f"{data} has no {', '.join(missing)}"
        else:
            trials.append(trial(data, settings.ranker))
            continue
        messages.append(
            f"{trial.data} left out: {problem}. Name the folder that contains "
            f"{trial.files[0].parts[0]}/ with --data or EVERGREEN_DATA."
        )
    return trials, messages
