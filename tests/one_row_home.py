"""Settings of a home whose log has one row: for tests that are not about the log."""

from __future__ import annotations

from pathlib import Path

from jobs.settings import Settings
from jobs.sources.edgelist import EdgelistSettings


def home_settings(home: Path, **sections) -> Settings:
    """sections: those of the settings that are not the default ones."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "log.txt"
    log.write_text("c1 p1 86400\n")
    return Settings(home=home, source=EdgelistSettings(kind="edgelist", path=log), **sections)
