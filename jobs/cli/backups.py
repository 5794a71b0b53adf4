"""`evergreen backup` and `evergreen restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(help="Folder of the backup.")]


def backup(folder: Folder) -> None:
    """Write a backup of this home to a folder that does not exist yet, while everything runs.

    Databases, lake and published versions are those of one moment.
    Example: evergreen backup /mnt/backups/2022-05-06
    """
    from jobs.local.backup import backup as make
    from jobs.settings import load_settings

    make(load_settings(), folder.absolute(), typer.echo)
    typer.echo(f"Restore it with: evergreen restore {folder}")


def restore(folder: Folder) -> None:
    """Make the home of the settings from a backup, and compare every file with its digest.

    The home must not have a lake or a registry, its services must be stopped. Exit code 1 where
    something is damaged.  Example: evergreen restore /mnt/backups/2022-05-06
    """
    from jobs.local.backup import restore as make
    from jobs.local.services import database_server
    from jobs.pipeline.verify import verify
    from jobs.settings import load_settings

    settings = load_settings()
    make(settings, folder.absolute(), typer.echo)
    with database_server(settings):
        damaged = verify(settings)
    for fault in damaged:
        typer.secho(str(fault), fg="red", err=True)
    if not damaged:
        typer.echo("Every file is as it was committed.")
    raise typer.Exit(1 if damaged else 0)
