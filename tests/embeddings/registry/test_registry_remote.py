"""The client over HTTP answers as the registry itself: one table of calls, asked of both."""

from __future__ import annotations

import inspect
import shutil
from dataclasses import fields, is_dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, Response
from registry_parts import (
    DAY,
    SPACE,
    TOKEN,
    parts,
    publish,
    publish_groups,
    publish_profile,
)

from embeddings.benchmarks.results import Result
from embeddings.registry import Registry, RemoteRegistry, errors, failures
from embeddings.registry.aliases import AliasMove
from embeddings.registry.answers import Results
from embeddings.registry.arrow import MAX_BULK_IDS
from embeddings.registry.client import IndexRule
from embeddings.registry.comparison import compare
from embeddings.registry.errors import (
    BadRequest,
    RegistryError,
    ServiceError,
    Unauthorized,
)
from embeddings.registry.service import create_app
from tests.http_server import serving

NEXT = DAY + timedelta(1)
# They need the files, or publish, or decide in the loop.
LOCAL_ONLY = {
    "publish",
    "publish_features",
    "add_results",
    "hold_alias",
    "remove",
    "sweep_orphans",
    "load",
    "load_features",
    "nothing_removed",
    "rows_where",
    "verify",
    "verify_all",
    "verify_next",
    "verified",
}
NAMES = ["profile.days", "author", "profile.degree@latest", "profile.share", "profile.active"]
# Answers and errors are the same, messages and near misses included.
SAME = {
    "names": lambda r: r.names(),
    "names of a kind": lambda r: [r.names(kind) for kind in ("embedding", "features", "x")],
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
    "get shorter": lambda r: r.get("author", "producer", ["p3", "p0"], space=SPACE, dim=2),
    "get none, shorter": lambda r: r.get("author", "producer", [], dim=1),
    "neighbours": lambda r: r.neighbours("author", "producer:p1", 3),
    "neighbours by an index": lambda r: r.neighbours("indexed", "consumer:c7", 5),
    "neighbours by a full search": lambda r: r.neighbours("indexed", "consumer:c7", exact=True),
    "neighbours among": lambda r: r.neighbours("author", "producer:p1", 2, DAY, "consumer", 1),
    "neighbours in one dimension": lambda r: r.neighbours(
        "author", "producer:p1", space=SPACE, dim=1
    ),
    "neighbours of some": lambda r: r.neighbours(
        "author", "producer:p1", only=["p4", "p0", "p1", "p0"]
    ),
    "neighbours of none": lambda r: r.neighbours("author", "producer:p1", only=[]),
    "fold in": lambda r: r.fold_in("author", {"p1": 2.5, "x": 1, "p0": 0.1}),
    "fold in, a day": lambda r: r.fold_in("author", {"p1": 1}, DAY, 1),
    "fold in, with neighbours": lambda r: r.fold_in("author", {"p1": 2, "p0": 1}, dim=2, k=3),
    "lookalike": lambda r: r.lookalike("author", ["degree=full", "degree=low"], k=3, by="max"),
    "lookalike of": lambda r: r.lookalike("author", ["degree=low"], ["p1", "p0"]),
    "lookalike, shorter": lambda r: r.lookalike("author", ["degree=low"], space=SPACE, dim=2),
    "results": lambda r: [r.results(version) for version in r.versions("author")],
    "all results": lambda r: [r.all_results("author"), r.all_results("other")],
    "comparison": lambda r: compare(r, ["author", f"author/{DAY}.r1"]),
    "diff": lambda r: r.diff(r.version("author", DAY, 1), r.version("author")),
    "diff of spaces": lambda r: r.diff(r.version("other"), r.version("elsewhere")),
    "features": lambda r: r.features("consumer", ["c3", "nobody", "c1", "c3"], NAMES),
    "features of none": lambda r: r.features("consumer", [], NAMES),
    "features as of": lambda r: r.features("consumer", ["c0"], NAMES[:1], as_of=DAY),
    "features as of a text": lambda r: r.features(
        "consumer", ["c0"], ["author"], as_of=str(DAY), space=SPACE
    ),
    "set alias": lambda r: r.set_alias("author", "champion", r.version("author"), reason="why"),
    "rollback": lambda r: [r.rollback("author", "moved", "worse", "ann"), last_move(r)],
    "rollback without a name": lambda r: [r.rollback("author", "moved"), last_move(r)],
    "delete alias": lambda r: [
        r.delete_alias("author", "moved", "unused", "ben"),
        r.aliases("author"),
        last_move(r),
    ],
    "set alias by": lambda r: [
        r.set_alias("author", "champion", r.version("author"), by="cleo"),
        last_move(r),
    ],
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
    "another space": lambda r: r.get("author", "producer", ["p1"], space="x"),
    "neighbours in another space": lambda r: r.neighbours("author", "producer:p1", space="x"),
    "fold in to another space": lambda r: r.fold_in("author", {"p1": 1}, space="x"),
    "lookalike in another space": lambda r: r.lookalike("author", ["degree=low"], space="x"),
    "features in another space": lambda r: r.features("consumer", ["c1"], ["author"], space="x"),
    "too long": lambda r: r.get("author", "producer", ["p1"], dim=4),
    "unknown id to search": lambda r: r.neighbours("author", "producer:p1", only=["p11"]),
    "results of an unknown version": lambda r: r.results(replace(r.version("author"), revision=9)),
    "results of an unknown name": lambda r: r.all_results("autor"),
    "diff with a table": lambda r: r.diff(r.version("author"), r.version("profile")),
    "table as an embedding": lambda r: r.get("profile", "consumer", ["c1"]),
    "unknown feature": lambda r: r.features("consumer", ["c1"], ["profile.day"]),
    "malformed feature": lambda r: r.features("consumer", ["c1"], ["a.b.c"]),
    "feature before the first day": lambda r: r.features(
        "consumer", ["c1"], ["author"], as_of="2020-01-01"
    ),
    "alias as of": lambda r: r.features("consumer", ["c1"], ["author@moved"], as_of=DAY),
    "no day as of": lambda r: r.features("consumer", ["c1"], ["author"], as_of="yesterday"),
    "rollback of latest": lambda r: r.rollback("author", "latest"),
    "rollback of unknown alias": lambda r: r.rollback("author", "champoin"),
    "rollback of slashed alias": lambda r: r.rollback("author", "a/b"),
    "nothing to go back to": lambda r: r.rollback("author", "pinned"),
    "delete unknown alias": lambda r: r.delete_alias("author", "champoin"),
    "reason of two lines": lambda r: r.rollback("author", "moved", reason="a\nb"),
    "another's version": lambda r: r.set_alias("author", "a", r.version("other")),
}
# The service refuses these itself, in its own words.
SAME_KIND = {
    "k": lambda r: r.neighbours("author", "producer:p1", 0),
    "no dim": lambda r: r.get("author", "producer", ["p1"], dim=0),
    "no features": lambda r: r.features("consumer", ["c1"], []),
    "long name": lambda r: r.rollback("author", "moved", by="a" * 101),
    "no history": lambda r: r.fold_in("author", {}),
    "NaN": lambda r: r.fold_in("author", {"p1": float("nan")}),
    "no group": lambda r: r.lookalike("author", []),
    "long reason": lambda r: r.set_alias("author", "a", r.version("author"), reason="a" * 501),
    "revision that no day has": lambda r: r.version("author", DAY, 10**9),
}


def fill(plain: Registry) -> None:
    publish(plain, seed=3)
    publish_groups(plain)  # the day's second revision
    publish(plain, NEXT, name="other")
    publish(plain, name="elsewhere", seed=4, space="author/2021-01-01")
    publish_profile(plain)
    entities, fold_in = parts(consumers=150)
    rule = IndexRule(above=100, min_recall=0.0)
    plain.publish("indexed", DAY, SPACE, entities, fold_in, {}, index=rule)
    for revision, value in ((1, 0.5), (2, 0.75)):
        plain.add_results(plain.version("author", DAY, revision), [result(value)])
        plain.set_alias("author", "moved", plain.version("author", DAY, revision), by="ann")
    for alias in ("champion", "pinned"):
        plain.set_alias("author", alias, plain.version("author", DAY, 1), reason="a reason")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A registry, and a copy of it is served: every call is made of both, writes too."""
    root = tmp_path_factory.mktemp("both") / "registry"
    with Registry(root, f"sqlite:///{root / 'catalog.db'}") as opened:
        fill(opened)
        yield opened


@pytest.fixture(scope="module")
def address(plain):
    """Of the service of the copy."""
    copy = plain.root.parent / "copy"
    plain.close()
    shutil.copytree(plain.root, copy)
    with serving(create_app(copy, f"sqlite:///{copy / 'catalog.db'}", TOKEN)) as started:
        yield started


@pytest.fixture(scope="module")
def remote(address):
    with RemoteRegistry(address, TOKEN) as opened:
        yield opened


def result(value: float) -> Result:
    """Of a benchmark about the next day, whose interval and baseline follow from its value."""
    return Result("retrieval", "ndcg20", NEXT, value, value - 0.1, value + 0.1, 9, {"random": 0.1})


def last_move(registry: Registry | RemoteRegistry) -> AliasMove:
    return registry.history("author")[0]


def comparable(value: Any) -> Any:
    """The value with arrays as lists and their types.

    Without paths, which no service tells, and the times of moves, which are made one by one.
    """
    if isinstance(value, AliasMove):
        return {**vars(value), "moved_at": value.moved_at.tzinfo}
    if is_dataclass(value):
        kind = type(value).__name__
        return kind, {f.name: comparable(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.ndarray):
        # As text: a NaN does not equal itself.
        return str(value.dtype), value.shape, str(value.tolist())
    if isinstance(value, Results):
        return comparable(value.version), comparable(list(value)), comparable(value.recall)
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


WRITES = {
    "set": lambda r: r.set_alias("author", "pinned", r.version("author")),
    "roll back": lambda r: r.rollback("author", "moved"),
    "delete": lambda r: r.delete_alias("author", "pinned"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_write_without_the_token_is_refused(remote, address, write):
    before = remote.history("author")
    with RemoteRegistry(address, "wrong") as opened, pytest.raises(Unauthorized, match="Bearer"):
        write(opened)
    assert remote.history("author") == before


def test_vectors_and_their_version_take_one_request(address, plain, monkeypatch):
    sent = []
    with RemoteRegistry(address) as opened:
        opened.names()  # the first call also asks whether a registry answers
        send = opened._http.request
        monkeypatch.setattr(
            opened._http, "request", lambda *of, **more: sent.append(of) or send(*of, **more)
        )
        found = opened.get("author", "producer", ["p1"])
        assert comparable(found.version) == comparable(plain.version("author"))
        opened.features("consumer", ["c1"], ["author", "profile.days"])
    assert len(sent) == 2


def kinds_of_errors() -> list[type[RegistryError]]:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [kind for kind in found if issubclass(kind, RegistryError)]


def test_every_kind_of_error_is_the_same_after_http():
    app = FastAPI()
    failures.handle(app)

    @app.get("/healthz")
    def health() -> dict[str, str | int]:
        return {"status": "ok", "embeddings": 0}

    @app.get("/v1/embeddings/{kind}/versions")
    def fail(kind: str) -> None:
        named = getattr(errors, kind)
        raise named(28, "the reason") if issubclass(named, OSError) else named("the reason")

    with serving(app) as started, RemoteRegistry(started) as opened:
        for kind in kinds_of_errors():
            with pytest.raises(kind, match="^the reason$") as received:
                opened.versions(kind.__name__)
            assert type(received.value) is kind


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


def test_another_service_is_not_taken_for_a_registry(address):
    with (
        RemoteRegistry(f"{address}/embeddings/x") as page,
        pytest.raises(ServiceError, match="answered 404 with '<!doctype"),
    ):
        page.names()


FOREIGN = ["<html>a page</html>", "[]", "null", '{"status": "ok"}', ""]


@pytest.mark.parametrize("body", FOREIGN)
def test_what_is_no_registry_is_named(body):
    """A server of somebody else at the address, whatever it answers."""
    app = FastAPI()

    @app.get("/{path:path}")
    def anything(path: str) -> Response:
        return Response(body)

    with serving(app) as url, RemoteRegistry(url) as remote:
        for call in (lambda r: r.names(), lambda r: r.version("author")):
            with pytest.raises(ServiceError, match="which no registry would"):
                call(remote)


def test_a_registry_on_this_machine_is_not_sought_behind_a_proxy(address, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nothing listens there
    with RemoteRegistry(address) as remote:
        assert "author" in remote.names()
