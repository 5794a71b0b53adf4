"""The compose file keeps to its specification, and publishes nothing beyond this machine."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest
from manifests import COMPOSE, ROOT, read_yaml

from jobs.local.supervisor import read_procfile

DOCUMENT = read_yaml(COMPOSE)
OURS = {name: it for name, it in DOCUMENT["services"].items() if it["image"] == "evergreen"}


def schema() -> dict:
    """The specification's own schema, as check-jsonschema carries it."""
    vendored = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    return json.loads(vendored.read_text())


def test_it_keeps_to_the_specification():
    jsonschema.validate(DOCUMENT, schema())


def test_a_misspelt_key_is_found():
    services = {"registry": {**OURS["registry"], "read_onyl": True}}
    with pytest.raises(jsonschema.ValidationError, match="read_onyl"):
        jsonschema.validate({**DOCUMENT, "services": services}, schema())


def test_it_runs_every_service_of_the_process_file_once():
    """PostgreSQL and the S3 server have images of their own."""
    started = [service["command"][-1] for service in OURS.values()]
    lines = read_procfile(ROOT / "infra" / "Procfile", {})
    assert sorted([*started, "database", "storage"]) == sorted(line.name for line in lines)
    assert [name for name, it in OURS.items() if it["command"][-1] != name] == []


def test_every_port_is_published_on_loopback_only():
    published = [port for it in DOCUMENT["services"].values() for port in it.get("ports", [])]
    assert len(published) == 3
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_every_container_is_limited_and_ours_are_locked():
    for name, service in DOCUMENT["services"].items():
        assert "mem_limit" in service, name
    for name, service in OURS.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "healthcheck" in service, name


def test_what_is_waited_for_says_when_it_is_ready():
    services = DOCUMENT["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            ends = how["condition"] == "service_completed_successfully"
            assert ends or "healthcheck" in services[other], (name, other)


def test_what_is_mounted_and_read_is_defined():
    secrets, volumes = DOCUMENT["secrets"], DOCUMENT["volumes"]
    for service in DOCUMENT["services"].values():
        assert set(service.get("secrets", [])) <= secrets.keys()
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            assert source in volumes or source.startswith("${")
