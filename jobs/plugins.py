"""Plug-ins: sections of the settings that choose one file of a family and hold its options.

    [embedding]
    method = "als"           # the file embeddings/embedders/als.py

    [embedding.als]          # validated by that file's `Options`
    iterations = 16

A family is a folder. A file in it is a plug-in if it defines the family's marker, such as
`EMBEDDER`, at its top level. Plug-ins are found by reading the files, and imported only when their
options are needed: some import torch, which takes seconds.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from jobs.names import near

LONGEST_INPUT = 120  # characters of a faulty value that are repeated in an error
SECTIONS_WITH_SECRETS = ("database", "mlflow", "registry", "services", "spark")
SECRET = re.compile(r"password|token|database\.url")  # options whose value is never repeated


@cache
def plugin_names(family: str, marker: str) -> list[str]:
    """Names of the plug-ins of a family, without importing them.

    family: a package, such as "embeddings.embedders". marker: the name that a plug-in defines.
    """
    spec = find_spec(family)
    assert spec is not None, f"{family} is a package of ours"
    # At the start of a line: an indented assignment is not at the top level.
    defines = re.compile(rf"^{marker}\b", re.MULTILINE)
    names = []
    for folder in spec.submodule_search_locations or []:
        for file in Path(folder).glob("*.py"):
            if defines.search(file.read_text()):
                names.append(file.stem)
    return sorted(names)


def faults(error: ValidationError, prefix: str = "", model: type[BaseModel] | None = None) -> str:
    """The faults of a validation as one line, each with its option and the value given.

    model: what was validated, for the names that a misspelt option may have meant.
    """
    parts = []
    for fault in error.errors():
        option = ".".join([prefix, *map(str, fault["loc"])]).lstrip(".")
        message = fault["msg"].removeprefix("Value error, ")
        message = message.replace("Input should be", "expected a value")
        if fault["type"] == "extra_forbidden" and model is not None:
            message = unknown(str(fault["loc"][-1]), options_at(model, fault["loc"][:-1]))
        given = repr(fault["input"])
        # A check on a whole table is given the table, which may be too long to repeat.
        repeated = len(given) <= LONGEST_INPUT and not may_be_secret(option, fault)
        suffix = f" (given: {given})" if repeated else ""
        parts.append(f"{option}: {message}{suffix}")
    return "; ".join(parts)


def unknown(option: str, known: list[str]) -> str:
    """What to say of an option that does not exist."""
    if close := near(option, known):
        return f"unknown option; did you mean {close[0]}?"
    return f"unknown option; expected one of: {', '.join(sorted(known))}"


def options_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The options of the table at this path below a settings model."""
    models = [model]
    for part in path:
        inner: list[type[BaseModel]] = []
        for outer in models:
            if part in outer.model_fields:
                inner += models_in(outer.model_fields[str(part)].annotation)
        # Of a union, the path also has the kind that was chosen, which is no field.
        models = inner or [one for one in models if one.__module__.endswith(f".{part}")]
    return [option for one in models for option in one.model_fields]


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings models that an annotation names, alone or in a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def may_be_secret(option: str, fault: ErrorDetails) -> bool:
    """Is the faulty value a secret, a table with one, or a text under a misspelt name?"""
    given = fault["input"]
    if isinstance(given, dict):
        option += repr(given)
    section, dot, _ = option.partition(".")
    misspelt = fault["type"] == "extra_forbidden" and isinstance(given, str)
    may_hold_one = not dot or section in SECTIONS_WITH_SECRETS
    return (misspelt and may_hold_one) or SECRET.search(option) is not None


class PluginSection(BaseModel):
    """A section with a table of options for any plug-in of its family."""

    # The tables are extra fields, because the plug-ins are not known here. `_validate_tables`
    # refuses every other extra field.
    model_config = ConfigDict(
        extra="allow", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    family: ClassVar[str]  # the package of the plug-ins
    marker: ClassVar[str]  # the name that each of them defines
    chooser: ClassVar[str]  # the option that names the chosen one

    @model_validator(mode="after")
    def _validate_tables(self) -> PluginSection:
        known = plugin_names(self.family, self.marker)
        chosen = getattr(self, self.chooser)
        if chosen not in known:
            raise ValueError(
                f"{self.chooser}: unknown name '{chosen}'; expected one of: {', '.join(known)}"
            )
        tables = self.__pydantic_extra__ or {}
        # Tables of plug-ins that are not chosen are validated too: a typo is reported now and
        # not on the day that one of them is chosen.
        for name, table in tables.items():
            if name not in known:
                options = sorted([*type(self).model_fields, *known])
                close = [f"; did you mean {option}?" for option in near(name, options)[:1]]
                expected = f"expected one of: {', '.join(options)}"
                raise ValueError(f"unknown option '{name}'{''.join(close)}; {expected}")
            tables[name] = self._validated(name, table)
        return self

    def _validated(self, name: str, table: Any) -> BaseModel:
        options = options_of(self.family, name)
        if isinstance(table, options):  # a copy of settings that were validated before
            return table
        try:
            return options.model_validate(table)
        except ValidationError as error:
            raise ValueError(faults(error, name, options)) from None

    @property
    def options(self) -> Any:
        """The options of the chosen plug-in; its defaults where no table was given."""
        chosen = getattr(self, self.chooser)
        table = (self.__pydantic_extra__ or {}).get(chosen)
        return table if table is not None else options_of(self.family, chosen)()

    def effective(self) -> dict[str, Any]:
        """Every option that shapes a result: the section's and the chosen plug-in's.

        Without the other plug-ins: tuning ALS must not invalidate what the SVD has computed.
        """
        own = self.model_dump(mode="json", include=set(type(self).model_fields))
        return own | {getattr(self, self.chooser): self.options.model_dump(mode="json")}


def options_of(family: str, name: str) -> type[BaseModel]:
    """The options class of a plug-in; imports the plug-in."""
    return import_module(f"{family}.{name}").Options
