"""What may be named in infra/: variables by who reads them, command lines, ports of hosts."""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import typer

from jobs.local.environment import ROOT
from jobs.local.supervisor import read_procfile
from jobs.names import near
from jobs.settings import ServiceSettings, Settings
from jobs.settings.variables import OTHER_VARIABLES, variables

# Of Amazon's clients: docs.aws.amazon.com, "Environment variables" of its SDKs.
AMAZON = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"}
USAGE_ERROR = typer.BadParameter.__bases__[0]  # Typer has a copy of Click, and names only this one
# Programs of images, with arguments of their own.
PROGRAMS = {"curl", "pg_isready", "python3", "sh", "wget"}
SERVICES = ServiceSettings()
PORTS = {  # host or container -> the port that it listens on by the settings, or by its own default
    "airflow-api": SERVICES.airflow_port,
    "airflow-api-server": SERVICES.airflow_port,  # the service of Airflow's chart
    "mlflow": SERVICES.mlflow_port,
    "pages": SERVICES.registry_port,
    "postgres": 5432,
    "registry": SERVICES.registry_port,
    "s3": 8333,
    "spark": SERVICES.spark_port,
}


def fault_of_variable(name: str) -> str:
    """Why nobody reads this variable, with the nearest that somebody does; empty if it is read."""
    for prefix, known in readers().items():
        if name.startswith(prefix):
            return "" if name in known else unknown("variable", name, known)
    return ""


@cache
def readers() -> dict[str, set[str]]:
    """Prefix -> the variables of that prefix that its program reads."""
    from airflow.configuration import retrieve_configuration_description
    from mlflow import environment_variables
    from psycopg.pq import Conninfo

    airflow = set()
    for section, description in retrieve_configuration_description().items():
        airflow |= {f"AIRFLOW__{section}__{option}".upper() for option in description["options"]}
    return {
        "EVERGREEN_": {*variables(Settings), *OTHER_VARIABLES},
        "AIRFLOW__": airflow,
        "MLFLOW_": {name for name in vars(environment_variables) if name.startswith("MLFLOW_")},
        "AWS_": AMAZON,
        "PG": {option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar},
    }


def fault_of_command(line: list[str]) -> str:
    """Why this command line cannot run; empty if it can."""
    rest = line
    if rest[:2] == ["tini", "--"]:
        rest = rest[2:]
    if rest[:1] == ["/entrypoint"]:
        rest = rest[1:]
    if not rest or (len(rest) == 1 and "\n" in rest[0]):  # a script for `sh -c`
        return ""
    program, *arguments = rest
    if program == "evergreen":
        return fault_of_evergreen(arguments)
    if program == "uvicorn":
        return fault_of_app(next(argument for argument in arguments if ":" in argument))
    if arguments[:1] == ["-m"]:
        return "" if find_spec(arguments[1]) else f"There is no module {arguments[1]}."
    return "" if program in PROGRAMS else unknown("program", program, PROGRAMS | {"evergreen"})


def fault_of_evergreen(arguments: list[str]) -> str:
    """Why `evergreen` would refuse these arguments: by its own command tree."""
    from jobs.cli import app

    command = typer.main.get_command(app)
    context = command.make_context("evergreen", [], resilient_parsing=True)
    name = ""
    while hasattr(command, "list_commands"):  # a group
        if not arguments:
            return "A command is missing."
        name, *arguments = arguments
        found = command.get_command(context, name)
        if found is None:
            return unknown("command", name, command.list_commands(context))
        command = found
    if name == "airflow":
        return fault_of_airflow(arguments)
    if name == "service":
        started = [service.name for service in read_procfile(ROOT / "infra" / "Procfile", {})]
        return "" if arguments[0] in started else unknown("service", arguments[0], started)
    try:
        command.make_context(name, list(arguments))
    except USAGE_ERROR as error:
        return error.format_message()
    return ""


def fault_of_airflow(arguments: list[str]) -> str:
    """Why Airflow's own command line would refuse these arguments."""
    from airflow.cli.cli_parser import get_parser

    try:
        get_parser().parse_args(arguments)
    except SystemExit:
        return f"Airflow has no command line {arguments}."
    return ""


def fault_of_app(place: str) -> str:
    """Why uvicorn would find no application at MODULE:FUNCTION."""
    module, function = place.split(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return f"There is no module {module}."
    tree = ast.parse(Path(spec.origin).read_text())
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return "" if function in functions else unknown("function", function, functions)


def fault_of_address(host: str, port: int) -> str:
    """Why nothing listens at this port of a host or container; empty if something does."""
    name = host.removeprefix("evergreen-").removesuffix(".example.org")
    if name not in PORTS:
        return unknown("host", name, PORTS)
    return "" if port == PORTS[name] else f"{host} listens at port {PORTS[name]}, not {port}."


def unknown(kind: str, name: str, known) -> str:
    close = near(name, sorted(known))
    suggestion = f" Did you mean {close[0]}?" if close else f" Known are {sorted(known)}."
    return f"There is no {kind} {name}.{suggestion}"
