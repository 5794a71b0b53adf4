"""`evergreen registry …` from a shell, mounted the way the full command line mounts it."""

from __future__ import annotations

import getpass
import json
import re

import numpy as np
import pytest
from registry_parts import DAY, SPACE, parts, publish, publish_profile, vectors

from embeddings.benchmarks.results import Result
from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry.catalog import HEAD
from embeddings.registry.commands import app


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
    assert "latest" in current
    assert "replaced" not in current


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


def test_space_dim_and_only_are_those_of_the_client(run, plain):
    publish(plain)
    options = ("--space", SPACE, "--dim", "2", "--json")
    got = json.loads(run("get", "author", "producer:p1", *options).stdout)
    expected = plain.get("author", "producer", ["p1"], dim=2)
    assert got["vectors"][0]["vector"] == expected.vectors[0].tolist()
    near = run("neighbours", "author", "producer:p1", "--only", "p0", "--only", "p4", *options)
    found = plain.neighbours("author", "producer:p1", dim=2, only=["p0", "p4"])
    assert json.loads(near.stdout)["neighbours"] == [vars(one) for one in found]
    folded = json.loads(run("fold-in", "author", "p1=2", "--k", "2", *options).stdout)
    assert len(folded["vector"]) == len(folded["neighbours"]) == 2
    for command in (("get", "author", "producer:p1"), ("fold-in", "author", "p1=2")):
        refused = run(*command, "--space", "x")
        assert (refused.exit_code, "is in space" in refused.stderr) == (1, True)


def test_features_are_printed_joined_or_listed(run, plain):
    assert "No table of features is published yet." in run("features").stdout
    publish(plain)
    publish_profile(plain)
    listed = run("features").stdout
    for text in ("profile", "consumer", "degree"):
        assert text in listed
    names = ("--feature", "profile.days", "--feature", "profile.degree", "--feature", "author")
    rows = run("features", "consumer", "c1", "late", *names).stdout.splitlines()
    values = [(row.split()[2:] or [""])[0] for row in rows if row.startswith("consumer:")]
    vector = plain.get("author", "consumer", ["c1"]).vectors[0]
    assert values == ["7", "low", f"{vector[0]:.4f}", "9007199254740992", "", "–"]
    printed = json.loads(run("features", "consumer", "c1", *names, "--json").stdout)
    assert printed["rows"][0]["features"]["profile.degree"] == "low"
    assert run("features", "consumer", "c1", *names, "--as-of", "2020-01-01").exit_code == 1


def test_a_diff_names_who_came_and_what_was_gained(run, plain):
    before = publish(plain, commit="abc")
    entities, fold_in = parts(consumers=11)
    after = plain.publish("author", DAY, SPACE, entities, fold_in, {"commit": "def"})
    for version, value in ((before, 0.5), (after, 0.75)):
        plain.add_results(version, [Result("task", "auc", DAY, value, 0.4, 0.8, 9, {})])
    printed = run("diff", f"author/{DAY}.r1", "author").stdout
    for text in (f"a: {before.id}", f"b: {after.id}", "gained consumer: c10, c9", "+0.250", "def"):
        assert text in printed
    found = json.loads(run("diff", f"author/{DAY}.r1", "author", "--json").stdout)
    assert found["entities"]["consumer"]["gained"] == 2
    assert found["lineage"] == {"commit": {"a": "abc", "b": "def"}}


def test_a_rollback_is_in_the_history_with_who_made_it(run, plain):
    for seed in (1, 2):
        plain.set_alias("author", "serving", publish(plain, seed=seed), by="ann")
    assert (
        "serving of author points at author/2022-04-25.r1"
        in run("rollback", "author", "serving", "--reason", "worse").stdout
    )
    rows = run("history", "author", "--alias", "serving").stdout.splitlines()
    assert rows[2].split()[2:] == [
        "serving",
        "2022-04-25.r2",
        "2022-04-25.r1",
        getpass.getuser(),
        "worse",
    ]
    assert rows[3].split()[-1] == "ann"


COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]
# What each command is given, and the ids and versions that it prints.
GROUP = "user_active_degree=full_active"
R1, R2 = f"{DAY}.r1", f"{DAY}.r2"
NAMES = "names.csv"
IN_80_COLUMNS = {
    "list": ([], ["author_of_the_week", R2]),
    "versions": (["author_of_the_week"], [R1, R2, "champion", "serving", "latest"]),
    "show": (
        ["author_of_the_week"],
        [f"author_of_the_week/{R2}", "a-run-of-32-hexadecimal-digits"],
    ),
    "get": (
        ["author_of_the_week", f"group:{GROUP}", "producer:5345439"],
        [GROUP, "producer:5345439"],
    ),
    "neighbours": (["author_of_the_week", "producer:5345439"], ["producer:5345440"]),
    "fold-in": (["author_of_the_week", "5345439=1", "--k", "2"], ["producer:5345439"]),
    "lookalike": (["author_of_the_week", "--group", GROUP], ["5345439", "5345440", GROUP]),
    "features": (
        ["consumer", "c1", "--feature", f"profile_of_users.degree@{R1}"],
        ["consumer:c1", f"profile_of_users.degree@{R1}", f"profile_of_users/{R1}"],
    ),
    "publish-features": (["called", "producer", NAMES, "--day", str(DAY)], [f"called/{R1}"]),
    "diff": (
        [f"author_of_the_week/{R1}", "author_of_the_week"],
        [f"author_of_the_week/{R1}", f"author_of_the_week/{R2}", "5345439", GROUP],
    ),
    "benchmarks": (
        [f"author_of_the_week/{R1}", f"author_of_the_week/{R2}", "author_of_the_week"],
        [R1, R2, "0.700 ±0.100"],
    ),
    "alias": (["author_of_the_week", "new", "--day", R1], [f"author_of_the_week/{R1}"]),
    "rollback": (["author_of_the_week", "champion"], [f"author_of_the_week/{R2}"]),
    "history": (["author_of_the_week"], [R1, R2, "champion", "serving"]),
    "copy-catalog": (["--to", "sqlite:///copy.db"], ["versions", "aliases"]),
    "upgrade": ([], [f"schema {HEAD}"]),
    "verify": ([], [f"author_of_the_week/{R1}", f"author_of_the_week/{R2}"]),
}


@pytest.fixture
def realistic(plain, tmp_path, monkeypatch):
    """Two versions of a day, whose names and ids are as long as those of real logs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAMES).write_text("id,name\n5345439,Ann\n")
    name = "author_of_the_week"
    lineage = {"previous": f"{name}/{R1}", "mlflow_run": "a-run-of-32-hexadecimal-digits"}
    first = publish(plain, name=name, a_field_with_a_long_name=list(range(99)))
    entities, _ = parts(producers=2)
    producers = vectors(["5345439", "5345440"])
    entities = {"producer": producers, "consumer": vectors(["c0"]), "group": vectors([GROUP])}
    fold_in = SVDFoldIn(producers.vectors, np.ones(2))
    second = plain.publish(name, DAY, SPACE, entities, fold_in, lineage)
    for version in (first, second):
        plain.add_results(version, [Result("task", "auc", DAY, 0.7, 0.6, 0.8, 9, {"random": 0.5})])
    for version in (second, first):
        plain.set_alias(name, "champion", version, reason="worse for newcomers than the last one")
    plain.set_alias(name, "serving", second)
    publish_profile(plain, name="profile_of_users")


def test_the_commands_are_all_known():
    assert sorted(IN_80_COLUMNS) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_ids_and_versions_are_whole_at_80_columns(run, realistic, command):
    arguments, whole = IN_80_COLUMNS[command]
    printed = run(command, *arguments, columns=80)
    assert printed.exit_code == 0, printed.stderr
    lines = printed.stdout.splitlines()
    for text in whole:
        assert any(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", line) for line in lines), text
    assert max(map(len, lines)) <= 80 or command == "verify"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_text_has_an_example(run, command):
    assert f"Example: evergreen registry {command}" in run(command, "--help").stdout
