"""The command line reference: every command with options and example, read from the Typer app."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

PROGRAM = "evergreen"
EXAMPLE = re.compile(r"\s*Example:\s*(.+)\s*\Z", re.DOTALL)
VALUES = {datetime: "DAY", float: "NUMBER", int: "NUMBER", Path: "PATH"}

INTRODUCTION = """# Command line

`source .venv/bin/activate` puts `evergreen` on the path. Every command answers `--help`. A command
that fails prints one paragraph, without a traceback, and exits with code 1.

This page is generated from the commands when the site is built.

"""


@dataclass(frozen=True)
class Command:
    """A command or a group of commands: how it is called, and Typer's own objects."""

    path: str
    command: Any
    context: Any

    @property
    def is_group(self) -> bool:
        return hasattr(self.command, "list_commands")

    @property
    def help(self) -> str:
        """The help text without its example."""
        text = self.command.help or ""
        return EXAMPLE.sub("", text).strip()

    @property
    def example(self) -> str:
        """The line after 'Example:'; '' where there is none."""
        found = EXAMPLE.search(self.command.help or "")
        return found[1].strip() if found else ""


def page() -> str:
    """The Markdown of the whole page."""
    return INTRODUCTION + "\n".join(map(render, commands()))


def commands() -> list[Command]:
    """Every command, each group before what it contains."""
    from jobs.cli import app

    root = typer.main.get_command(app)
    return list(walk(root, typer.Context(root, info_name=PROGRAM)))


def walk(command: Any, context: Any) -> Iterator[Command]:
    this = Command(context.command_path, command, context)
    yield this
    if this.is_group:
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            yield from walk(inner, typer.Context(inner, info_name=name, parent=context))


def render(command: Command) -> str:
    """A command as Markdown: heading, help, usage, options and example."""
    lines = [f"## `{command.path}`", "", command.help, ""]
    lines += ["```text", usage(command), "```", ""]
    params = command.command.params
    if params:
        lines += ["| option | value | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [row(param) for param in params]
        lines.append("")
    if command.example:
        lines += ["```console", f"$ {command.example}", "```", ""]
    return "\n".join(lines)


def usage(command: Command) -> str:
    """The call in one line: `evergreen step NAME --day DAY`."""
    words = [command.path]
    for param in command.command.params:
        if param.param_type_name == "argument":
            words.append(label(param))
        elif param.required:
            words.append(f"{param.opts[0]} {value(param)}")
        else:
            words.append(f"[{param.opts[0]} {value(param)}".rstrip() + "]")
    if command.is_group:
        words.append("COMMAND …")
    elif command.context.allow_extra_args:
        words.append("ARGUMENTS…")
    return " ".join(words)


def row(param: Any) -> str:
    meaning = param.help or "–"
    if param.envvar:
        meaning += f" Environment variable: `{param.envvar}`."
    if param.param_type_name == "argument":
        cells = (f"`{label(param)}`", "", default(param), meaning)
    else:
        names = ", ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts])
        cells = (names, value(param), default(param), meaning)
    return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"


def label(param: Any) -> str:
    several = "…" if param.nargs == -1 else ""
    return f"{param.name.upper()}{several}"


def value(param: Any) -> str:
    """What follows the option; '' for a flag."""
    if getattr(param, "is_flag", False):
        return ""
    annotation = getattr(getattr(param, "type_descriptor", None), "annotation", None)
    return VALUES.get(annotation, "TEXT")


def default(param: Any) -> str:
    if param.required:
        return "*required*"
    if param.default is None or callable(param.default) or getattr(param, "is_flag", False):
        return "–"
    return f"`{param.default}`"
