"""Whatever is published, pointed at and removed, the registry does as a plain model does."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_parts import DAY, publish

from embeddings import durable
from embeddings.registry import responses
from embeddings.registry.client import Registry
from embeddings.registry.errors import PinnedVersion, UnknownVersion

DAYS = [DAY, DAY + timedelta(days=1)]
CONTENTS = [0, 1, 2]  # seeds
ALIASES = ["serving", "pinned"]
PUBLISH = st.tuples(st.just("publish"), st.sampled_from(DAYS), st.sampled_from(CONTENTS))
POINT = st.tuples(
    st.just("point"), st.sampled_from(ALIASES), st.integers(0, 5), st.booleans(), st.text("ab ")
)
DELETE = st.tuples(st.just("delete"), st.sampled_from(ALIASES))
REMOVE = st.tuples(st.just("remove"), st.integers(0, 5))
STEPS = st.lists(st.one_of(PUBLISH, PUBLISH, POINT, DELETE, REMOVE), min_size=6, max_size=14)
NAMES = map("author{}".format, itertools.count())  # one embedding for each example


@dataclass
class Model:
    """What a registry promises, with lists and dictionaries.

    published: (day, seed), the last publication last. revisions: of what is published.
    assigned: day -> how many revision numbers it has used. moves: oldest first.
    """

    name: str
    published: list[tuple[date, int]] = field(default_factory=list)
    revisions: dict[tuple[date, int], int] = field(default_factory=dict)
    assigned: dict[date, int] = field(default_factory=dict)
    aliases: dict[str, tuple[date, int]] = field(default_factory=dict)
    moves: list[tuple[str, str | None, str | None, str]] = field(default_factory=list)

    def id(self, content: tuple[date, int] | None) -> str | None:
        return content and f"{self.name}/{content[0]}.r{self.revisions[content]}"

    def listed(self) -> list[tuple[date, int]]:
        """By day; sorted() keeps the order of publication within a day."""
        return sorted(self.published, key=lambda content: content[0])

    def current(self, day: date) -> tuple[date, int] | None:
        of_day = [content for content in self.published if content[0] == day]
        return of_day[-1] if of_day else None

    def move(self, alias: str, to: tuple[date, int] | None, reason: str = "") -> None:
        before = self.aliases.get(alias)
        if before != to:
            self.moves.append((alias, self.id(before), self.id(to), reason))
        self.aliases.pop(alias, None)
        if to is not None:
            self.aliases[alias] = to

    def publish(self, day: date, seed: int) -> None:
        content = (day, seed)
        if content not in self.revisions:
            self.assigned[day] = self.assigned.get(day, 0) + 1
            self.revisions[content] = self.assigned[day]
        if self.current(day) != content:
            self.published = [other for other in self.published if other != content]
            self.published.append(content)
        newest_day = max(day for day, _ in self.published)
        self.move("latest", self.current(newest_day))

    def point(self, alias: str, to: tuple[date, int], only_forward: bool, reason: str) -> None:
        listed = self.listed()
        before = self.aliases.get(alias)
        if before is None or not only_forward or listed.index(before) < listed.index(to):
            self.move(alias, to, reason)

    def remove(self, content: tuple[date, int]) -> None:
        self.published.remove(content)
        del self.revisions[content]


def apply(step: tuple, model: Model, registry: Registry) -> None:
    """Do one step in both. An index counts through the versions that are published."""
    kind, *arguments = step
    name = model.name
    listed = model.listed()
    if kind == "publish":
        day, seed = arguments
        model.publish(day, seed)
        assert publish(registry, day, seed, name).id == model.id((day, seed))
    elif kind == "delete" and arguments[0] not in model.aliases:
        if listed:
            with pytest.raises(UnknownVersion):
                registry.delete_alias(name, arguments[0])
    elif kind == "delete":
        model.move(arguments[0], None)
        registry.delete_alias(name, arguments[0])
    elif listed and kind == "point":
        alias, index, only_forward, reason = arguments
        content = listed[index % len(listed)]
        version = registry.find(name, model.id(content).partition("/")[2])
        model.point(alias, content, only_forward, reason)
        moved = registry.set_alias(name, alias, version, only_forward, reason)
        assert moved.id == model.id(model.aliases[alias])
    elif listed:
        content = listed[arguments[0] % len(listed)]
        version = registry.find(name, model.id(content).partition("/")[2])
        if content in model.aliases.values():
            with pytest.raises(PinnedVersion):
                registry.remove(version)
        else:
            model.remove(content)
            registry.remove(version)
            assert not version.path.exists()


def check(model: Model, registry: Registry) -> None:
    name = model.name
    versions = registry.versions(name)
    assert [version.id for version in versions] == [model.id(one) for one in model.listed()]
    assert all(version.path.exists() for version in versions)
    aliases = {alias: version.id for alias, version in registry.aliases(name).items()}
    assert aliases == {alias: model.id(content) for alias, content in model.aliases.items()}
    for day in {version.day for version in versions}:
        assert registry.version(name, day).id == model.id(model.current(day))
    for described in responses.versions(registry, name):
        day = date.fromisoformat(described["day"])
        assert described["current"] == (described["id"] == model.id(model.current(day)))
    history = []
    for move in registry.history(name):
        history.append((move.alias, move.from_version, move.to_version, move.reason))
    assert history == model.moves[::-1]


@pytest.fixture
def hasty(registry, monkeypatch):
    """A registry that leaves flushing to the system, which takes most of a publication's time."""
    monkeypatch.setattr(durable, "sync", lambda path: None)
    return registry


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_sequence_of_steps_agrees_with_the_model(hasty, steps):
    model = Model(next(NAMES))
    for step in steps:
        apply(step, model, hasty)
        if model.published:
            check(model, hasty)
