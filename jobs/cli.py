"""`evergreen`: the command line.

A command imports what it needs when it runs, so that every other command starts at once.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from embeddings.registry.errors import RegistryError
from jobs.errors import EvergreenError, Skip

DAY = ["%Y-%m-%d"]


class Commands(TyperGroup):
    """Mounts `evergreen registry` on first use; shows our errors without a traceback."""

    def get_command(self, ctx, name):
        if name != "registry":
            return super().get_command(ctx, name)
        from embeddings.registry.commands import app as registry

        command = typer.main.get_command(registry)
        command.name = name
        return command

    def list_commands(self, ctx):
        return [*super().list_commands(ctx), "registry"]

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (EvergreenError, RegistryError, Skip) as error:
            typer.secho(str(error), fg="red", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_show_locals=False)


@app.callback()
def main(
    ctx: typer.Context,
    settings: Annotated[
        Path | None, typer.Option(help="The settings file; default: evergreen.toml of the project.")
    ] = None,
) -> None:
    """Evergreen keeps a recommender fresh: daily embeddings, their registry, a tested ranker."""
    if settings:
        os.environ["EVERGREEN_SETTINGS"] = str(settings.resolve())
    ctx.obj = open_registry  # `evergreen registry …` calls it


def open_registry():
    """The registry that the settings name."""
    from jobs.settings import load_settings

    return load_settings().open_registry()


@app.command()
def doctor() -> None:
    """Check whether this machine can run Evergreen, and name a remedy for what is missing.

    Example: evergreen doctor
    """
    from jobs.local.doctor import examine, show
    from jobs.settings import load_settings

    findings = examine(load_settings())
    show(findings)
    raise typer.Exit(1 if any(finding.missing for finding in findings) else 0)


@app.command()
def up() -> None:
    """Run the services until Ctrl-C, to browse results.  Example: evergreen up"""
    from jobs.local.demo import serve
    from jobs.settings import load_settings

    serve(load_settings())


# Every argument, --help included, is passed on to Airflow.
@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    }
)
def airflow(ctx: typer.Context) -> None:
    """Run Airflow's own command line on this home.  Example: evergreen airflow dags list"""
    from jobs.local.environment import environment
    from jobs.settings import load_settings

    env = environment(load_settings())
    # Replaces this process, so that signals and the exit code are Airflow's own.
    os.execvpe("airflow", ["airflow", *ctx.args], env)


@app.command()
def demo(
    days: Annotated[
        int | None,
        typer.Option(help="How many days after day zero; default: all that are bundled.", min=1),
    ] = None,
) -> None:
    """Run the days of the log through Airflow and show a summary.

    Example: evergreen demo --days 4
    """
    from jobs.local.demo import demo as run_demo
    from jobs.settings import load_settings

    raise typer.Exit(0 if run_demo(load_settings(), days).ok else 1)


@app.command()
def step(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of the step, such as matrix; an unknown one is answered with the list."
        ),
    ],
    day: Annotated[datetime, typer.Option(formats=DAY, help="The partition.")],
) -> None:
    """Run one step of one day, its missing inputs first.

    Example: evergreen step matrix --day 2022-04-25
    """
    from jobs.pipeline import plan
    from jobs.settings import load_settings
    from jobs.spark.session import spark_session

    settings = load_settings()
    partition = plan.execute(settings, name, day.date(), lambda: spark_session(settings))
    typer.echo(f"{partition.key} {partition.digest}")
    for fact, value in sorted(partition.facts.items()):
        typer.echo(f"  {fact}: {value}")


@app.command()
def run(
    first: Annotated[datetime, typer.Option("--from", formats=DAY, help="The first day.")],
    last: Annotated[datetime, typer.Option("--to", formats=DAY, help="The last day, included.")],
) -> None:
    """Run every step of these days without Airflow.

    Example: evergreen run --from 2022-04-24 --to 2022-04-28
    """
    from jobs.pipeline.loop import run_days
    from jobs.settings import load_settings

    board, reasons = run_days(load_settings(), first.date(), last.date())
    for (day, name), reason in reasons.items():
        typer.secho(
            f"{day} {name}: {reason}",
            fg="red" if board.cell(day, name).state == "failed" else None,
            err=True,
        )
    raise typer.Exit(1 if board.failed() else 0)


experiment = typer.Typer(
    no_args_is_help=True, help="Repeat the measurements behind the claims about embeddings."
)
app.add_typer(experiment, name="experiment")

Seed = Annotated[int, typer.Option(help="Seed of splits, solvers, rankers and intervals.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder for tables and pictures; default: home/reports/experiments."),
]


@experiment.command("fold-in")
def fold_in(
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="EVERGREEN_DATA",
            exists=True,
            file_okay=False,
            help="The folder with Last.fm and MovieLens; without it they are left out.",
        ),
    ] = None,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Measure how many consumers need to be fitted, and what folding in the others costs.

    Example: evergreen experiment fold-in --data ~/data --out /tmp/fold-in
    """
    from jobs.reports.folding_in import run as run_experiment
    from jobs.settings import load_settings

    report = run_experiment(load_settings(), data, seed, out)
    typer.echo(f"Tables and pictures are in {report.folder}.")


@experiment.command()
def alignment(seed: Seed = 0, out: Out = None) -> None:
    """Measure a ranker that is not retrained, served aligned, unaligned and frozen vectors.

    Example: evergreen experiment alignment --out /tmp/alignment
    """
    from jobs.reports.alignment import run as run_experiment
    from jobs.settings import load_settings

    report = run_experiment(load_settings(), seed, out)
    typer.echo(f"Tables and pictures are in {report.folder}.")


if __name__ == "__main__":
    app()
