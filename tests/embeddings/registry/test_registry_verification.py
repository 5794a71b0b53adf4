"""Bytes of versions are read again, some at a time, and what was found is on record."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from registry_parts import DAY, publish, publish_profile
from sqlalchemy import text

from embeddings.registry.client import Registry, Version
from embeddings.registry.errors import DamagedVersion, UnknownName

FILE = "consumer/shard-00000/vectors.npy"


def damage(version: Version) -> None:
    """Another byte at the end; size and times stay."""
    file = version.path / FILE
    times = file.stat()
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def publish_days(registry: Registry, n: int) -> list[Version]:
    return [publish(registry, DAY + timedelta(days=number), seed=number) for number in range(n)]


def test_every_version_gets_its_turn(registry):
    """Two fit into a day's reading: three days read five versions, and the fourth begins again."""
    published = [version.id for version in publish_days(registry, 5)]
    size = registry.version("author").size_bytes
    days = [[id_ for id_, _ in registry.verify_next(2 * size + 50)] for _ in range(4)]
    assert days[:3] == [published[:2], published[2:4], [published[4], published[0]]]
    assert days[3] == published[1:3]


def test_one_version_is_read_however_large_it_is(plain):
    first, _ = publish_days(plain, 2)
    assert list(plain.verify_next(0)) == [(first.id, [])]


def test_damage_is_found_recorded_and_forgotten_when_it_is_repaired(registry):
    first, second = publish_days(registry, 2)
    damage(first)
    found = dict(registry.verify_next(10**9))
    assert found == {first.id: [f"{FILE} (changed)"], second.id: []}
    recorded = registry.verifications("author")
    assert {id_: one.faults for id_, one in recorded.items()} == found
    for one in recorded.values():
        assert datetime.now(UTC) - one.verified_at < timedelta(minutes=1)
    assert registry.verified().damaged == {first.id: [f"{FILE} (changed)"]}
    assert publish(registry, DAY, seed=0) == first  # replaces the damaged file
    assert registry.verifications("author").keys() == {second.id}
    assert (registry.verified().unverified, registry.verified().damaged) == (1, {})


@pytest.mark.parametrize("verb", ["verify", "verify_all", "verify_next"])
def test_every_way_of_verifying_is_recorded(plain, verb):
    (version,) = publish_days(plain, 1)
    damage(version)
    if verb == "verify":
        with pytest.raises(DamagedVersion, match=f"{FILE} .changed"):
            plain.verify(version)
    elif verb == "verify_all":
        assert dict(plain.verify_all())[version.id]
    else:
        assert dict(plain.verify_next(0))[version.id]
    assert plain.verifications("author")[version.id].faults == [f"{FILE} (changed)"]


def test_a_removed_version_has_neither_a_record_nor_faults(registry):
    first, second = publish_days(registry, 2)
    turns = registry.verify_next(10**9)
    registry.remove(first)  # after the versions were listed, as another process may
    assert [id_ for id_, _ in turns] == [second.id]
    assert registry.verifications("author").keys() == {second.id}
    with pytest.raises(UnknownName):
        registry.verifications("autor")


def test_a_version_has_the_size_of_its_files(registry):
    for version in (publish(registry), publish_profile(registry)):
        files = [file for file in version.path.rglob("*") if file.is_file()]
        assert version.size_bytes == sum(len(file.read_bytes()) for file in files) > 0


def test_a_version_of_an_older_evergreen_is_measured_when_it_is_verified(registry):
    version = publish(registry)
    with registry.catalog.writer.begin() as connection:
        connection.execute(text("UPDATE versions SET size_bytes = NULL"))
    assert registry.version("author").size_bytes is None
    registry.verify(version)
    assert registry.version("author").size_bytes == version.size_bytes


def test_what_is_known_of_the_bytes_is_shown_everywhere(plain, service, run):
    entities = {"coverage_consumer": 0.75, "coverage_producer": 1.0}
    old, new = publish(plain, seed=1), publish(plain, seed=2, metrics=entities)
    later = publish(plain, DAY + timedelta(days=1))
    damage(new)
    plain.verify(old)
    list(plain.verify_all())
    publish(plain, DAY + timedelta(days=2))
    with httpx.Client(base_url=service) as http:
        described = http.get("/v1/embeddings/author/versions").json()
        statuses = [one["status"] for one in described]
        assert statuses == ["replaced", "damaged", "current", "current"]
        assert [bool(one["verified_at"]) for one in described] == [True, True, True, False]
        assert described[1]["coverage"] == {"consumer": 0.75, "producer": 1.0}
        assert described[2]["size_bytes"] == later.size_bytes
        page = http.get(f"/embeddings/{new.id}").text
        assert "The files of this version are damaged: consumer/shard" in page
        assert "75.0 %" in page
        assert "not yet" in http.get("/embeddings/author/latest").text
        assert "damaged</span>" in http.get("/embeddings/author").text
        gauges = {}
        for family in text_string_to_metric_families(http.get("/metrics").text):
            gauges[family.name.removeprefix("evergreen_registry_")] = family.samples[0].value
    assert (gauges["damaged_versions"], gauges["unverified_versions"]) == (1, 1)
    oldest = min(one.verified_at for one in plain.verifications("author").values())
    assert gauges["oldest_verification_timestamp_seconds"] == pytest.approx(oldest.timestamp())
    table = run("versions", "author", columns=80).stdout
    for cell in ("damaged", "75%, 100%", "2022-04-25.r2", "latest"):
        assert cell in table
    assert f"{new.id} is damaged: {FILE} (changed)" in table
