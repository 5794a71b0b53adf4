"""The history of aliases: every move, who it came from, and why."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from registry_parts import DAY, SPACE, TOKEN, parts, publish

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


@pytest.mark.parametrize("by", ["x" * 101, "two\nlines", "\0", "\ud800"], ids=ascii)
def test_a_mover_that_a_catalog_cannot_store_is_refused(registry, by):
    version = publish(registry)
    recorded = moves(registry)
    with pytest.raises(BadRequest, match="cannot be the name of who moves an alias: use one line"):
        registry.set_alias("author", "serving", version, by=by)
    entities, fold_in = parts(seed=1)
    with pytest.raises(BadRequest, match="cannot be the name of who moves an alias"):
        registry.publish("author", DAY, SPACE, entities, fold_in, {}, by=by)
    assert moves(registry) == recorded
    assert registry.versions("author") == [version]


def test_every_kind_of_move_records_who_made_it(registry):
    entities, fold_in = parts()
    old = registry.publish("author", DAY, SPACE, entities, fold_in, {}, by="nightly")
    new = publish(registry, NEXT)
    registry.set_alias("author", "serving", old, by="ann")
    registry.set_alias("author", "serving", new, by="ben")
    registry.rollback("author", "serving", by="cem")
    registry.delete_alias("author", "serving", by="dan")
    movers = [move.moved_by for move in registry.history("author")]
    assert movers == ["dan", "cem", "ben", "ann", getpass.getuser(), "nightly"]


def test_a_rollback_undoes_the_last_move_and_a_second_one_undoes_the_first(registry):
    old = publish(registry, DAY)
    new = publish(registry, NEXT)
    registry.set_alias("author", "serving", old)
    registry.set_alias("author", "serving", new)
    assert registry.rollback("author", "serving", reason="worse") == old
    assert registry.alias("author", "serving") == old
    assert moves(registry)[0] == ("serving", NEW, OLD, "worse")
    assert registry.rollback("author", "serving") == new
    registry.delete_alias("author", "serving")
    assert registry.rollback("author", "serving") == new
    assert moves(registry)[0] == ("serving", None, NEW, "")


def test_a_rollback_skips_versions_that_were_removed(registry):
    first, second, third = (publish(registry, seed=seed) for seed in range(3))
    for version in (first, second, third):
        registry.set_alias("author", "serving", version)
    registry.remove(second)
    assert registry.rollback("author", "serving") == first


def test_a_rollback_without_an_earlier_version_names_the_alias_and_changes_nothing(registry):
    first, second = publish(registry, seed=1), publish(registry, seed=2)
    registry.set_alias("author", "serving", first)
    message = r"'serving' of 'author' cannot be rolled back: it has pointed at no other version"
    with pytest.raises(BadRequest, match=message):
        registry.rollback("author", "serving")
    registry.set_alias("author", "serving", second)
    registry.remove(first)
    recorded = moves(registry)
    with pytest.raises(BadRequest, match=message):
        registry.rollback("author", "serving")
    assert (registry.alias("author", "serving"), moves(registry)) == (second, recorded)
    # Back and forth between the two, of which one is left: it is where the alias points already.
    registry.set_alias("author", "flapping", second)
    third = publish(registry, seed=3)
    registry.set_alias("author", "flapping", third)
    registry.set_alias("author", "flapping", second)
    publish(registry, seed=4)
    registry.remove(third)
    with pytest.raises(BadRequest, match="'flapping' of 'author' cannot be rolled back"):
        registry.rollback("author", "flapping")
    with pytest.raises(
        UnknownVersion, match=r"no alias 'servin' in author\. Did you mean 'serving'"
    ):
        registry.rollback("author", "servin")


@pytest.mark.parametrize("alias", ["latest", "2022-04-25", "a b", ""])
def test_an_alias_that_cannot_be_set_cannot_be_deleted_or_rolled_back(plain, alias):
    publish(plain)
    with pytest.raises(BadRequest, match="cannot be set as an alias, deleted or rolled back"):
        plain.rollback("author", alias)
    with pytest.raises(BadRequest, match="cannot be set as an alias, deleted or rolled back"):
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
