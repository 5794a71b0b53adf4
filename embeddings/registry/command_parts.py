"""What all commands of the registry share: opening it, options, and messages of errors."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from embeddings.registry.client import Registry
from embeddings.registry.errors import RegistryError


class RegistryCommands(TyperGroup):
    """Commands that report a RegistryError by its message and exit code 1, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RegistryError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from None


Name = Annotated[str, typer.Argument(help="Name of the embedding, as `list` shows it.")]
Alias = Annotated[str, typer.Argument(metavar="ALIAS", help="For example serving.")]
Day = Annotated[
    str, typer.Option(help="A day (2022-04-25), one revision of it (2022-04-25.r1), or an alias.")
]
Space = Annotated[
    str | None,
    typer.Option(help="The space in which the vectors will be used; any other is refused."),
]
Dim = Annotated[
    int | None,
    typer.Option(
        help="Length of the vectors: a learned one where the version has it, else so many leading "
        "numbers."
    ),
]
Reason = Annotated[str, typer.Option(help="Kept in the history of the alias.")]
VersionId = Annotated[
    str, typer.Argument(metavar="NAME[/VERSION]", help="By default the latest version.")
]
Json = Annotated[bool, typer.Option("--json", help="Print everything as JSON, for programs.")]
Key = Annotated[str, typer.Argument(metavar="ENTITY:ID", help="For example producer:1196.")]
Keys = Annotated[
    list[str], typer.Argument(metavar="ENTITY:ID", help="One or more, for example producer:1196.")
]


def registry_of(ctx: typer.Context) -> Registry:
    """The registry, opened by the function that the mounting command line has set."""
    return ctx.obj()


def reference(version: dict[str, Any]) -> str:
    """The version within its embedding, as --day takes it: 2022-04-25.r1."""
    return version["id"].removeprefix(f"{version['name']}/")


def counts(version: dict[str, Any], entity: str) -> dict[str, int]:
    """The rows of an entity and how many were folded in; zeros if the version does not have it."""
    return version["entities"].get(entity, {"rows": 0, "folded": 0})
