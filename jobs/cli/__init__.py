"""`evergreen`: the command line.

A command imports what it needs when it runs, so that every other command starts at once.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from embeddings.registry.errors import RegistryError
from embeddings.storage.objects import StoreError
from jobs.cli import backups
from jobs.cli.databases import app as databases
from jobs.cli.experiments import app as experiment
from jobs.cli.ranker import app as ranker
from jobs.cli.tuning import app as tune
from jobs.errors import EvergreenError, SettingsError, Skip

DAY = ["%Y-%m-%d"]
log = logging.getLogger(__name__)


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
        except (EvergreenError, RegistryError, StoreError, Skip) as error:
            from jobs import logs
            from jobs.terminal import visible

            if logs.is_json():
                log.error("%s", error)
                raise typer.Exit(1) from None
            # The line breaks are ours; what else cannot be seen is the log's.
            lines = [visible(line) for line in str(error).split("\n")]
            typer.secho("\n".join(lines), fg="red", err=True)
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
    configure_logs()
    ctx.obj = open_registry  # `evergreen registry …` calls it


def settings_with_warnings():
    """The settings, after a word about every option that has no effect on this log."""
    from jobs import logs
    from jobs.settings import load_settings
    from jobs.settings.effects import without_effect
    from jobs.terminal import visible

    settings = load_settings()
    for sentence in without_effect(settings):
        if logs.is_json():
            log.warning("%s", sentence)
        else:
            typer.secho(visible(sentence), fg="yellow", err=True)
    return settings


def configure_logs() -> None:
    """Log as `services.log_format` says. Where the settings cannot be read, the command says so."""
    from jobs import logs
    from jobs.settings import load_settings

    with suppress(SettingsError):
        logs.configure(load_settings().services.log_format)


def open_registry():
    """The registry that the settings name."""
    from jobs.settings import load_settings

    return load_settings().open_registry()


def require_order(first: datetime, last: datetime) -> None:
    """Raise EvergreenError where the first day is after the last one."""
    if first > last:
        raise EvergreenError(
            f"--from {first.date()} is after --to {last.date()}: no day is between them. Swap them."
        )


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
def init(
    path: Annotated[Path, typer.Argument(help="The log: a file, a folder, or a glob.")],
    output: Annotated[Path, typer.Option(help="The settings file to write.")] = Path("my.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the settings file.")] = False,
) -> None:
    """Look at a log of your own, show how it is understood, and write a settings file for it.

    Example: evergreen init ratings.csv --output my.toml
    """
    from jobs.own_log.start import start

    start(path, output, force)


@app.command()
def check(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
) -> None:
    """Read the log and report what would be landed of each file, and what put aside and why.

    Nothing is landed. Exit code 1 where a file cannot be read.
    Example: evergreen check
    """
    from rich.console import Console

    from jobs.own_log import checking
    from jobs.terminal import console

    settings = settings_with_warnings()
    if as_json:
        report = checking.check(settings, Console(stderr=True))
        typer.echo(json.dumps(report.as_json(), indent=1))
    else:
        report = checking.check(settings, console())
        checking.show(report, settings, console())
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def up() -> None:
    """Run the services until Ctrl-C, to browse results.  Example: evergreen up"""
    from jobs.local.demo import serve

    serve(settings_with_warnings())


@app.command()
def service(
    name: Annotated[
        str, typer.Argument(help="Such as registry; an unknown one is answered with the list.")
    ],
) -> None:
    """Run one service in the foreground, as a container does.

    What it needs must run already, and no other process may run it on this home.
    Example: evergreen service registry
    """
    from jobs.local.one_service import run_service
    from jobs.settings import load_settings

    run_service(load_settings(), name)


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

    settings = settings_with_warnings()

    def decay() -> list[str]:
        from jobs.reports.decay.run import end_of_demo

        return end_of_demo(settings)

    raise typer.Exit(0 if run_demo(settings, days, decay).ok else 1)


@app.command()
def step(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of the step, such as matrix; an unknown one is answered with the list."
        ),
    ],
    day: Annotated[datetime, typer.Option(formats=DAY, help="The partition.")],
    embedding: Annotated[
        str, typer.Option(help="A further embedding of the settings; default: the first one.")
    ] = "",
) -> None:
    """Run one step of one day, its missing inputs first.

    Example: evergreen step matrix --day 2022-04-25
    """
    from jobs.pipeline import running
    from jobs.spark.session import spark_session

    settings = settings_with_warnings().of_embedding(embedding)
    partition = running.execute(settings, name, day.date(), lambda: spark_session(settings))
    typer.echo(f"{partition.key} {partition.digest}")
    for fact, value in sorted(partition.facts.items()):
        typer.echo(f"  {fact}: {value}")


@app.command()
def run(
    first: Annotated[datetime, typer.Option("--from", formats=DAY, help="The first day.")],
    last: Annotated[datetime, typer.Option("--to", formats=DAY, help="The last day, included.")],
) -> None:
    """Run these days without Airflow; what is current is reused.

    Example: evergreen run --from 2022-04-24 --to 2022-04-28
    """
    from jobs.pipeline.loop import report_reasons, run_days

    require_order(first, last)
    board, reasons = run_days(settings_with_warnings(), first.date(), last.date())
    report_reasons(board, reasons)
    raise typer.Exit(1 if board.failed() else 0)


@app.command()
def words(
    first: Annotated[
        datetime, typer.Option("--from", formats=DAY, help="A day of the first week.")
    ],
    last: Annotated[datetime, typer.Option("--to", formats=DAY, help="A day of the last week.")],
) -> None:
    """Learn and publish the words of these weeks, and print the post about the last one.

    The settings say in [words] where the texts are; what is current is reused.
    Example: evergreen words --from 2024-01-01 --to 2024-01-28
    """
    from jobs.pipeline.loop import report_reasons, run_weeks
    from jobs.settings import load_settings
    from jobs.words.weeks import weeks_between, words_of

    require_order(first, last)
    settings = load_settings()
    words_of(settings)  # raises where there are none
    board, reasons = run_weeks(settings, weeks_between(first.date(), last.date()))
    report_reasons(board, reasons)
    post = settings.lake.find("words_post", board.days[-1])
    if post is not None:
        typer.echo((post.path / "post.md").read_text())
    raise typer.Exit(1 if board.failed() else 0)


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
) -> None:
    """Show data, embeddings and ranker: newest day, age, what is stale and why.

    Exit code 1 where something is late.  Example: evergreen status
    """
    from datetime import UTC

    from jobs.pipeline import status as pipeline_status
    from jobs.settings import load_settings

    found = pipeline_status.status(load_settings(), datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=1))
    else:
        for line in pipeline_status.lines(found):
            typer.echo(line)
    raise typer.Exit(1 if found.late else 0)


@app.command()
def backfill(
    first: Annotated[
        datetime | None, typer.Option("--from", formats=DAY, help="The first day; default: any.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=DAY, help="The last day; default: any.")
    ] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only days of which something is not current.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show, but run nothing.")] = False,
    here: Annotated[
        bool, typer.Option("--here", help="Run in this process, also where Airflow runs.")
    ] = False,
) -> None:
    """Run old days again as far as they are not current: by Airflow if it runs, or else here.

    Example: evergreen backfill --from 2022-04-25 --to 2022-05-06 --changed --dry-run
    """
    from jobs.local.backfill import run
    from jobs.pipeline import backfill as plan

    if first and last:
        require_order(first, last)
    settings = settings_with_warnings()
    days = plan.days_of(settings, first and first.date(), last and last.date(), changed)
    for line in plan.lines(days):
        typer.echo(line)
    to_run = [planned.day for planned in days if planned.to_run]
    if to_run and not dry_run:
        raise typer.Exit(0 if run(settings, to_run[0], to_run[-1], here) else 1)


@app.command()
def verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="Compute damaged partitions and versions again.")
    ] = False,
) -> None:
    """Compare every file of the lake and the registry with the digest it was committed with.

    Exit code 1 where something is damaged.  Example: evergreen verify
    """
    from jobs.pipeline.verify import repair as repair_all
    from jobs.pipeline.verify import verify as verify_all
    from jobs.settings import load_settings

    settings = load_settings()
    damaged = verify_all(settings)
    for fault in damaged:
        typer.secho(str(fault), fg="red", err=True)
    if damaged and repair:
        damaged = repair_all(settings, damaged)
        for fault in damaged:
            typer.secho(f"Not repaired: {fault}", fg="red", err=True)
    if not damaged:
        typer.echo("Every file is as it was committed.")
    raise typer.Exit(1 if damaged else 0)


@app.command()
def gc(
    keep: Annotated[int, typer.Option(help="Days to keep, the newest ones.", min=1)] = 90,
    delete: Annotated[bool, typer.Option("--delete", help="Delete what is shown.")] = False,
) -> None:
    """Show what nothing needs any more: lake, registry, reports, logs, MLflow runs.

    Kept are the newest days and what they read, versions with an alias, and registered models.
    Example: evergreen gc --keep 60 --delete
    """
    from jobs.pipeline import garbage
    from jobs.settings import load_settings

    settings = load_settings()
    found = garbage.find(settings, keep)
    for line in garbage.lines(found):
        typer.echo(line)
    if delete:
        garbage.delete(settings, found)
        typer.echo("Deleted.")
    elif found:
        typer.echo("Nothing was deleted: run again with --delete.")


@app.command()
def recommend(
    consumer: Annotated[str, typer.Option(help="Id of the consumer; an unknown one is new.")],
    day: Annotated[datetime, typer.Option(formats=DAY, help="Nothing of it or later is used.")],
    top: Annotated[int, typer.Option(help="How many items.", min=1)] = 10,
    hour: Annotated[int, typer.Option(help="Hour of the day, UTC.", min=0, max=23)] = 12,
    context: Annotated[
        list[str] | None, typer.Option(help="A context as NAME=VALUE; may be given repeatedly.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
) -> None:
    """Recommend items to a consumer with the champion of a day, and show what each stage took.

    Example: evergreen recommend --consumer 1196 --day 2022-05-06 --top 5
    """
    from jobs.serving.recommending import run as run_recommend
    from jobs.settings import load_settings
    from jobs.terminal import console

    given = {}
    for text in context or []:
        name, separator, value = text.partition("=")
        if not separator:
            raise EvergreenError(f"--context {text} is not of the form NAME=VALUE.")
        given[name] = value
    shown = None if as_json else console()
    found = run_recommend(load_settings(), consumer, day.date(), top, hour, given, shown)
    if as_json:
        typer.echo(json.dumps(found, indent=1))


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the files of the days.")],
    days: Annotated[int, typer.Option(help="How many days.")] = 14,
    consumers: Annotated[int, typer.Option(help="How many there are on any day.")] = 100_000,
    producers: Annotated[int, typer.Option(help="How many there are on any day.")] = 2_000,
    impressions: Annotated[float, typer.Option(help="Mean per consumer and day.")] = 0.3,
    drift: Annotated[float, typer.Option(help="A multiple of the usual rates; 0: still.")] = 1.0,
    shock: Annotated[
        list[datetime] | None,
        typer.Option(formats=DAY, help="A day on which everything turns; may be repeated."),
    ] = None,
    first: Annotated[datetime, typer.Option("--from", formats=DAY, help="The first day.")] = (
        datetime(2024, 1, 1)
    ),
    seed: Annotated[int, typer.Option(help="Other seeds are other worlds.")] = 0,
) -> None:
    """Write the days of a world in which the truth is known, as Parquet files.

    Example: evergreen simulate --out /tmp/world --days 3 --consumers 10000
    """
    from jobs.simulated.write import simulate as write_days
    from jobs.sources.simulated import checked

    settings = checked(
        days=days,
        consumers=consumers,
        producers=producers,
        impressions=impressions,
        drift=drift,
        shocks=[day.date() for day in shock or []],
        first_day=first.date(),
        seed=seed,
    )
    typer.echo(write_days(settings.world(), settings.first_day, days, out))


@app.command()
def decay(
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=DAY, help="The first day; default: the last two weeks."),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option("--to", formats=DAY, help="The last day, included; default: the newest."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="How often each fit is repeated.", min=1)] = 3,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="From what the loop has stored: nothing is fitted again."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the report; default: home/reports/experiments/decay."),
    ] = None,
) -> None:
    """Measure what is lost on days without a refresh: retrieval, ranker, costs; as a page.

    Example: evergreen decay --from 2022-04-24 --to 2022-05-06 --out /tmp/decay
    """
    from jobs.reports.decay.run import report_on
    from jobs.settings import load_settings

    if first and last:
        require_order(first, last)
    days = (first and first.date(), last and last.date())
    for line in report_on(load_settings(), *days, seeds, out, quick):
        typer.echo(line)


app.command()(backups.backup)
app.command()(backups.restore)
app.add_typer(databases, name="databases")
app.add_typer(ranker, name="ranker")
app.add_typer(tune, name="tune")
app.add_typer(experiment, name="experiment")
