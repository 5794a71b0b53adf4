"""`evergreen databases`: those on the PostgreSQL server of `database.url`."""

from __future__ import annotations

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Create the databases on a PostgreSQL server, and move a home's SQLite files there.",
)


@app.command()
def create() -> None:
    """Create what is missing on the server of database.url, and list what this home uses there.

    The services do this by themselves; `evergreen run` does not. Exit code 1 where a database
    cannot be used.  Example: evergreen databases create
    """
    from jobs.local.databases import create_missing, databases
    from jobs.local.services import database_server
    from jobs.settings import load_settings

    settings = load_settings()
    with database_server(settings):
        created = create_missing(settings)
        found = databases(settings)
    for database in found:
        state = "created" if database.name in created else "exists"
        if database.problem:
            state = f"{database.problem}. {database.remedy}"
        typer.echo(f"{database.name:<24} {state}")
    raise typer.Exit(1 if any(database.problem for database in found) else 0)


@app.command()
def move() -> None:
    """Copy this home's SQLite databases to the server of database.url, and compare every row.

    The services must be stopped. Moved are the registry's catalog, MLflow's runs and the studies of
    tuning; the files stay. Airflow begins anew.  Example: evergreen databases move
    """
    from jobs.local.moving import move as move_all
    from jobs.settings import load_settings

    move_all(load_settings(), typer.echo)
