"""`evergreen experiment`: the measurements behind the claims, each of them repeatable."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

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


def run(module: str, *arguments: Any) -> None:
    """Run an experiment of `jobs.reports`, imported only now, and print where its report is."""
    from jobs.settings import load_settings

    report = import_module(f"jobs.reports.{module}").run(load_settings(), *arguments)
    typer.echo(f"Tables and pictures are in {report.folder}.")


def listed(text: str) -> list[str]:
    """The names in a text, which commas separate."""
    return [name.strip() for name in text.split(",") if name.strip()]


@app.command("fold-in")
def fold_in(
    data: Data = None,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Measure how many consumers need to be fitted, and what folding in the others costs.

    Example: evergreen experiment fold-in --data ~/data --out /tmp/fold-in
    """
    run("folding_in", data, seed, out)


@app.command()
def alignment(seed: Seed = 0, out: Out = None) -> None:
    """Measure a ranker that is not retrained, served aligned, unaligned and frozen vectors.

    Example: evergreen experiment alignment --out /tmp/alignment
    """
    run("alignment", seed, out)


@app.command()
def space(
    data: Data = None,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Measure how long vectors of different days stay comparable, on public and simulated logs.

    Example: evergreen experiment space --data ~/data --out /tmp/space
    """
    run("spaces", data, seed, out)


@app.command()
def ctr(
    data: Data = None,
    kinds: Annotated[
        str, typer.Option(help="Kinds of rankers, separated by commas; default: all.")
    ] = "",
    recipe: Annotated[
        str,
        typer.Option(
            help="How rankers learn on Frappe: fuxictr, as published for MaskNet; redrawn, with "
            "negatives of every epoch; counts, with a count of past uses besides."
        ),
    ] = "fuxictr",
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
    run("ctr", data, listed(kinds), recipe, seeds, days, out)


@app.command("masknet-studies")
def masknet_studies(
    data: Data = None,
    studies: Annotated[
        str,
        typer.Option(help="Of ablation, size, blocks, ratio, masks, by commas; default: all."),
    ] = "",
    structures: Annotated[
        str, typer.Option(help="parallel, serial or both, separated by a comma; default: both.")
    ] = "",
    seeds: Annotated[int, typer.Option(help="How often each network is trained.", min=1)] = 3,
    days: Annotated[
        int,
        typer.Option(help="How many of the log's last days are tested; 0: public data.", min=0),
    ] = 1,
    rows: Annotated[
        int | None, typer.Option(help="Train on no more than so many rows; default: all.", min=1)
    ] = None,
    out: Out = None,
) -> None:
    """Repeat the studies of MaskNet's paper: its parts, sizes, blocks, ratios, and its masks.

    Example: evergreen experiment masknet-studies --studies ablation,masks --rows 50000
    """
    run("masknet.run", data, listed(studies), listed(structures), seeds, days, rows, out)


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
    run("features", seeds, days, out)


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
    run("words.run", data, seed, seeds, listed(sets), out)


Fits = Annotated[int, typer.Option(help="How often each method is fitted.", min=1)]


@app.command()
def table1(data: Data = None, seeds: Fits = 3, out: Out = None) -> None:
    """Compare all embedders and baselines: topics, metadata, follow Jaccard, retrieval, time.

    Example: evergreen experiment table1 --data ~/data --out /tmp/table1
    """
    run("tables.run", "table1", data, seeds, out)


@app.command()
def table4(data: Data = None, seeds: Fits = 3, out: Out = None) -> None:
    """Compare them by what vectors tell of topics: categories, known for, interested in.

    Example: evergreen experiment table4 --data ~/data --out /tmp/table4
    """
    run("tables.run", "table4", data, seeds, out)


@app.command()
def lengths(data: Data = None, seeds: Fits = 3, out: Out = None) -> None:
    """Measure what vectors of 300, 100, 50 and 20 numbers keep of long ones, however shortened.

    Example: evergreen experiment lengths --data ~/data --out /tmp/lengths
    """
    run("lengths.run", data, seeds, out)


@app.command("decay-coverage")
def decay_coverage(
    worlds: Annotated[int, typer.Option(help="At each rate of drift.", min=1)] = 40,
    out: Out = None,
) -> None:
    """Check the intervals of the decay curve in simulated worlds, where the true decay is known.

    Example: evergreen experiment decay-coverage --worlds 10 --out /tmp/decay-coverage
    """
    run("decay.coverage", worlds, out)


@app.command()
def hours(
    data: Data = None,
    log: Annotated[
        str, typer.Option(help='"globo", or "log": the engagements of the settings\' log.')
    ] = "globo",
    days: Annotated[
        int, typer.Option(help="How many of the last days have tested hours.", min=1)
    ] = 4,
    window: Annotated[
        int, typer.Option(help="Hours of clicks that vectors are learned from.", min=1)
    ] = 24,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Measure what vectors of news articles lose in hours, and what popularity does.

    Example: evergreen experiment hours --data ~/data --out /tmp/hours
    """
    run("hours.run", data, log, days, window, seed, out)


@app.command()
def dials(
    worlds: Annotated[int, typer.Option(help="At each level of each dial.", min=1)] = 5,
    out: Out = None,
) -> None:
    """Turn every dial of the simulated world, and compare what the loop measures with the truth.

    Example: evergreen experiment dials --worlds 3 --out /tmp/dials
    """
    run("dials.run", worlds, out)


@app.command()
def email(seeds: Fits = 3, out: Out = None) -> None:
    """Measure what a consumer's embedding adds to a ranker of e-mails, by the users' activity.

    Example: evergreen experiment email --seeds 3 --out /tmp/email
    """
    run("newcomers.email", seeds, out)


@app.command("new-user")
def new_user(data: Data = None, seeds: Fits = 3, out: Out = None) -> None:
    """Measure what embeddings of web domains add to the prediction of a new user's follows.

    Example: evergreen experiment new-user --data ~/data --out /tmp/new-user
    """
    run("newcomers.new_user", data, seeds, out)


@app.command()
def table5(seeds: Fits = 3, out: Out = None) -> None:
    """Compare towers and co-occurrence with factorisation: new users, new producers, cost.

    Example: evergreen experiment table5 --out /tmp/table5
    """
    run("newcomers.table5", seeds, out)
