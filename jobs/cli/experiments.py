"""`evergreen experiment`: the measurements behind the claims, each of them repeatable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Repeat the measurements behind the claims about embeddings and rankers.",
)

Data = Annotated[
    Path | None,
    typer.Option(
        envvar="EVERGREEN_DATA",
        exists=True,
        file_okay=False,
        help="The folder with public data sets; those that it lacks are left out.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of splits, solvers, rankers and intervals.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder for tables and pictures; default: home/reports/experiments."),
]


@app.command("fold-in")
def fold_in(
    data: Data = None,
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


@app.command()
def alignment(seed: Seed = 0, out: Out = None) -> None:
    """Measure a ranker that is not retrained, served aligned, unaligned and frozen vectors.

    Example: evergreen experiment alignment --out /tmp/alignment
    """
    from jobs.reports.alignment import run as run_experiment
    from jobs.settings import load_settings

    report = run_experiment(load_settings(), seed, out)
    typer.echo(f"Tables and pictures are in {report.folder}.")


@app.command()
def space(
    data: Data = None,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Measure how long vectors of different days stay comparable, on public and simulated logs.

    Example: evergreen experiment space --data ~/data --out /tmp/space
    """
    from jobs.reports.spaces import run as run_experiment
    from jobs.settings import load_settings

    report = run_experiment(load_settings(), data, seed, out)
    typer.echo(f"Tables and pictures are in {report.folder}.")


@app.command()
def ctr(
    data: Data = None,
    kinds: Annotated[
        str, typer.Option(help="Kinds of rankers, separated by commas; default: all.")
    ] = "",
    seeds: Annotated[int, typer.Option(help="How often each is trained.", min=1)] = 3,
    days: Annotated[
        int,
        typer.Option(help="How many of the log's last days are tested; 0: Frappe alone.", min=0),
    ] = 3,
    out: Out = None,
) -> None:
    """Compare all kinds of rankers on the next days of the log, and on Frappe where it is present.

    Example: evergreen experiment ctr --kinds masknet,dnn --seeds 2 --days 2 --out /tmp/ctr
    """
    from jobs.reports.ctr import run as run_experiment
    from jobs.settings import load_settings

    chosen = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    report = run_experiment(load_settings(), data, chosen, seeds, days, out)
    typer.echo(f"Tables and pictures are in {report.folder}.")


@app.command()
def features(
    seeds: Annotated[int, typer.Option(help="How often each ranker is trained.", min=1)] = 3,
    days: Annotated[
        int, typer.Option(help="How many of the log's last days are tested.", min=1)
    ] = 3,
    out: Out = None,
) -> None:
    """Measure what counts, ids, vectors and what vectors say of a pair add to the ranker.

    Example: evergreen experiment features --days 2 --out /tmp/features
    """
    from jobs.reports.features import run as run_experiment
    from jobs.settings import load_settings

    report = run_experiment(load_settings(), seeds, days, out)
    typer.echo(f"Tables and pictures are in {report.folder}.")


@app.command()
def words(
    data: Data = None,
    seed: Seed = 0,
    seeds: Annotated[int, typer.Option(help="How many simulated worlds of each kind.", min=1)] = 3,
    sets: Annotated[
        str, typer.Option(help="Sets of texts, separated by commas; default: all.")
    ] = "",
    out: Out = None,
) -> None:
    """Measure how vocabularies turn over and words change their meaning, on tweets and in worlds.

    Example: evergreen experiment words --sets simulated --seeds 2 --out /tmp/words
    """
    from jobs.reports.words.run import run as run_experiment
    from jobs.settings import load_settings

    chosen = [name.strip() for name in sets.split(",") if name.strip()]
    report = run_experiment(load_settings(), data, seed, seeds, chosen, out)
    typer.echo(f"Tables and pictures are in {report.folder}.")


Fits = Annotated[int, typer.Option(help="How often each method is fitted.", min=1)]


@app.command()
def table1(data: Data = None, seeds: Fits = 3, out: Out = None) -> None:
    """Compare all embedders and baselines: topics, metadata, follow Jaccard, retrieval, time.

    Example: evergreen experiment table1 --data ~/data --out /tmp/table1
    """
    compare_methods("table1", data, seeds, out)


@app.command()
def table4(data: Data = None, seeds: Fits = 3, out: Out = None) -> None:
    """Compare them by what vectors tell of topics: categories, known for, interested in.

    Example: evergreen experiment table4 --data ~/data --out /tmp/table4
    """
    compare_methods("table4", data, seeds, out)


@app.command()
def lengths(data: Data = None, seeds: Fits = 3, out: Out = None) -> None:
    """Measure what vectors of 300, 100, 50 and 20 numbers keep of long ones, however shortened.

    Example: evergreen experiment lengths --data ~/data --out /tmp/lengths
    """
    from jobs.reports.lengths.run import run as run_experiment
    from jobs.settings import load_settings

    report = run_experiment(load_settings(), data, seeds, out)
    typer.echo(f"Tables and pictures are in {report.folder}.")


def compare_methods(table: str, data: Path | None, seeds: int, out: Path | None) -> None:
    from jobs.reports.tables.run import run as run_experiment
    from jobs.settings import load_settings

    report = run_experiment(load_settings(), table, data, seeds, out)
    typer.echo(f"Tables and pictures are in {report.folder}.")


@app.command("decay-coverage")
def decay_coverage(
    worlds: Annotated[int, typer.Option(help="At each rate of drift.", min=1)] = 40,
    out: Out = None,
) -> None:
    """Check the intervals of the decay curve in simulated worlds, where the true decay is known.

    Example: evergreen experiment decay-coverage --worlds 10 --out /tmp/decay-coverage
    """
    from jobs.reports.decay.coverage import run as run_experiment
    from jobs.settings import load_settings

    report = run_experiment(load_settings(), worlds, out)
    typer.echo(f"Tables and pictures are in {report.folder}.")


@app.command()
def email(seeds: Fits = 3, out: Out = None) -> None:
    """Measure what a consumer's embedding adds to a ranker of e-mails, by the users' activity.

    Example: evergreen experiment email --seeds 3 --out /tmp/email
    """
    from jobs.reports.newcomers.email import run as run_experiment
    from jobs.settings import load_settings

    report = run_experiment(load_settings(), seeds, out)
    typer.echo(f"Tables and pictures are in {report.folder}.")


@app.command("new-user")
def new_user(data: Data = None, seeds: Fits = 3, out: Out = None) -> None:
    """Measure what embeddings of web domains add to the prediction of a new user's follows.

    Example: evergreen experiment new-user --data ~/data --out /tmp/new-user
    """
    from jobs.reports.newcomers.new_user import run as run_experiment
    from jobs.settings import load_settings

    report = run_experiment(load_settings(), data, seeds, out)
    typer.echo(f"Tables and pictures are in {report.folder}.")


@app.command()
def table5(seeds: Fits = 3, out: Out = None) -> None:
    """Compare towers and co-occurrence with factorisation: new users, new producers, cost.

    Example: evergreen experiment table5 --out /tmp/table5
    """
    from jobs.reports.newcomers.table5 import run as run_experiment
    from jobs.settings import load_settings

    report = run_experiment(load_settings(), seeds, out)
    typer.echo(f"Tables and pictures are in {report.folder}.")
