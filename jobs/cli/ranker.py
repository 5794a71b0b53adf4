"""`evergreen ranker`: which ranker serves and why, a person's word on it, and its export."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="See which ranker serves and why; promote another one, go back, or take one elsewhere.",
)

Reason = Annotated[str, typer.Option(help="Why, in one line; kept with the decision.")]


@app.command()
def decisions(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
) -> None:
    """Show who serves from each day on, by how much the challenger differed, and why.

    Example: evergreen ranker decisions
    """
    from jobs.pipeline import rulings
    from jobs.settings import load_settings
    from jobs.terminal import console

    made = rulings.decisions(load_settings())
    if as_json:
        found = [{"day": str(day.day), **day.facts} for day in made]
        typer.echo(json.dumps(found, indent=1))
    else:
        console().print(rulings.table(made))


@app.command()
def promote(
    day: Annotated[
        datetime,
        typer.Argument(formats=["%Y-%m-%d"], help="The day up to which the ranker was trained."),
    ],
    reason: Reason = "",
) -> None:
    """Let the ranker of a day serve from the newest decided day on, whatever the gate says.

    Example: evergreen ranker promote 2022-05-03 --reason "the newer one lost likes"
    """
    from jobs.settings import load_settings

    _apply(load_settings(), day.date(), reason)


@app.command()
def rollback(reason: Reason = "") -> None:
    """Let the champion before this one serve again, with its embeddings and calibration.

    Example: evergreen ranker rollback --reason "complaints since this morning"
    """
    from jobs.pipeline.rulings import previous_champion
    from jobs.settings import load_settings

    settings = load_settings()
    _apply(settings, previous_champion(settings), reason)


@app.command()
def train(
    day: Annotated[
        datetime,
        typer.Option(formats=["%Y-%m-%d"], help="The day up to which the ranker is trained."),
    ],
) -> None:
    """Train the ranker of a day on one process, or on all that torchrun starts.

    On two: torchrun --standalone --nproc-per-node 2 -m jobs.cli ranker train --day 2022-05-03
    Example: evergreen ranker train --day 2022-05-03
    """
    from jobs.settings import load_settings
    from jobs.spark.session import spark_session
    from jobs.training.together import train_together

    settings = load_settings()
    partition = train_together(settings, day.date(), lambda: spark_session(settings))
    if partition is not None:  # in the first process
        typer.echo(f"{partition.key} {partition.digest}")


@app.command()
def export(
    out: Annotated[
        Path, typer.Argument(help="The folder to write; it may exist.", file_okay=False)
    ],
    model: Annotated[
        str, typer.Option(help="champion, or the day up to which the ranker was trained.")
    ] = "champion",
    form: Annotated[str, typer.Option("--format", help="onnx or torch.")] = "onnx",
) -> None:
    """Export a ranker as ONNX or torch.export, with a script that scores where only NumPy is.

    Example: evergreen ranker export /tmp/ranker --format onnx
    """
    from jobs.serving.exporting import run as run_export
    from jobs.settings import load_settings
    from jobs.terminal import console

    run_export(load_settings(), model, form, out, console())


def _apply(settings, champion, reason: str) -> None:
    """Rule, and move the aliases."""
    from jobs.pipeline import running
    from jobs.pipeline.rulings import rule
    from jobs.spark.session import spark_session

    ruling = rule(settings, champion, reason)
    running.request(settings, "promote", ruling.day, lambda: spark_session(settings))
    typer.echo(f"From {ruling.day} on, the ranker of {champion} serves.")
