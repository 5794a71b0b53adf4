"""Sources: where a day's rows come from. `jobs.sources.base` describes how to add one."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Protocol, Union

from pydantic import Discriminator, Tag

from jobs.sources.base import Source


class KnowsSource(Protocol):
    """The part of the settings that a source needs."""

    source: Any

    @property
    def intake(self) -> Path: ...


def source_kinds() -> dict[str, type[Source]]:
    """Kind -> source: every file of this folder that exposes `SOURCE`, in order of names."""
    kinds = {}
    for module in pkgutil.iter_modules(__path__):
        source = getattr(import_module(f"{__name__}.{module.name}"), "SOURCE", None)
        if source is not None:
            kinds[module.name] = source
    return kinds


def settings_of_any_kind() -> Any:
    """The type of the [source] table: its `kind` selects the settings model that validates it.

    It is a union, because pydantic-settings looks in unions for the options that a variable such as
    EVERGREEN_SOURCE__PATH can set. It is tagged, so that an error names the kinds or the faulty
    option, and not the faults of every member.
    """
    kinds = source_kinds()
    models = [Annotated[source.Settings, Tag(kind)] for kind, source in kinds.items()]
    names = ", ".join(repr(kind) for kind in kinds)
    by_kind = Discriminator(
        kind_of,
        custom_error_type="unknown_kind",
        custom_error_message=f"kind must be one of {names} (files of jobs/sources with a SOURCE)",
    )
    return Annotated[Union[tuple(models)], by_kind]  # noqa: UP007 - no members are known here


def kind_of(table: Any) -> Any:
    """The kind of a [source] table, or of settings that are validated already."""
    return table.get("kind") if isinstance(table, dict) else getattr(table, "kind", None)


def open_source(settings: KnowsSource) -> Source:
    """The source that the table [source] describes.

    There is one per process and settings, which sees the log as it was when it was opened:
    `reopen_sources` makes the next call look again.
    """
    # As JSON, because settings hold dictionaries and cannot be the key of a cache.
    return _open(settings.source.kind, settings.source.model_dump_json(), settings.intake)


def reopen_sources() -> None:
    """Let the next `open_source` see which files the logs have now."""
    _open.cache_clear()


@cache
def _open(kind: str, source_json: str, memory: Path) -> Source:
    source = source_kinds()[kind]
    return source(source.Settings.model_validate_json(source_json), memory)
