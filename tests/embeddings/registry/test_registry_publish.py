"""Publishing: completely or not at all, once, and never backwards."""

from __future__ import annotations

import errno
import os
import re
import resource
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from registry_parts import DAY, SPACE, parts, publish, publish_large

from embeddings.registry import files, responses
from embeddings.registry.client import Registry
from embeddings.registry.errors import BadRequest, NotWritten, UnknownName, UnknownVersion
from embeddings.storage.folder import Folder

NEXT = DAY + timedelta(days=1)


def test_the_same_content_again_is_the_same_version(registry):
    """It keeps the lineage of the first publication."""
    first = publish(registry, run="first")
    assert publish(registry, run="second") == first
    assert registry.versions("author") == [first]
    assert first.lineage == {"run": "first"}
    assert first.id == "author/2022-04-25.r1"


def test_other_content_is_the_next_revision_and_the_old_one_stays(registry):
    first = publish(registry, seed=1)
    before = contents(first.path)
    second = publish(registry, seed=2)
    assert (second.id, registry.version("author", DAY)) == ("author/2022-04-25.r2", second)
    assert registry.version("author", DAY, revision=1) == first
    assert contents(first.path) == before
    assert registry.versions("author") == [first, second]


def test_content_published_again_is_current_again(registry):
    """A day returns to its first bytes: there is no third revision, and the first one counts."""
    first = publish(registry, seed=1)
    second = publish(registry, seed=2)
    assert publish(registry, seed=1) == first
    assert registry.version("author", DAY) == registry.version("author") == first
    assert registry.versions("author") == [second, first]  # as they were published
    described = responses.versions(registry, "author")
    assert [(one["revision"], one["current"]) for one in described] == [(2, False), (1, True)]
    # The alias moves forward by publication, not by revision.
    registry.set_alias("author", "serving", second)
    assert registry.set_alias("author", "serving", first, only_forward=True) == first
    assert registry.set_alias("author", "serving", second, only_forward=True) == first


def test_an_old_day_that_returns_to_earlier_content_leaves_latest_alone(registry):
    first = publish(registry, DAY, seed=1)
    newest = publish(registry, NEXT)
    publish(registry, DAY, seed=2)
    publish(registry, DAY, seed=1)
    assert (registry.version("author", DAY), registry.version("author")) == (first, newest)


NOON = datetime(2022, 4, 25, 12)
ENTRIES = {
    "publish": lambda registry, day: publish(registry, day),
    "version": lambda registry, day: registry.version("author", day),
    "get": lambda registry, day: registry.get("author", "producer", ["p1"], day),
    "neighbours": lambda registry, day: registry.neighbours("author", "producer:p1", day=day),
    "fold_in": lambda registry, day: registry.fold_in("author", {"p1": 1.0}, day),
    "lookalike": lambda registry, day: registry.lookalike("author", ["degree=low"], day=day),
}


@pytest.mark.parametrize("day", [NOON, datetime(2022, 4, 25), "2022-04-25"], ids=str)
@pytest.mark.parametrize("entry", ENTRIES)
def test_what_is_not_a_day_is_named(plain, entry, day):
    """A datetime is a date to Python, and would silently name another folder."""
    version = publish(plain)
    with pytest.raises(BadRequest, match=f"^{re.escape(repr(day))} is not a day: use a datetime"):
        ENTRIES[entry](plain, day)
    assert plain.versions("author") == [version]
    assert [home.name for home in version.path.parents[1].glob("day=*")] == ["day=2022-04-25"]


def test_latest_moves_to_newer_days_and_never_back(registry):
    newest = publish(registry, NEXT)
    publish(registry, DAY)
    assert registry.version("author") == newest
    revised = publish(registry, NEXT, seed=7)
    assert registry.version("author") == registry.alias("author", "latest") == revised


def test_an_alias_moves_back_unless_only_forward_is_set(registry):
    old = publish(registry, DAY)
    new = publish(registry, NEXT)
    assert registry.set_alias("author", "serving", new) == new
    assert registry.set_alias("author", "serving", old, only_forward=True) == new
    assert registry.set_alias("author", "serving", old) == old
    assert registry.aliases("author") == {"latest": new, "serving": old}


@pytest.mark.parametrize("alias", ["latest", "", "a b", "2022-04-25"])
def test_an_ambiguous_alias_is_rejected(plain, alias):
    with pytest.raises(BadRequest, match="cannot be set as an alias"):
        plain.set_alias("author", alias, publish(plain))


def test_an_alias_cannot_point_at_another_embedding(plain):
    publish(plain)
    with pytest.raises(BadRequest, match=r"of 'author' cannot point at topic/2022-04-25\.r1"):
        plain.set_alias("author", "serving", publish(plain, name="topic"))


def test_rows_and_engagements_of_a_version_are_counted(plain):
    entities, fold_in = parts()
    version = plain.publish("author", DAY, SPACE, entities, fold_in, {})
    engagements = sum(entities["consumer"].counts.tolist())
    assert version.entities["consumer"] == {"rows": 9, "folded": 3, "engagements": engagements}
    assert (version.dim, version.space) == (3, SPACE)


def test_embeddings_do_not_see_each_other(registry):
    publish(registry, name="author")
    publish(registry, name="topic")
    assert registry.names() == ["author", "topic"]
    assert [version.id for version in registry.versions("topic")] == ["topic/2022-04-25.r1"]


def test_killed_between_files_and_catalog_the_next_publish_completes_it(
    processes, registry, root, url
):
    """The publisher writes its files, waits for the catalog that the test has locked, and dies."""
    started = processes.Event()
    with registry.catalog.writing():
        process = processes.Process(target=publish_large, args=(root, url, started))
        process.start()
        wait_for(lambda: list(root.glob("versions/author/*/*/manifest.json")))
        process.kill()
        process.join()
    with pytest.raises(UnknownName):
        registry.versions("author")
    entities, fold_in = parts(consumers=40_000, dim=32)
    version = registry.publish("author", DAY, SPACE, entities, fold_in, {})
    assert registry.versions("author") == [version]
    registry.verify(version)


def test_killed_at_any_moment_no_partial_version_is_visible(processes, plain, root):
    """Kills spread over the duration of a publication leave nothing, or all of the version."""
    url = f"sqlite:///{root / 'catalog.db'}"
    entities, fold_in = parts(consumers=40_000, dim=32)
    begun = time.monotonic()
    digest = plain.publish("undisturbed", DAY, SPACE, entities, fold_in, {}).digest
    duration_s = time.monotonic() - begun
    for share in np.linspace(0, 1.5, 7):
        started = processes.Event()
        process = processes.Process(target=publish_large, args=(root, url, started))
        process.start()
        started.wait(30)
        time.sleep(share * duration_s)
        process.kill()
        process.join()
        if "author" in plain.names():
            for version in plain.versions("author"):
                plain.verify(version)
    version = plain.publish("author", DAY, SPACE, entities, fold_in, {})
    assert [v.id for v in plain.versions("author")] == ["author/2022-04-25.r1"]
    plain.verify(version)
    plain.verify(plain.find("undisturbed"))
    assert digest != version.digest  # the name is part of a version's content
    stored = plain.load(version).entities["consumer"].vectors
    np.testing.assert_array_equal(stored, entities["consumer"].vectors)


def test_a_publication_leaves_no_staging_folder(plain, root):
    publish(plain)
    assert list((root / "versions" / "_staging").iterdir()) == []


def test_a_publication_that_fails_leaves_no_staging_folder(plain, root, monkeypatch):
    """The disk is full when the manifest is written."""

    def full_disk(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        publish(plain)
    assert list((root / "versions").iterdir()) == [root / "versions" / "_staging"]
    assert list((root / "versions" / "_staging").iterdir()) == []


def publish_on_a_full_disk(root: Path, url: str, answers) -> None:
    """Run in a process of its own, in which no file can become larger than 64 kB."""
    with Registry(root, url) as registry:
        entities, fold_in = parts(consumers=10_000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        try:
            registry.publish("author", DAY, SPACE, entities, fold_in, {})
        except NotWritten as error:
            answers.put((str(error), error.errno))


def test_a_full_disk_is_named_and_the_registry_is_as_it_was(processes, plain, root):
    version = publish(plain)
    before = contents(version.path)
    answers = processes.Queue()
    arguments = (root, plain.catalog.url, answers)
    process = processes.Process(target=publish_on_a_full_disk, args=arguments)
    process.start()
    message, number = answers.get(timeout=60)
    process.join()
    assert "author/2022-04-25 is not published, and nothing of it is left" in message
    assert "No space left on device" in message
    assert number == errno.ENOSPC
    assert plain.versions("author") == [version]
    assert files.content_folders(Folder(root / "versions")) == {version.path}
    assert contents(version.path) == before
    assert list((root / "versions" / "_staging").iterdir()) == []


def test_only_abandoned_staging_folders_are_swept(plain, root):
    """A killed writer's folder is removed after a day; a running writer's is not touched."""
    abandoned = root / "versions" / "_staging" / "abandoned"
    running = root / "versions" / "_staging" / "running"
    for staging in (abandoned, running):
        staging.mkdir(parents=True)
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(abandoned, (two_days_ago, two_days_ago))
    publish(plain)
    assert list(running.parent.iterdir()) == [running]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "2022-04-27",
            r"no version of day '2022-04-27' in author\. "
            r"Did you mean '2022-04-26' or '2022-04-25'\?",
        ),
        (
            "2022-04-25.r2",
            r"no version '2022-04-25\.r2' in author\. Did you mean '2022-04-25\.r1'\?",
        ),
        (
            "lates",
            r"no day or alias 'lates' in author\. Did you mean 'latest'\? "
            r"Available: 2022-04-25, 2022-04-26, latest\.",
        ),
    ],
)
def test_an_unknown_version_names_similar_ones(registry, reference, message):
    publish(registry, DAY)
    publish(registry, NEXT)
    with pytest.raises(UnknownVersion, match=message):
        registry.find("author", reference)


@pytest.mark.parametrize("reference", ["2022-04-25", "2022-04-25.r1", "latest", "serving"])
def test_a_version_is_found_by_day_revision_or_alias(registry, reference):
    version = publish(registry)
    registry.set_alias("author", "serving", version)
    assert registry.find("author", reference) == version


def test_a_day_that_is_not_in_the_calendar_is_rejected(plain):
    publish(plain)
    with pytest.raises(BadRequest, match="'2022-02-30' is not a calendar day"):
        plain.find("author", "2022-02-30")


@pytest.mark.parametrize("query", ["versions", "aliases", "version"])
def test_an_unknown_embedding_names_similar_ones(registry, query):
    publish(registry)
    message = r"no embedding 'autor'\. Did you mean 'author'\? Available: author\."
    with pytest.raises(UnknownName, match=message):
        getattr(registry, query)("autor")


def contents(folder: Path) -> dict[Path, bytes]:
    """The bytes of every file in a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def wait_for(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition was not met within {seconds} s"
        time.sleep(0.002)
