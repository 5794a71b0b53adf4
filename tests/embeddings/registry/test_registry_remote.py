"""The client over HTTP answers as the registry itself: one table of calls, asked of both."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from registry_parts import DAY, TOKEN, publish, publish_groups

from embeddings.registry import Registry, RemoteRegistry
from embeddings.registry.arrow import MAX_BULK_IDS
from embeddings.registry.errors import (
    BadRequest,
    RegistryError,
    ServiceError,
    Unauthorized,
)

NEXT = DAY + timedelta(1)
LOCAL_ONLY = {"publish", "delete_alias", "remove", "sweep_orphans", "load", "verify", "verify_all"}
# Answers and errors are the same, messages and near misses included.
SAME = {
    "names": lambda r: r.names(),
    "versions": lambda r: r.versions("author"),
    "aliases": lambda r: r.aliases("author"),
    "alias": lambda r: r.alias("author", "champion"),
    "history": lambda r: r.history("author"),
    "history of one": lambda r: r.history("author", "champion"),
    "latest": lambda r: r.version("author"),
    "a day": lambda r: r.version("author", DAY),
    "a revision": lambda r: r.version("author", DAY, 1),
    "find": lambda r: [r.find("author", text) for text in ("latest", str(DAY), f"{DAY}.r2")],
    "get": lambda r: r.get("author", "producer", ["p3", "p0", "p3"]),
    "get a revision": lambda r: r.get("author", "consumer", ["c2"], DAY, 1),
    "get none": lambda r: r.get("author", "producer", []),
    "neighbours": lambda r: r.neighbours("author", "producer:p1", 3),
    "neighbours among": lambda r: r.neighbours("author", "producer:p1", 2, DAY, "consumer", 1),
    "fold in": lambda r: r.fold_in("author", {"p1": 2.5, "x": 1, "p0": 0.1}),
    "fold in, a day": lambda r: r.fold_in("author", {"p1": 1}, DAY, 1),
    "lookalike": lambda r: r.lookalike("author", ["degree=full", "degree=low"], k=3, by="max"),
    "lookalike of": lambda r: r.lookalike("author", ["degree=low"], ["p1", "p0"]),
    "set alias": lambda r: r.set_alias("author", "champion", r.version("author"), reason="why"),
    "set alias back": lambda r: r.set_alias("author", "champion", r.version("author", DAY, 1)),
    "only forward": lambda r: r.set_alias(
        "author", "champion", r.version("author", DAY, 1), only_forward=True
    ),
    "unknown name": lambda r: r.versions("autor"),
    "no name": lambda r: r.versions(""),
    "slashed name": lambda r: r.get("author/..", "producer", ["p1"]),
    "unknown day": lambda r: r.version("author", date(2020, 1, 1)),
    "unknown revision": lambda r: r.version("author", DAY, 9),
    "no day": lambda r: r.version("author", datetime(2022, 4, 25)),
    "no calendar day": lambda r: r.find("author", "2022-02-30"),
    "unknown alias": lambda r: r.alias("author", "champoin"),
    "a day is no alias": lambda r: r.alias("author", str(DAY)),
    "slashed alias": lambda r: r.find("author", "a/b"),
    "alias of unknown name": lambda r: r.alias("autor", "latest"),
    "history of unknown alias": lambda r: r.history("author", "none"),
    "unknown entity": lambda r: r.get("author", "producers", ["p1"]),
    "unknown ids": lambda r: r.get("author", "producer", ["p1", "p11", "p12"]),
    "id with NUL": lambda r: r.get("author", "producer", ["p1\0"]),
    "id in Unicode": lambda r: r.get("author", "producer", ["\N{DECIDUOUS TREE}"]),
    "malformed key": lambda r: r.neighbours("author", "p1"),
    "unknown history": lambda r: r.fold_in("author", {"x": 1}),
    "negative strength": lambda r: r.fold_in("author", {"p1": -1.0}),
    "unknown group": lambda r: r.lookalike("author", ["degree=none"]),
    "unknown summary": lambda r: r.lookalike("author", ["degree=low"], by="mode"),
    "latest is not set": lambda r: r.set_alias("author", "latest", r.version("author")),
    "another's version": lambda r: r.set_alias("author", "a", r.version("other")),
}
# The service refuses these itself, in its own words.
SAME_KIND = {
    "k": lambda r: r.neighbours("author", "producer:p1", 0),
    "no history": lambda r: r.fold_in("author", {}),
    "NaN": lambda r: r.fold_in("author", {"p1": float("nan")}),
    "no group": lambda r: r.lookalike("author", []),
    "long reason": lambda r: r.set_alias("author", "a", r.version("author"), reason="a" * 501),
    "revision that no day has": lambda r: r.version("author", DAY, 10**9),
}


@pytest.fixture
def remote(service, plain):
    publish(plain, seed=3)
    publish_groups(plain)  # the day's second revision
    publish(plain, NEXT, name="other")
    plain.set_alias("author", "champion", plain.version("author", DAY, 1), reason="a reason")
    with RemoteRegistry(service, TOKEN) as opened:
        yield opened


def comparable(value: Any) -> Any:
    """The value with arrays as lists and their types, and without paths, which no service tells."""
    if is_dataclass(value):
        kind = type(value).__name__
        return kind, {f.name: comparable(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tolist(), value.flags.writeable
    if isinstance(value, dict):
        return {key: comparable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [comparable(inner) for inner in value]
    return "a path" if isinstance(value, Path) else value


def outcome(registry: Registry | RemoteRegistry, call: Any) -> Any:
    """What the call returns or raises."""
    try:
        return comparable(call(registry))
    except RegistryError as error:
        return type(error).__name__, str(error), getattr(error, "near", None)


@pytest.mark.parametrize("call", SAME.values(), ids=SAME)
def test_a_call_has_the_same_outcome_over_http(remote, plain, call):
    expected = outcome(plain, call)
    assert outcome(remote, call) == expected


@pytest.mark.parametrize("call", SAME_KIND.values(), ids=SAME_KIND)
def test_a_call_is_refused_with_the_same_kind_of_error_over_http(remote, plain, call):
    expected, received = outcome(plain, call), outcome(remote, call)
    assert isinstance(expected, tuple)
    assert received[0] == expected[0]


def test_both_have_the_same_verbs():
    local = {name for name in vars(Registry) if not name.startswith("_")} - LOCAL_ONLY
    assert local == {name for name in vars(RemoteRegistry) if not name.startswith("_")}
    for name in local:
        verb = inspect.signature(getattr(RemoteRegistry, name))
        assert verb == inspect.signature(getattr(Registry, name)), name


def test_more_ids_than_one_request_may_have_are_read_from_one_version(remote, plain):
    ids = [f"p{n % 5}" for n in range(MAX_BULK_IDS + 3)]
    found = remote.get("author", "producer", ids)
    expected = plain.get("author", "producer", ids)
    assert found.version.id == expected.version.id
    assert found.ids == ids
    np.testing.assert_array_equal(found.vectors, expected.vectors)


def test_a_write_without_the_token_is_refused(remote, service, plain):
    version = plain.version("author")
    with RemoteRegistry(service, "wrong") as opened, pytest.raises(Unauthorized, match="Bearer"):
        opened.set_alias("author", "champion", version)
    assert plain.alias("author", "champion").revision == 1


def test_half_a_character_is_a_bad_request(remote):
    for call in (
        lambda: remote.get("author", "producer", ["\ud800"]),
        lambda: remote.neighbours("author", "producer:\ud800"),
    ):
        with pytest.raises(BadRequest):
            call()


def test_an_address_without_a_registry_is_named():
    with (
        RemoteRegistry("http://127.0.0.1:9") as nothing,
        pytest.raises(ServiceError, match=r"http://127\.0\.0\.1:9 does not answer"),
    ):
        nothing.names()


def test_another_service_is_not_taken_for_a_registry(service):
    with (
        RemoteRegistry(f"{service}/embeddings/x") as page,
        pytest.raises(ServiceError, match="answered 404 with '<!doctype"),
    ):
        page.names()
