"""What infra/ says of variables, commands and ports, with the place where it says so."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from helm import helm

ROOT = Path(__file__).parents[2]
CHART = ROOT / "infra" / "kubernetes" / "evergreen"
CONTAINERS = ("containers", "initContainers", "extraContainers")
AIRFLOW_VALUES = ROOT / "infra" / "kubernetes" / "airflow.yaml"
PRODUCTION = ROOT / "infra" / "kubernetes" / "production.yaml"
COMPOSE = ROOT / "infra" / "compose" / "compose.yaml"
DOCKERFILE = ROOT / "infra" / "images" / "Dockerfile"
ADDRESS = re.compile(r"\b\w+://(?:\w+@)?([\w-]+):(\d+)")  # without a path, or with one


@dataclass
class Said:
    """variables: names. commands: argument lists. addresses: (host, port). Each with its place."""

    variables: list[tuple[str, str]] = field(default_factory=list)
    commands: list[tuple[str, list[str]]] = field(default_factory=list)
    addresses: list[tuple[str, str, int]] = field(default_factory=list)

    def __add__(self, other: Said) -> Said:
        return Said(
            self.variables + other.variables,
            self.commands + other.commands,
            self.addresses + other.addresses,
        )


def of_compose(document: dict[str, Any]) -> Said:
    """Of a compose file."""
    said = Said()
    for name, service in document["services"].items():
        place = f"compose.yaml: {name}"
        environment = service.get("environment", {})
        said.variables += [(place, variable) for variable in environment]
        said.variables += [(place, secret) for secret in service.get("secrets", [])]
        for text in environment.values():
            said.addresses += addresses(place, str(text))
        for key in ("command", "entrypoint"):
            if key in service:
                said.commands.append((place, service[key]))
        test = service.get("healthcheck", {}).get("test", [])
        if test:
            assert test[0] == "CMD", f"{place}: a health check is a list that begins with CMD"
            said.commands.append((place, test[1:]))
            said.addresses += own_addresses(place, name, test)
        for published in service.get("ports", []):
            _, outside, inside = published.split(":")
            said.addresses += [(place, name, int(outside)), (place, name, int(inside))]
    return said


def of_kubernetes(objects: list[dict[str, Any]]) -> Said:
    """Of rendered objects, or of values that contain containers."""
    said = Said()
    for manifest in objects:
        place = (
            f"{manifest.get('kind', 'airflow.yaml')} {manifest.get('metadata', {}).get('name', '')}"
        )
        if manifest.get("kind") == "ConfigMap" and place.endswith("-environment"):
            said.variables += [(place, variable) for variable in manifest["data"]]
        for container in containers(manifest):
            here = f"{place}: {container['name']}"
            said.variables += [(here, entry["name"]) for entry in container.get("env", [])]
            for key in ("command", "args"):
                if key in container:
                    said.commands.append((here, container[key]))
            for port in container.get("ports", []):
                said.addresses.append((here, container["name"], port["containerPort"]))
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                how = container.get(probe, {})
                if "exec" in how:
                    said.commands.append((here, how["exec"]["command"]))
                for kind in ("httpGet", "tcpSocket"):
                    if kind in how:
                        said.addresses.append((here, container["name"], how[kind]["port"]))
        said.addresses += addresses(place, json.dumps(manifest))
    return said


def of_airflow_values(values: dict[str, Any]) -> Said:
    """Of the values for Airflow's chart: its components, and the containers that we add."""
    said = of_kubernetes([values])
    for component in ("apiServer", "dagProcessor", "scheduler"):
        place = f"airflow.yaml: {component}"
        said.commands.append((place, values[component]["args"]))
        if command := values[component].get("livenessProbe", {}).get("command"):
            said.commands.append((place, command))
    return said


def of_dockerfile(text: str) -> Said:
    """Of a Dockerfile: ENV, CMD, ENTRYPOINT, HEALTHCHECK and EXPOSE."""
    said = Said()
    stage = ""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        instruction, _, rest = line.strip().partition(" ")
        place = f"Dockerfile: {stage}"
        if instruction == "FROM":
            stage = rest.split()[-1]
        elif instruction == "ENV":
            said.variables += [(place, pair.partition("=")[0]) for pair in shlex.split(rest)]
        elif instruction in ("CMD", "ENTRYPOINT"):
            said.commands.append((place, json.loads(rest)))
        elif instruction == "HEALTHCHECK":
            said.commands.append((place, json.loads(rest.partition("CMD ")[2])))
            said.addresses += own_addresses(place, stage, [rest])
        elif instruction == "EXPOSE":
            said.addresses.append((place, stage, int(rest)))
    return said


def addresses(place: str, text: str) -> list[tuple[str, str, int]]:
    return [(place, host, int(port)) for host, port in ADDRESS.findall(text)]


def own_addresses(place: str, name: str, command: list[str]) -> list[tuple[str, str, int]]:
    """The ports that a health check asks in its own container."""
    ports = re.findall(r"127\.0\.0\.1(?::|', )(\d+)", " ".join(command))
    return [(place, name, int(port)) for port in ports]


def containers(node: Any) -> Iterator[dict[str, Any]]:
    """Every container anywhere in an object."""
    if isinstance(node, list):
        for value in node:
            yield from containers(value)
    elif isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, list) and key in CONTAINERS:
                yield from value
            else:
                yield from containers(value)


def read_yaml(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


@cache
def rendered(values: Path | None = None) -> list[dict[str, Any]]:
    """The objects of the chart, with its default values or those of a file, in templates too."""
    answer = helm(CHART, read_yaml(values) if values else {})
    assert not answer["error"], answer["error"]
    objects = []
    for text in answer["files"].values():
        objects += [document for document in yaml.safe_load_all(text) if document]
    templates = []
    for document in objects:
        if "executor.yaml" in document.get("data", {}):
            templates.append(yaml.safe_load(document["data"]["executor.yaml"]))
    return objects + templates


@cache
def everything() -> Said:
    """All that infra/ says."""
    return (
        of_compose(read_yaml(COMPOSE))
        + of_kubernetes(rendered())
        + of_kubernetes(rendered(PRODUCTION))
        + of_airflow_values(read_yaml(AIRFLOW_VALUES))
        + of_dockerfile(DOCKERFILE.read_text())
    )
