"""Environment variables that set options, and those that look as if they did."""

from __future__ import annotations

import os

from pydantic_settings import BaseSettings

from jobs.errors import SettingsError
from jobs.names import near

OTHER_VARIABLES = frozenset(
    f"EVERGREEN_{name}"
    for name in (
        "COMMIT",
        "DATA",
        "FURTHER_NAMES",
        "LAST_DAY",
        "LATENESS",
        "PAGES",
        "PRELOAD",
        "REGISTRY_BUCKET",
        "REGISTRY_CACHE_GB",
        "REGISTRY_CATALOG_URL",
        "REGISTRY_ENDPOINT",
        "REGISTRY_ROOT",
        "REGISTRY_TOKEN",
        "SETTINGS",
        "STORM",
        "TIMEZONE",
        "WEEKLY",
    )
)


def refuse_misspelt_variables(settings: type[BaseSettings]) -> None:
    """Raise SettingsError for a variable that would set an option, were it spelt right.

    The options of a section that exists are checked with those of the file.
    """
    known = variables(settings)
    for variable in sorted(os.environ):
        name = variable.upper()
        if not name.startswith("EVERGREEN_") or name in OTHER_VARIABLES:
            continue
        section, separator, option = name.removeprefix("EVERGREEN_").partition("__")
        if section.lower() in settings.model_fields:
            continue
        if separator:
            sections = [field.upper() for field in settings.model_fields]
            rename = [f"EVERGREEN_{close}__{option}" for close in near(section, sections)]
        else:
            # Other programs may have variables of their own: only one that is nearly ours is ours.
            alike = {text.replace("__", "_"): text for text in known}
            rename = [alike[close] for close in near(name, list(alike), cutoff=0.9)]
            if not rename:
                continue
        suggestion = f" Did you mean {rename[0]}?" if rename else ""
        raise SettingsError(
            f"The environment variable {variable} sets no option of Evergreen.{suggestion} "
            "Correct its name, or unset it."
        )


def variables(settings: type[BaseSettings]) -> list[str]:
    """The environment variables of all options that do not depend on a plug-in."""
    found = []
    for section, info in settings.model_fields.items():
        options = getattr(info.annotation, "model_fields", {})
        found += [f"EVERGREEN_{section}__{option}".upper() for option in options]
        found.append(f"EVERGREEN_{section}".upper())
    return found
