"""The history of aliases: every move, who it came from, and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from registry_parts import DAY, TOKEN, publish

from embeddings.registry import responses
from embeddings.registry.errors import BadRequest, UnknownName, UnknownVersion

NEXT = DAY + timedelta(days=1)
OLD = "author/2022-04-25.r1"
NEW = "author/2022-04-26.r1"


def moves(registry, alias=None) -> list[tuple]:
    return [
        (move.alias, move.from_version, move.to_version, move.reason)
        for move in registry.history("author", alias)
    ]


def test_publishing_setting_rewinding_and_deleting_are_recorded_newest_first(registry):
    before = datetime.now(UTC)
    old = publish(registry, DAY)
    new = publish(registry, NEXT)
    registry.set_alias("author", "serving", new)
    registry.set_alias("author", "serving", old, reason="bad day")
    registry.delete_alias("author", "serving", reason="unused")
    assert moves(registry) == [
        ("serving", OLD, None, "unused"),
        ("serving", NEW, OLD, "bad day"),
        ("serving", None, NEW, ""),
        ("latest", OLD, NEW, ""),
        ("latest", None, OLD, ""),
    ]
    assert moves(registry, "latest") == moves(registry)[3:]
    oldest_first = [move.moved_at for move in registry.history("author")][::-1]
    times = [before, *oldest_first, datetime.now(UTC)]
    assert times == sorted(times)


def test_a_move_that_changes_nothing_is_not_recorded(registry):
    old = publish(registry, DAY)
    new = publish(registry, NEXT)
    registry.set_alias("author", "serving", new)
    recorded = moves(registry)
    registry.set_alias("author", "serving", new, reason="again")
    registry.set_alias("author", "serving", old, only_forward=True)
    publish(registry, NEXT)
    publish(registry, DAY, seed=1)
    assert moves(registry) == recorded


def test_a_move_that_is_rolled_back_is_not_recorded(registry):
    publish(registry)
    recorded = moves(registry)
    with pytest.raises(UnknownVersion):
        registry.delete_alias("author", "serving")
    assert moves(registry) == recorded


def test_embeddings_do_not_see_each_others_history(registry):
    publish(registry, name="author")
    publish(registry, name="topic")
    assert moves(registry) == [("latest", None, OLD, "")]


def test_the_history_of_what_never_existed_is_not_empty_but_unknown(registry):
    publish(registry)
    with pytest.raises(UnknownName, match="Did you mean 'author'"):
        registry.history("autor")
    with pytest.raises(UnknownVersion, match=r"no alias 'lates' in author\. Did you mean 'latest'"):
        registry.history("author", "lates")


@pytest.mark.parametrize("reason", ["x" * 501, "two\nlines", "\0", "\ud800"], ids=ascii)
def test_a_reason_that_a_catalog_cannot_store_is_refused(registry, reason):
    version = publish(registry)
    with pytest.raises(BadRequest, match="cannot be the reason of a move: use one line of at most"):
        registry.set_alias("author", "serving", version, reason=reason)
    assert list(registry.aliases("author")) == ["latest"]


@pytest.mark.parametrize("alias", ["latest", "2022-04-25", "a b", ""])
def test_an_alias_that_cannot_be_set_cannot_be_deleted(plain, alias):
    publish(plain)
    with pytest.raises(BadRequest, match="cannot be set as an alias, or deleted"):
        plain.delete_alias("author", alias)


def test_the_commands_set_rewind_delete_and_list(run, plain):
    publish(plain, DAY)
    publish(plain, NEXT)
    assert NEW in run("alias", "author", "serving", "--day", "latest").stdout
    assert OLD in run("alias", "author", "serving", "--day", "2022-04-25", "--reason", "bad").stdout
    assert "deleted" in run("alias", "author", "serving", "--delete").stdout
    printed = json.loads(run("history", "author", "--alias", "serving", "--json").stdout)
    assert printed == responses.history(plain, "author", "serving")
    assert [move["to_version"] for move in printed] == [None, OLD, NEW]
    table = run("history", "author").stdout
    assert all(text in table for text in (OLD, NEW, "serving", "bad", "none"))


@pytest.mark.parametrize("options", [[], ["--day", "latest", "--delete"]])
def test_the_alias_command_does_one_thing(run, plain, options):
    publish(plain)
    failed = run("alias", "author", "serving", *options)
    assert failed.exit_code == 1
    assert "Give either --day" in failed.stderr


def test_the_service_returns_the_history_and_takes_reasons(service, plain):
    publish(plain, DAY)
    publish(plain, NEXT)
    with httpx.Client(base_url=f"{service}/v1/embeddings/author") as client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        body = {"alias": "serving", "version": "2022-04-25", "reason": "bad day"}
        assert client.post("/aliases", json=body, headers=headers).status_code == 200
        assert client.get("/history").json() == responses.history(plain, "author")
        (move,) = client.get("/history", params={"alias": "serving"}).json()
        assert (move["to_version"], move["reason"]) == (OLD, "bad day")
        assert client.get("/history", params={"alias": "servin"}).status_code == 404
        for reason in ("x" * 501, "two\nlines"):
            refused = client.post("/aliases", json={**body, "reason": reason}, headers=headers)
            assert refused.status_code == 422
