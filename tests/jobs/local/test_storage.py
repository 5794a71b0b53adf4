"""`[storage]`: what the settings accept, what the doctor finds, and the server that may run."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from pydantic import ValidationError

from jobs.lake import Lake
from jobs.local.doctor import storage
from jobs.local.environment import environment
from jobs.local.services import addresses, create_bucket, services
from jobs.local.store_server import command, program_path
from jobs.local.summary import stored
from jobs.settings import Settings, StorageSettings
from tests.object_store import Server
from tests.ports import reserve_port

DAY = date(2022, 4, 25)


def in_a_bucket(settings: Settings, server: Server, prefix: str) -> Settings:
    chosen = StorageSettings(url=f"s3://evergreen/{prefix}", endpoint=server.endpoint, serve=True)
    return settings.model_copy(update={"storage": chosen})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"url": "https://bucket.example.org"}, "expected s3://BUCKET"),
        ({"url": "s3://Upper/prefix"}, "expected s3://BUCKET"),
        ({"endpoint": "127.0.0.1:8333"}, "expected http://HOST:PORT"),
        ({"endpoint": "http://127.0.0.1:port"}, "expected http://HOST:PORT"),
        ({"endpoint": "http://key:secret@127.0.0.1:8333"}, "AWS_ACCESS_KEY_ID"),
        ({"url": "s3://bucket", "endpoint": "http://s3.example.org", "serve": True}, "127.0.0.1"),
        ({"serve": True}, "serve needs a url"),
        ({"cache_gb": 0}, "greater than 0"),
    ],
)
def test_what_cannot_be_a_bucket_is_named(given, message):
    with pytest.raises(ValidationError, match=message):
        StorageSettings(**given)


def test_without_a_bucket_everything_is_where_it_was(settings):
    assert settings.lake.place.root == settings.home / "lake"
    assert settings.registry_place.root == settings.home / "registry" / "versions"
    assert not settings.lake.place.shared


def test_with_a_bucket_a_home_has_copies_only(settings, store_servers, tmp_path):
    chosen = in_a_bucket(settings, store_servers("seaweedfs"), tmp_path.name)
    assert chosen.lake.place.root == settings.home / "copy" / "lake"
    assert chosen.registry_place.root == settings.home / "copy" / "registry"
    with chosen.lake.writing("land", DAY, recipe="r") as staging:
        (staging.path / "text").write_text("three")
    assert not (settings.home / "lake").exists()
    (line,) = stored(chosen)
    assert "lake 3 objects" in line  # the file, the manifest and the released lock
    assert stored(settings) == []


def test_a_look_asks_a_bucket_once(settings, store_servers, tmp_path, monkeypatch):
    """However many manifests are read."""
    chosen = in_a_bucket(settings, store_servers("seaweedfs"), tmp_path.name)
    with chosen.lake.writing("land", DAY, recipe="r"):
        pass
    look = chosen.looking()
    first = look.lake.find("land", DAY)
    assert look.lake.find("land", DAY) == first
    monkeypatch.setattr("embeddings.storage.objects.Objects._store", None)  # any request fails
    for _ in range(3):
        assert look.lake.find("land", DAY) == first
        assert look.lake.find("land", DAY + timedelta(days=1)) is None
    assert isinstance(look.lake, Lake)


def test_the_doctor_refuses_a_store_that_ignores_conditions(store_servers, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    endpoint = store_servers("localbucket").endpoint
    (finding,) = storage(StorageSettings(url="s3://evergreen/home", endpoint=endpoint))
    assert finding.missing
    assert "replaces an object that was written to since it was read" in finding.found
    assert "SeaweedFS" in finding.remedy


def test_the_doctor_has_nothing_to_say_without_a_bucket():
    assert list(storage(StorageSettings())) == []


def test_our_server_is_a_service_and_starts_before_what_needs_it(settings, store_servers, tmp_path):
    server = store_servers("seaweedfs")
    chosen = in_a_bucket(settings, server, tmp_path.name)
    by_name = {service.name: service for service in services(chosen)}
    assert by_name["storage"].port == server.port
    assert by_name["storage"].ready()
    assert "storage" in by_name["registry"].after
    assert "storage" in by_name["airflow-scheduler"].after
    assert environment(chosen)["STORE_PORT"] == str(server.port)
    assert not any(line.startswith("storage") for line in addresses(chosen)), "it has no page"
    create_bucket(chosen.storage)  # it exists
    create_bucket(chosen.storage.model_copy(update={"url": f"s3://bucket-{server.port}/home"}))


def test_our_server_listens_on_loopback_only(tmp_path):
    """Each of its parts has a port of its own."""
    line = command(tmp_path, reserve_port())
    options = dict(word.lstrip("-").split("=", 1) for word in line if "=" in word)
    assert options["ip"] == options["ip.bind"] == "127.0.0.1"
    ports = [value for name, value in options.items() if ".port" in name and value != "0"]
    assert len(set(ports)) == len(ports) == 8
    assert line[0] == program_path()
