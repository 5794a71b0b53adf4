"""Remembered versions are never stale, whoever changes the catalog."""

from __future__ import annotations

import threading
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_parts import DAY, publish
from sqlalchemy import event

from embeddings.registry.client import Registry
from embeddings.registry.errors import RegistryError
from embeddings.registry.finder import Finder

DAYS = [DAY, DAY + timedelta(1)]
REFERENCES = ["latest", "champion", *map(str, DAYS), f"{DAY}.r1", f"{DAY}.r2", "none"]
CHANGES = st.tuples(
    st.sampled_from(["publish", "point", "delete", "remove"]), st.integers(0, 1), st.integers(0, 1)
)


def outcome(finder: Finder | Registry, reference: str) -> object:
    """What a reference means, or the error."""
    try:
        return finder.find("author", reference)
    except RegistryError as error:
        return type(error), str(error)


def change(registry: Registry, kind: str, day: int, seed: int) -> None:
    """Change the catalog in one way, where that is possible."""
    try:
        if kind == "publish":
            publish(registry, DAYS[day], seed)
        elif kind == "point":
            registry.set_alias("author", "champion", registry.version("author", DAYS[day]))
        elif kind == "delete":
            registry.delete_alias("author", "champion")
        else:
            registry.remove(registry.version("author", DAYS[day]))
    except RegistryError:
        pass  # such as an alias that is not there


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(changes=st.lists(CHANGES, min_size=1, max_size=6))
def test_a_version_is_found_as_the_catalog_says_after_every_change(registry, changes):
    """Of another connection, and of the registry's own."""
    finder = Finder(registry)
    with Registry(registry.root, registry.catalog.url) as other:
        for number, (kind, day, seed) in enumerate(changes):
            change(other if number % 2 else registry, kind, day, seed)
            for reference in REFERENCES:
                assert outcome(finder, reference) == outcome(registry, reference)


def test_a_change_by_another_process_is_seen(plain, root, processes):
    publish(plain, DAYS[0])
    finder = Finder(plain)
    assert finder.find("author").day == DAYS[0]
    publisher = processes.Process(target=publish_next_day, args=(root, plain.catalog.url))
    publisher.start()
    publisher.join(60)
    assert publisher.exitcode == 0
    assert finder.find("author").day == DAYS[1]


def publish_next_day(root, url) -> None:
    """Run by another process."""
    with Registry(root, url) as registry:
        publish(registry, DAYS[1])


def test_the_catalog_is_not_asked_again_while_nothing_changes(plain):
    publish(plain)
    finder = Finder(plain)
    finder.find("author", "latest")
    asked = []
    event.listen(plain.catalog.engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    for _ in range(3):
        finder.find("author", "latest")
    assert asked == []
    finder.find("author", str(DAY))
    assert asked != []


def test_a_watch_that_fails_is_not_trusted(plain):
    versions = [publish(plain, day) for day in DAYS]
    plain.set_alias("author", "champion", versions[0])
    finder = Finder(plain)
    assert finder.find("author", "champion") == versions[0]
    finder._watch.close()
    plain.set_alias("author", "champion", versions[1])
    assert finder.find("author", "champion") == versions[1]


def test_a_writer_finds_what_it_wrote_while_others_read(plain):
    versions = [publish(plain, day) for day in DAYS]
    finder = Finder(plain)
    plain.set_alias("author", "champion", versions[0])
    finished = threading.Event()
    failed = []

    def read() -> None:
        while not finished.is_set():
            if outcome(finder, "champion") not in versions:
                failed.append(outcome(finder, "champion"))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(40):
            plain.set_alias("author", "champion", versions[turn % 2])
            assert finder.find("author", "champion") == versions[turn % 2]
    finally:
        finished.set()
        for thread in threads:
            thread.join()
    assert failed == []
