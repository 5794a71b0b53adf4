"""`evergreen tune`: which options suit this log; the same trials as the DAGs of tuning."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Find options of the embedder or the ranker that suit this log; nothing is changed.",
)

Trials = Annotated[int | None, typer.Option(help="Trials in all; default: tuning.trials.", min=1)]


@app.command()
def embedding(
    trials: Trials = None,
    name: Annotated[str, typer.Option(help="A further embedding; default: the first one.")] = "",
) -> None:
    """Tune the options in [tuning.embedding] for NDCG@20 of the next days' engagements.

    A killed run goes on where it was.

    Example: evergreen tune embedding --trials 20
    """
    tune("embedding", trials, name)


@app.command()
def ranker(trials: Trials = None) -> None:
    """Tune the options in [tuning.ranker] for the AUC of the next days' impressions.

    A killed run goes on where it was.

    Example: evergreen tune ranker --trials 20
    """
    tune("ranker", trials)


def tune(kind: str, trials: int | None, name: str = "") -> None:
    """All trials, one after the other, and the result."""
    from jobs.settings import load_settings
    from jobs.tuning import run

    settings = load_settings().of_embedding(name)
    plan = run.begin(settings, kind)
    for slot in range(trials or settings.tuning.trials):
        typer.echo(run.run_trial(settings, plan, slot))
    for line in run.lines(run.finish(settings, plan)):
        typer.echo(line)
