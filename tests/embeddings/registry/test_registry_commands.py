"""`evergreen registry …` as a shell sees it, mounted as the whole command line mounts it."""

from __future__ import annotations

import json

import pytest
from registry_parts import parts, publish


def test_an_empty_registry_says_so(run):
    assert "Nothing is published yet." in run("list").stdout
    assert json.loads(run("list", "--json").stdout) == []


def test_list_and_versions_tell_what_there_is(run, plain):
    publish(plain, seed=1)
    version = publish(plain, seed=2)
    (embedding,) = json.loads(run("list", "--json").stdout)
    assert (embedding["versions"], embedding["latest"]["id"]) == (2, version.id)
    first, second = json.loads(run("versions", "author", "--json").stdout)
    assert (first["aliases"], second["aliases"]) == ([], ["latest"])
    table = run("versions", "author").stdout
    assert [word in table for word in (first["space"], "2022-04-25.r1", "latest", "33%")] == [
        True
    ] * 4


def test_show_tells_the_lineage(run, plain):
    publish(plain, commit="abc", days=["2022-04-24", "2022-04-25"])
    shown = json.loads(run("show", "author", "--day", "2022-04-25", "--json").stdout)
    assert shown["lineage"] == {"commit": "abc", "days": ["2022-04-24", "2022-04-25"]}
    assert "lineage.days" in run("show", "author").stdout


def test_get_prints_vectors_of_several_entities_in_the_order_asked_for(run, plain):
    publish(plain)
    entities, _ = parts()
    answer = json.loads(
        run("get", "author", "producer:p1", "consumer:c2", "producer:p0", "--json").stdout
    )
    assert [(v["entity"], v["id"]) for v in answer["vectors"]] == [
        ("producer", "p1"),
        ("consumer", "c2"),
        ("producer", "p0"),
    ]
    assert answer["vectors"][1]["vector"] == entities["consumer"].vectors[2].tolist()
    assert (answer["version"], answer["space"]) == ("author/2022-04-25.r1", "author/2022-04-25")


def test_neighbours_prints_what_the_client_finds(run, plain):
    publish(plain)
    found = plain.neighbours("author", "producer:p1", 2)
    answer = json.loads(run("neighbours", "author", "producer:p1", "--k", "2", "--json").stdout)
    assert [(n["id"], n["score"]) for n in answer["neighbours"]] == [(n.id, n.score) for n in found]
    assert f"producer:{found[0].id}" in run("neighbours", "author", "producer:p1").stdout


def test_fold_in_prints_what_the_client_computes(run, plain):
    publish(plain)
    answer = json.loads(run("fold-in", "author", "p1=2.5", "nobody=1", "--json").stdout)
    assert answer["vector"] == plain.fold_in("author", {"p1": 2.5}).vector.tolist()
    assert (answer["known"], answer["unknown"]) == (1, ["nobody"])
    assert "left out: nobody" in run("fold-in", "author", "p1=2.5", "nobody=1").stdout


def test_verify_names_the_damage(run, plain):
    version = publish(plain)
    assert "all 10 files are as published" in run("verify", "author").stdout
    (version.path / "consumer/shard-00000/ids.npy").write_bytes(b"")
    failed = run("verify", "author")
    assert (failed.exit_code, "consumer/shard-00000/ids.npy (changed)" in failed.stderr) == (
        1,
        True,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["versions", "autor"], "Did you mean 'author'?"),
        (["show", "author", "--day", "2022-04-26"], "Did you mean '2022-04-25'?"),
        (["get", "author", "producer:p11"], "'producer:p1'"),
        (["neighbours", "author", "p1"], "as in producer:1196"),
        (["neighbours", "author", "producer:p1", "--k", "0"], "ask for at least one"),
        (["fold-in", "author", "p1"], "no PRODUCER=STRENGTH"),
    ],
)
def test_what_is_unknown_is_one_message_and_exit_code_one(run, plain, arguments, message):
    publish(plain)
    failed = run(*arguments)
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert message in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_an_id_with_brackets_is_printed_as_it_is(run, plain):
    """Rich would read [red] as a colour."""
    publish(plain)
    assert "left out: [red]" in run("fold-in", "author", "p1=1", "[red]=1").stdout


@pytest.mark.parametrize(
    "command", ["list", "versions", "show", "get", "neighbours", "fold-in", "lookalike", "verify"]
)
def test_every_help_teaches_by_an_example(run, command):
    assert f"Example: evergreen registry {command}" in run(command, "--help").stdout
