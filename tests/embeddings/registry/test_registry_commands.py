"""`evergreen registry …` from a shell, mounted the way the full command line mounts it."""

from __future__ import annotations

import json

import pytest
from registry_parts import parts, publish


def test_an_empty_registry_is_reported(run):
    assert "Nothing is published yet." in run("list").stdout
    assert json.loads(run("list", "--json").stdout) == []


def test_list_and_versions_show_what_is_published(run, plain):
    publish(plain, seed=1)
    version = publish(plain, seed=2)
    (embedding,) = json.loads(run("list", "--json").stdout)
    assert (embedding["versions"], embedding["latest"]["id"]) == (2, version.id)
    first, second = json.loads(run("versions", "author", "--json").stdout)
    assert (first["aliases"], second["aliases"]) == ([], ["latest"])
    table = run("versions", "author").stdout
    for text in (first["space"], "2022-04-25.r1", "latest", "33%"):
        assert text in table


def test_show_prints_the_lineage(run, plain):
    publish(plain, commit="abc", days=["2022-04-24", "2022-04-25"])
    shown = json.loads(run("show", "author", "--day", "2022-04-25", "--json").stdout)
    assert shown["lineage"] == {"commit": "abc", "days": ["2022-04-24", "2022-04-25"]}
    assert "lineage.days" in run("show", "author").stdout


def test_get_prints_vectors_of_several_entities_in_the_requested_order(run, plain):
    publish(plain)
    entities, _ = parts()
    keys = ["producer:p1", "consumer:c2", "producer:p0"]
    printed = json.loads(run("get", "author", *keys, "--json").stdout)
    assert [f"{record['entity']}:{record['id']}" for record in printed["vectors"]] == keys
    assert printed["vectors"][1]["vector"] == entities["consumer"].vectors[2].tolist()
    assert (printed["version"], printed["space"]) == ("author/2022-04-25.r1", "author/2022-04-25")


def test_neighbours_prints_the_clients_neighbours(run, plain):
    publish(plain)
    found = plain.neighbours("author", "producer:p1", 2)
    printed = json.loads(run("neighbours", "author", "producer:p1", "--k", "2", "--json").stdout)
    assert printed["neighbours"] == [vars(neighbour) for neighbour in found]
    assert f"producer:{found[0].id}" in run("neighbours", "author", "producer:p1").stdout


def test_fold_in_prints_the_clients_vector(run, plain):
    publish(plain)
    printed = json.loads(run("fold-in", "author", "p1=2.5", "p9=1", "--json").stdout)
    assert printed["vector"] == plain.fold_in("author", {"p1": 2.5}).vector.tolist()
    assert (printed["known"], printed["unknown"]) == (1, ["p9"])
    assert "left out: p9" in run("fold-in", "author", "p1=2.5", "p9=1").stdout


def test_verify_names_the_damaged_file(run, plain):
    version = publish(plain)
    assert "all 10 files are unchanged since publication" in run("verify", "author").stdout
    (version.path / "consumer/shard-00000/ids.npy").write_bytes(b"")
    failed = run("verify", "author")
    assert failed.exit_code == 1
    assert "consumer/shard-00000/ids.npy (changed)" in failed.stderr


def test_verify_without_a_name_checks_every_version(run, plain):
    intact = publish(plain, seed=1)
    damaged = publish(plain, seed=2)
    assert "All 2 versions are unchanged since publication." in run("verify").stdout
    (damaged.path / "consumer/shard-00000/ids.npy").write_bytes(b"")
    failed = run("verify")
    assert failed.exit_code == 1
    assert failed.stdout.splitlines() == [
        f"{intact.id}: unchanged",
        f"{damaged.id}: consumer/shard-00000/ids.npy (changed)",
    ]
    assert "1 of 2 versions are damaged. Publish the day again" in failed.stderr
    faults = {damaged.id: ["consumer/shard-00000/ids.npy (changed)"]}
    assert json.loads(run("verify", "--json").stdout) == {"versions": 2, "damaged": faults}


def test_versions_shows_which_revision_is_current(run, plain):
    for seed in (1, 2, 1):
        publish(plain, seed=seed)
    rows = run("versions", "author").stdout.splitlines()
    (replaced,) = [row for row in rows if ".r2" in row]
    (current,) = [row for row in rows if ".r1" in row]
    assert "replaced" in replaced
    assert "yes" in current


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["versions", "autor"], "Did you mean 'author'?"),
        (["show", "author", "--day", "2022-04-26"], "Did you mean '2022-04-25'?"),
        (["get", "author", "producer:p11"], "'producer:p1'"),
        (["neighbours", "author", "p1"], "as in producer:1196"),
        (["neighbours", "author", "producer:p1", "--k", "0"], "must be at least one"),
        (["fold-in", "author", "p1"], "is not PRODUCER=STRENGTH"),
    ],
)
def test_a_request_that_fails_prints_one_message_and_exits_with_one(run, plain, arguments, message):
    publish(plain)
    failed = run(*arguments)
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert message in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_an_id_with_brackets_is_printed_verbatim(run, plain):
    """Rich would read [red] as a colour."""
    publish(plain)
    assert "left out: [red]" in run("fold-in", "author", "p1=1", "[red]=1").stdout


COMMANDS = [
    "list",
    "versions",
    "show",
    "get",
    "neighbours",
    "fold-in",
    "lookalike",
    "alias",
    "history",
    "verify",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_text_has_an_example(run, command):
    assert f"Example: evergreen registry {command}" in run(command, "--help").stdout
