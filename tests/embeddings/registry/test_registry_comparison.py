"""Benchmarks of several embeddings side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta

import pytest
from registry_parts import DAY, SPACE, parts, publish

from embeddings.benchmarks.results import Result
from embeddings.registry.client import Registry
from embeddings.registry.comparison import compare
from embeddings.registry.errors import BadRequest, UnknownName


def days(number: int) -> date:
    return DAY + timedelta(days=number)


def result(task: str, on: date, value: float) -> Result:
    baselines = {"random": 0.1, "popularity": 0.2}
    return Result(task, "auc", on, value, value - 0.02, value + 0.02, 50, baselines)


def publish_as(registry: Registry, name: str, day: date, results: list[Result]) -> None:
    entities, fold_in = parts()
    registry.publish(name, day, SPACE, entities, fold_in, {}, results)


@pytest.fixture
def two(plain) -> Registry:
    """Authors on two days, topics on the second. The third and fourth day judge them."""
    older, newer = days(0), days(1)
    own = result("profile", older, 0.60), result("profile", newer, 0.61)
    author_older = [own[0], result("retrieval", newer, 0.30), result("retrieval", days(2), 0.28)]
    author_newer = [own[1], result("retrieval", days(2), 0.31), result("retrieval", days(3), 0.27)]
    topic = [result("profile", newer, 0.70), result("retrieval", days(2), 0.25)]
    publish_as(plain, "author", older, author_older)
    publish_as(plain, "author", newer, author_newer)
    publish_as(plain, "topic", newer, topic)
    return plain


def values(compared) -> dict[str, tuple[str, list[float | None]]]:
    found = {}
    for row in compared.rows:
        found[row.task] = (row.day, [one and one.value for one in row.results])
    return found


def test_embeddings_are_compared_on_the_newest_day_that_both_have(two):
    """The fourth day has a result of the authors only, the third one of both."""
    assert values(compare(two, ["author", "topic"])) == {
        "profile": ("own day", [0.61, 0.70]),
        "retrieval": (str(days(2)), [0.31, 0.25]),
    }


def test_versions_are_compared_on_one_day(two):
    """The newer version counts for the name; the older one has a result of the same day."""
    compared = compare(two, [f"author/{days(0)}", f"author/{days(1)}", "author"])
    assert values(compared)["retrieval"] == (str(days(2)), [0.28, 0.31, 0.31])
    assert values(compared)["profile"] == ("own day", [0.60, 0.61, 0.61])


def test_a_column_without_the_result_stays_empty(two):
    publish_as(two, "word", days(1), [result("profile", days(1), 0.5)])
    compared = compare(two, ["author", "topic", "word"])
    assert values(compared)["retrieval"] == (str(days(2)), [0.31, 0.25, None])
    assert "–" in compared.markdown()


def test_markdown_marks_the_best(two):
    header, _, profile, retrieval = compare(two, ["author", "topic"]).markdown().splitlines()
    assert header == "| benchmark | labels of | author | topic |"
    assert profile.split(" | ")[2] == "0.610 ±0.020 (0.200 popularity)"
    assert profile.split(" | ")[3] == "**0.700 ±0.020** (0.200 popularity) |"
    assert retrieval.split(" | ")[2].startswith("**0.310 ±0.020**")


def test_every_version_is_beside_its_own_baselines(two):
    """The popularity of each is that of its window; the order of the columns changes nothing."""
    strong = replace(result("profile", days(1), 0.5), baselines={"popularity": 0.9})
    publish_as(two, "word", days(1), [strong])
    for references in (["author", "word"], ["word", "author"]):
        found = {line[2]: line[4] for line in compare(two, references).lines()[:2]}
        assert found == {"author": "0.200 popularity", "word": "0.900 popularity"}


def test_the_best_of_one_is_not_marked(two):
    assert "**" not in compare(two, ["author"]).markdown()


def test_what_has_no_benchmarks_is_named_with_the_remedy(plain):
    publish(plain)
    with pytest.raises(BadRequest, match="author: no benchmarks.*not_judged.*backfill"):
        compare(plain, ["author"])
    with pytest.raises(UnknownName, match="nope"):
        compare(plain, ["nope"])


def test_the_command_prints_a_table_and_saves_a_picture(run, two, tmp_path):
    picture = tmp_path / "table.png"
    printed = run("benchmarks", "author", "topic", "--picture", str(picture)).stdout
    for text in ("retrieval auc", str(days(2)), "0.310 ±0.020", "0.200 popularity"):
        assert text in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    other = run("benchmarks", "author", "--picture", str(tmp_path / "no" / "folder.png"))
    assert other.exit_code == 1
    assert "folder.png cannot be written: No such file or directory" in other.stderr
    shown = json.loads(run("benchmarks", "author", "topic", "--json").stdout)
    assert shown["columns"] == ["author", "topic"]
    assert shown["rows"][1]["labels_of"] == str(days(2))
    assert shown["rows"][1]["results"][0]["value"] == 0.31
    assert run("benchmarks", "author", "--markdown").stdout.startswith("| benchmark")
