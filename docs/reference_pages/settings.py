"""The settings reference: every option of every section, read from the settings models themselves.

An option's meaning is the docstring below its field, which pydantic keeps as its description.
"""

from __future__ import annotations

import inspect
import json
import pkgutil
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

# Models of plug-ins, which no field of the settings names: folder of the plug-ins -> section.
PLUGINS = {
    "jobs.sources": "source",
    "embeddings.embedders": "embedding.{module}",
    "models.rankers": "ranker.{module}",
}
SHARED = ("base", "inputs", "layers")  # files with what the plug-ins of a family have in common
TYPE_NAMES = {
    "Path": "path",
    "Range": "range",
    "SecretStr": "text",
    "bool": "true or false",
    "date": "date",
    "float": "number",
    "int": "integer",
    "str": "text",
}


@dataclass(frozen=True)
class Option:
    """One option, as the page shows it."""

    name: str
    type: str
    default: str
    meaning: str


@dataclass
class Section:
    """One table of the settings file. kind: which variant of the section, '' where there is one."""

    name: str
    kind: str
    model: type[BaseModel]
    options: list[Option] = field(default_factory=list)


def page() -> str:
    """The Markdown of the whole page."""
    return INTRODUCTION + "\n".join(map(render, sections()))


INTRODUCTION = """# Settings

All settings live in one TOML file. Evergreen reads the file named by `--settings`, or by the
environment variable `EVERGREEN_SETTINGS`, or else `evergreen.toml` in the project folder. Relative
paths are relative to the file. An option that does not exist is an error, and the message names it.

An environment variable overrides any option of the file: `EVERGREEN_SECTION__OPTION`, with two
underscores between section and option. For example, `EVERGREEN_SERVICES__REGISTRY_PORT=8091` sets
`registry_port` under `[services]`, and `EVERGREEN_HOME` sets `home`.

This page is generated from the settings models when the site is built.

"""


def sections() -> list[Section]:
    """Every section of the settings file, in the order of the fields; variants one by one."""
    from jobs.settings import Settings
    from jobs.settings.tuning import Range

    found = list(walk(Settings, ""))
    name = "tuning.embedding.OPTION"  # its tables have names that the user chooses
    found.insert(position(found, name), Section(name, kind_of(Range), Range, options_of(Range)))
    documented = {section.model for section in found}
    for package, pattern in PLUGINS.items():
        for model in plugin_models(package):
            if model not in documented:
                name = pattern.format(module=file_stem(model))
                section = Section(name, kind_of(model), model, options_of(model))
                found.insert(position(found, name), section)
                documented.add(model)
    return found


def position(found: list[Section], name: str) -> int:
    """Where a plug-in's section goes: behind the section it belongs to, and those inside it."""
    family = name.partition(".")[0]
    behind = len(found)
    for index, section in enumerate(found):
        if section.name.partition(".")[0] == family:
            behind = index + 1
    return behind


def file_stem(model: type[BaseModel]) -> str:
    """The name of the file that defines a model, by which plug-ins are chosen."""
    return model.__module__.rpartition(".")[2]


def walk(model: type[BaseModel], name: str, kind: str = "") -> Iterator[Section]:
    """The section of a model, then the sections inside it."""
    section = Section(name, kind, model)
    inner = []
    for option, info in model.model_fields.items():
        variants = models_in(info.annotation)
        if not variants:
            section.options.append(option_of(option, info))
            continue
        path = f"{name}.{option}" if name else option
        for variant in variants:
            inner.append((variant, path, kind_of(variant) if len(variants) > 1 else ""))
    yield section
    for variant, path, which in inner:
        yield from walk(variant, path, which)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings models that an annotation names, alone or in a union."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType, typing.Annotated):
        return []
    found: list[type[BaseModel]] = []
    for part in typing.get_args(annotation):
        found += models_in(part)
    return found


def plugin_models(package: str) -> list[type[BaseModel]]:
    """The models with options that the plug-ins of a package define, in order of their files.

    A plug-in names its options `Options`; of a file without that name, every model counts.
    """
    found: list[type[BaseModel]] = []
    for entry in pkgutil.iter_modules(import_module(package).__path__):
        if entry.name in SHARED:
            continue
        module = import_module(f"{package}.{entry.name}")
        models = [value for value in vars(module).values() if is_own_model(value, module)]
        named = [model for model in models if model.__name__ == "Options"]
        found += named or models
    return found


def is_own_model(value: Any, module: types.ModuleType) -> bool:
    """Is this a settings model that the module itself defines, and that has options?"""
    if not (inspect.isclass(value) and issubclass(value, BaseModel)):
        return False
    return value.__module__ == module.__name__ and bool(value.model_fields)


def kind_of(model: type[BaseModel]) -> str:
    """The value of `kind` that selects this model; '' where it has no such option."""
    info = model.model_fields.get("kind")
    if info is None:
        return ""
    values = typing.get_args(info.annotation)
    return str(values[0]) if values else file_stem(model)


def options_of(model: type[BaseModel]) -> list[Option]:
    return [option_of(name, info) for name, info in model.model_fields.items()]


def option_of(name: str, info: FieldInfo) -> Option:
    limits = limits_of(info)
    kind = type_name(info.annotation)
    form = f"{kind}, {limits}" if limits else kind
    return Option(name, form, default_of(info), info.description or "")


def type_name(annotation: Any) -> str:
    """The type in words: 'text', 'list of text', '"svd" or "als"'."""
    origin = typing.get_origin(annotation)
    parts = typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(f'`"{value}"`' for value in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(part) for part in parts if part is not type(None))
    if origin is typing.Annotated:
        return type_name(parts[0])
    if origin in (list, tuple, set, frozenset):
        return f"list of {type_name(parts[0])}"
    if origin is dict:
        return f"table of {type_name(parts[1])}"
    name = getattr(annotation, "__name__", str(annotation))
    return TYPE_NAMES.get(name, name)


def limits_of(info: FieldInfo) -> str:
    """The bounds of a number: '≥ 1, ≤ 1000'."""
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    found = []
    for rule in info.metadata:
        for attribute, sign in signs.items():
            if hasattr(rule, attribute):
                found.append(f"{sign} {getattr(rule, attribute):g}")
    return ", ".join(found)


def default_of(info: FieldInfo) -> str:
    """The default as it would be written in the file."""
    if info.is_required():
        return "*required*"
    if info.default_factory is not None:
        return "*computed*"
    if info.default is None:
        return "*none*"
    if isinstance(info.default, str | bool | int | float | list | dict):
        return f"`{json.dumps(info.default)}`"
    return f'`"{info.default}"`'


def render(section: Section) -> str:
    """A section as Markdown: heading, description and a table of its options."""
    if not section.name:
        heading = "## Top level"
    elif section.kind:
        heading = f'## `[{section.name}]` with `kind = "{section.kind}"`'
    else:
        heading = f"## `[{section.name}]`"
    lines = [heading, ""]
    if description := description_of(section.model):
        lines += [description, ""]
    if section.options:
        lines += ["| option | type | default | meaning |", "| --- | --- | --- | --- |"]
    for option in section.options:
        cells = (f"`{option.name}`", option.type, option.default, option.meaning)
        lines.append("| " + " | ".join(map(cell, cells)) + " |")
    return "\n".join([*lines, ""])


def description_of(model: type[BaseModel]) -> str:
    """The class's own docstring; '' where it would inherit that of one of pydantic's classes."""
    own = vars(model).get("__doc__")
    return inspect.cleandoc(own) if own else ""


def cell(text: str) -> str:
    """Text that cannot end the cell of a table."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|") or "–"
