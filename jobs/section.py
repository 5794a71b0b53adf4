"""The base of every table of the settings file, apart from the settings so that sources can use it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One table of settings: immutable, and an unknown option is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
