"""`evergreen ranker export`: a saved ranker as a folder that needs nothing of ours."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from jobs.errors import EvergreenError
from jobs.serving.champion import chosen
from jobs.settings import Settings
from jobs.terminal import plain
from models.export import FILES, SCORE, ExportError, export
from models.store import load


def run(settings: Settings, reference: str, form: str, folder: Path, console: Console) -> None:
    """Export the ranker that `reference` names, and say what was written and how to use it."""
    if form not in FILES:
        raise EvergreenError(f"--format {form} does not exist. Use one of: {', '.join(FILES)}.")
    serving = chosen(settings, reference)
    model = serving.model
    saved = load(model.path)
    try:
        exported = export(
            saved, str(model.day), model.facts["embedding"], serving.calibration, form, folder
        )
    except ExportError as error:
        raise EvergreenError(str(error)) from None
    calibrated = ", ".join(sorted(serving.calibration.maps)) or "no label"
    # Printed without wrapping: a command that is copied from a terminal must be one line.
    for line in (
        f"{plain(str(exported.path))}: the ranker trained up to {model.day}, "
        f"space '{plain(saved.space)}', calibrated for {plain(calibrated)}.",
        f"Its probabilities are those of Evergreen within {exported.difference:.1g}.",
        f"Try it: cd {plain(str(folder))} && python {SCORE} {exported.path.name} rows.json",
    ):
        console.print(line, soft_wrap=True)
