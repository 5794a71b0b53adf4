"""What a trial may choose: ranges of options by name, and the settings with what was chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from jobs.errors import SettingsError
from jobs.names import near
from jobs.plugins import PluginSection, faults
from jobs.settings import Settings
from jobs.settings.tuning import Range

if TYPE_CHECKING:
    from optuna.trial import Trial

Space = Mapping[str, Range | list[Any]]
Options = dict[str, Any]
KINDS = {  # kind -> sections of the settings that shape its results
    "embedding": ("source", "validation", "matrix", "embedding"),
    "ranker": ("source", "validation", "matrix", "embedding", "ranker"),
}
DIGITS = 6
FIXED = ("name", "anchor_day", "start_day", "retrieval_gate", "primary_label", "weights")


def space_of(settings: Settings, kind: str) -> dict[str, Range | list[Any]]:
    """The ranges of a kind, each of an option that exists and allows it. Raises SettingsError."""
    space = dict(getattr(settings.tuning, kind))
    section = getattr(settings, kind)
    if not space:
        known = ", ".join(tunable(section))
        raise SettingsError(
            f"[tuning.{kind}] has no option to tune. Give some of these a range, as in "
            f"`learning_rate = {{ low = 0.01, high = 1.0, log = true }}` or a list of values: "
            f"{known}."
        )
    for name, given in space.items():
        if name not in tunable(section):
            close = [f"; did you mean {option}?" for option in near(name, tunable(section))[:1]]
            raise SettingsError(
                f"tuning.{kind}.{name}: there is no such option to tune{''.join(close)} "
                f"Expected one of: {', '.join(tunable(section))}."
            )
        ends = given if isinstance(given, list) else [given.low, given.high]
        for value in ends:
            changed(settings, kind, {name: value})
    return space


def tunable(section: PluginSection) -> list[str]:
    """The options that may be tuned: the section's, and those of the chosen plug-in."""
    own = [name for name in type(section).model_fields if name not in (*FIXED, section.chooser)]
    return [*own, *type(section.options).model_fields]


def current(settings: Settings, kind: str, space: Space) -> Options | None:
    """What the settings have now of these options; None where some of it is outside the space."""
    section = getattr(settings, kind)
    found = {}
    for name, given in space.items():
        value = getattr(section if name in type(section).model_fields else section.options, name)
        inside = value in given if isinstance(given, list) else given.low <= value <= given.high
        if not inside:
            return None
        found[name] = value
    return found


def chosen(trial: Trial, space: Space) -> Options:
    """The options that a trial draws, `rounded`."""
    found: Options = {}
    for name, given in space.items():
        if isinstance(given, list):
            found[name] = trial.suggest_categorical(name, given)
        elif given.whole:
            found[name] = trial.suggest_int(name, int(given.low), int(given.high), log=given.log)
        else:
            found[name] = trial.suggest_float(name, given.low, given.high, log=given.log)
    return rounded(found)


def rounded(options: Options) -> Options:
    """The options with DIGITS significant digits, as a person would write them."""
    found = {}
    for name, value in options.items():
        found[name] = float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
    return found


def changed(settings: Settings, kind: str, options: Options) -> Settings:
    """The settings with these options. Raises SettingsError for a value that is not allowed."""
    section: PluginSection = getattr(settings, kind)
    own = set(type(section).model_fields)
    plugin = getattr(section, section.chooser)
    table = section.options.model_dump()
    values = section.model_dump(include=own)
    for name, value in options.items():
        (values if name in own else table)[name] = value
    try:
        made = type(section)(**values, **{plugin: table})
    except ValidationError as error:
        raise SettingsError(f"tuning.{kind}: {faults(error)}.") from None
    copy = settings.model_copy(update={kind: made})
    copy._further = settings._further
    return copy


def as_toml(settings: Settings, kind: str, options: Options) -> str:
    """The options as a piece of the settings file."""
    section: PluginSection = getattr(settings, kind)
    own = [name for name in options if name in type(section).model_fields]
    of_plugin = [name for name in options if name not in own]
    lines = []
    title = kind if settings.is_first or kind == "ranker" else f"further.{settings.embedding.name}"
    for table, names in ((title, own), (f"{title}.{getattr(section, section.chooser)}", of_plugin)):
        if names:
            lines += [
                "",
                f"[{table}]",
                *(f"{name} = {json.dumps(options[name])}" for name in names),
            ]
    return "\n".join(lines[1:])
