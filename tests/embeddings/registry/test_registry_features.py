"""Features by name: tables are published as embeddings are, and both are read joined."""

from __future__ import annotations

import errno
import math
import os
import time
from datetime import date, datetime, timedelta

import numpy as np
import pytest
from registry_parts import DAY, IDS, SPACE, columns, parts, publish, publish_profile
from sqlalchemy import text

from embeddings.registry import features, files, versions
from embeddings.registry.errors import (
    BadRequest,
    BadVersion,
    DamagedVersion,
    PinnedVersion,
    SpaceMismatch,
    UnknownEntity,
    UnknownFeature,
    UnknownName,
    UnknownVersion,
)
from embeddings.registry.versions import removable

NEXT = DAY + timedelta(days=1)


def test_columns_and_vectors_are_joined_and_the_mask_says_who_has_them(registry):
    profile, author = publish_profile(registry), publish(registry)
    ids = ["c3", "nobody", "c1", "c3", "\ud800"]
    names = ["author", "profile.days", "profile.share", "profile.active", "profile.degree"]
    found = registry.features("consumer", ids, names)
    assert list(found.features) == names
    vectors = parts()[0]["consumer"].vectors
    nan = math.nan
    missing = [nan] * 3
    expected = {
        "author": [vectors[3], missing, vectors[1], vectors[3], missing],
        "profile.days": [-1, nan, 7, -1, nan],
        "profile.share": [0.25, nan, nan, 0.25, nan],  # the table itself has none for c1
        "profile.active": [1, nan, 0, 1, nan],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(found.features[name].values, values)
    degree = ["hoch öffentlich".encode(), b"", b"low", "hoch öffentlich".encode(), b""]
    assert found.features["profile.degree"].values.tolist() == degree
    has_row = [True, False, True, True, False]
    has_share = [True, False, False, True, False]
    masks = [has_row, has_row, has_share, has_row, has_row]
    assert found.mask.T.tolist() == masks
    assert found.features["author"].version == author
    assert found.features["profile.share"].version == profile
    numbers = registry.features("consumer", ["c3"], names[:4]).matrix()
    np.testing.assert_array_equal(numbers, [[*vectors[3], -1, 0.25, 1]])
    with pytest.raises(BadRequest, match=r"profile\.degree: texts cannot be in a matrix"):
        found.matrix()


def test_an_integer_up_to_two_to_the_53_comes_back_exactly(plain):
    publish_profile(plain)
    values = plain.features("consumer", ["late"], ["profile.days"]).features["profile.days"].values
    assert values.tolist() == [2**53]


@pytest.mark.parametrize("kind", ["author", "profile.days"])
def test_a_reference_names_a_day_a_revision_or_an_alias(registry, kind):
    publisher = publish if kind == "author" else publish_profile
    name = kind.partition(".")[0]
    first, second = publisher(registry, DAY, seed=1), publisher(registry, DAY, seed=2)
    newest = publisher(registry, NEXT)
    registry.set_alias(name, "champion", first)
    expected = {"": newest, "@2022-04-25": second, "@2022-04-25.r1": first, "@champion": first}
    names = [kind + suffix for suffix in expected]
    found = registry.features("consumer", ["c0"], names).features
    assert [one.version for one in found.values()] == list(expected.values())


@pytest.mark.parametrize("kind", ["author", "profile.days"])
def test_as_of_reads_the_newest_day_until_then_and_never_later(registry, kind):
    publisher = publish if kind == "author" else publish_profile
    name = kind.partition(".")[0]
    old, new = publisher(registry, DAY), publisher(registry, DAY + timedelta(days=3))

    def version(as_of, suffix=""):
        text = kind + suffix
        return registry.features("consumer", ["c0"], [text], as_of=as_of).features[text].version

    assert version(DAY) == version("2022-04-27") == version(date(2022, 4, 26)) == old
    assert version("2022-04-28") == version(date(2030, 1, 1)) == new
    assert version("2022-04-27", "@2022-04-25.r1") == old
    revised = publisher(registry, DAY, seed=5)
    assert version("2022-04-27") == revised
    with pytest.raises(BadRequest, match="@2022-04-28' is of a later day than as_of, 2022-04-27"):
        version("2022-04-27", "@2022-04-28")
    with pytest.raises(UnknownVersion, match="'2022-04-24 or before' in .*mean '2022-04-25'"):
        version("2022-04-24")
    registry.set_alias(name, "champion", old)
    for alias in ("champion", "latest"):
        with pytest.raises(BadRequest, match=f"@{alias}' names an alias, which may have moved"):
            version("2030-01-01", f"@{alias}")


@pytest.mark.parametrize("text", ["20220425", "2022-W17-1", "2022-4-25", "2022-04-31", "today"])
def test_a_day_is_written_in_one_way(registry, text):
    with pytest.raises(BadRequest, match=f"'{text}' is not a calendar day; write it as"):
        registry.features("consumer", ["c0"], ["author"], as_of=text)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("autor", UnknownName, "Did you mean 'author'"),
        ("profle.days", UnknownName, "Did you mean 'profile'"),
        ("profile.dys", UnknownFeature, r"no feature 'profile\.dys' in .*mean 'profile\.days'"),
        ("profile", BadRequest, r"is a table of features; name one of them: profile\.days, "),
        ("author.days", BadRequest, "'author' is an embedding, which has no feature 'days'"),
        ("author@lates", UnknownVersion, "Did you mean 'latest'"),
        ("author@2022-04-31", BadRequest, "not a calendar day"),
        ("", BadRequest, "is not the name of a feature"),
        ("profile.days.mean", BadRequest, "is not the name of a feature"),
        ("author@", BadRequest, "is not the name of a feature"),
        ("\0", UnknownName, "no embedding"),
        ("profile.\ud800", UnknownFeature, "no feature"),
    ],
)
def test_an_unknown_feature_is_named_with_near_misses(registry, name, error, message):
    publish(registry), publish_profile(registry)
    with pytest.raises(error, match=message):
        registry.features("consumer", ["c0"], ["author", name])


def test_what_else_cannot_be_read_is_named(plain):
    publish(plain), publish_profile(plain)
    with pytest.raises(BadRequest, match="At least one feature is required"):
        plain.features("consumer", ["c0"], [])
    for name in ("author", "profile.days"):
        with pytest.raises(UnknownEntity, match=r"no entity 'consumers' in .*mean 'consumer'"):
            plain.features("consumers", ["c0"], [name])
    with pytest.raises(SpaceMismatch, match="against space 'elsewhere'"):
        plain.features("consumer", ["c0"], ["profile.days", "author"], space="elsewhere")
    with pytest.raises(BadRequest, match="is not a day: use a datetime.date"):
        plain.features("consumer", ["c0"], ["author"], as_of=datetime(2022, 4, 25))
    assert plain.features("consumer", [], ["author", "profile.days"]).matrix().shape == (0, 4)


def test_a_table_is_a_version_as_any_other(registry):
    first = publish_profile(registry, run="first")
    assert publish_profile(registry, run="second") == first
    assert (first.kind, first.id, first.lineage) == (
        "features",
        "profile/2022-04-25.r1",
        {"run": "first"},
    )
    assert first.entities == {"consumer": {"rows": 4, "folded": 0, "engagements": 0}}
    second = publish_profile(registry, seed=1)
    assert registry.versions("profile") == [first, second]
    assert registry.find("profile") == registry.find("profile", "2022-04-25") == second
    author = publish(registry)
    assert registry.names() == ["author", "profile"]
    assert (registry.names("features"), registry.names("embedding")) == (["profile"], ["author"])
    assert author.kind == "embedding"
    table = registry.load_features(first)
    for name, column in columns().items():
        np.testing.assert_array_equal(table.columns[name], column)
        assert not table.columns[name].flags.writeable
    assert list(registry.verify_all()) == [(author.id, []), (first.id, []), (second.id, [])]
    with pytest.raises(PinnedVersion):
        registry.remove(second)
    kept = removable(registry.versions("profile"), registry.aliases("profile"), keep_days=1)
    assert kept == [first]
    registry.remove(first)
    assert not first.path.exists()
    with pytest.raises(DamagedVersion, match="If the version was removed"):
        registry.load_features(first)


def test_a_name_has_one_kind(registry):
    """Else 'latest' would mean vectors on one day and columns on another."""
    author, profile = publish(registry), publish_profile(registry)
    with pytest.raises(BadRequest, match="'author' cannot be published as features: it already"):
        publish_profile(registry, name="author")
    with pytest.raises(BadRequest, match="'profile' cannot be published as embedding"):
        publish(registry, name="profile", seed=3)
    recorded = {author.path, profile.path}
    assert files.content_folders(registry.place) == recorded
    with registry.catalog.reading() as session:
        assert session.execute(text("SELECT count(*) FROM versions")).scalar() == 2


def test_a_name_that_another_publisher_has_just_taken_is_refused(plain, monkeypatch):
    """It was free when this publisher looked, and is not when it records its version."""
    monkeypatch.setattr(type(plain), "_require_kind", lambda *_: None)
    author = publish(plain)
    with pytest.raises(BadRequest, match="'author' cannot be published as features"):
        publish_profile(plain, name="author")
    assert plain.versions("author") == [author]


def test_vectors_are_not_read_from_a_table_nor_columns_from_an_embedding(plain):
    profile, author = publish_profile(plain), publish(plain)
    with pytest.raises(BadRequest, match=r"profile/2022-04-25\.r1 is a table of features, which"):
        plain.get("profile", "consumer", ["c0"])
    with pytest.raises(BadRequest, match="is a table of features"):
        plain.diff(author, profile)
    with pytest.raises(BadRequest, match="is an embedding, not a table of features"):
        plain.load_features(author)


@pytest.mark.parametrize("file", ["ids.npy", "columns/days.npy"])
def test_a_damaged_table_is_found_refused_and_healed(plain, file):
    version = publish_profile(plain)
    path = version.path / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedVersion, match=rf"{file} \(changed\)"):
        plain.verify(version)
    with pytest.raises(DamagedVersion, match=f"{file} cannot be read"):
        plain.features("consumer", ["c0"], ["profile.days"])
    assert publish_profile(plain) == version
    plain.verify(version)
    assert plain.features("consumer", ["c1"], ["profile.days"]).matrix().tolist() == [[7]]


def test_an_orphan_table_is_swept(plain):
    orphan = publish_profile(plain, seed=1)
    publish_profile(plain, seed=2)
    with plain.catalog.writing() as session:
        versions.remove(session, orphan)
    then = time.time() - 7200
    os.utime(orphan.path, (then, then))
    assert plain.sweep_orphans(3600) == [orphan.path]


BROKEN = [
    ({"ids": IDS[::-1]}, r"consumer\.ids must be sorted and unique"),
    ({"ids": np.repeat(IDS[:2], 2)}, r"consumer\.ids must be sorted and unique"),
    ({"ids": IDS[:0]}, "consumer has no rows"),
    ({"columns": {}}, "needs at least one column"),
    ({"columns": {"a": np.ones(3)}}, r"'a' must be 4 numbers or texts .* not float64 of shape"),
    ({"columns": {"a": np.ones((4, 2))}}, "'a' must be 4 numbers"),
    ({"columns": {"a": np.array(["x"] * 4)}}, "'a' must be 4 numbers or texts .*, not <U1"),
    ({"columns": {"a": np.array([None] * 4)}}, "'a' must be 4 numbers"),
    ({"columns": {"a": np.array([b"x" * 201] * 4)}}, "'a' must be 4 numbers .* not .S201"),
    ({"columns": {"a": np.array([b"\xff"] * 4)}}, "'a' must be UTF-8"),
    ({"columns": {"a": np.array([0, np.inf, 0, 0])}}, "'a' must be finite .*row 1 is inf"),
    ({"columns": {"a": np.array([0, 0, 2**53 + 1, 0])}}, r"'a' must be .* at most 2\^53: row 2"),
    ({"columns": {"a": np.array([2**64 - 1] * 4, np.uint64)}}, r"at most 2\^53: row 0"),
    ({"columns": {"a.b": np.ones(4)}}, r"'a\.b' cannot be the column"),
    ({"columns": {"../x": np.ones(4)}}, r"'\.\./x' cannot be the column"),
    ({"entity": "a/b"}, "'a/b' cannot be the entity"),
    ({"name": "a.b"}, r"'a\.b' cannot be the name"),
    ({"lineage": {"loss": math.nan}}, "lineage of 'profile' cannot be written as JSON"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_an_invalid_table_is_named_and_leaves_nothing(plain, change, message):
    valid = {
        "name": "profile",
        "day": DAY,
        "entity": "consumer",
        "ids": IDS,
        "columns": columns(),
        "lineage": {},
    }
    with pytest.raises(BadVersion, match=message):
        plain.publish_features(**{**valid, **change})
    assert plain.names() == []
    assert not list(plain.root.rglob("*.npy"))


def test_a_full_disk_leaves_the_tables_as_they_were(plain, monkeypatch):
    version = publish_profile(plain)

    def full_disk(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        publish_profile(plain, seed=1)
    assert files.content_folders(plain.place) == {version.path}
    assert plain.versions("profile") == [version]
    assert list((plain.root / "versions" / "_staging").iterdir()) == []


def test_one_read_sees_one_state_of_the_registry(registry, monkeypatch):
    """Both are published again after the first one was looked up."""
    old = {"author": publish(registry), "profile.days": publish_profile(registry)}
    resolved = features.resolved

    def resolved_slowly(session, *arguments):
        row = resolved(session, *arguments)
        publish(registry, seed=1), publish_profile(registry, seed=1)
        return row

    monkeypatch.setattr(features, "resolved", resolved_slowly)
    found = registry.features("consumer", ["c0"], list(old)).features
    assert {name: feature.version for name, feature in found.items()} == old


def test_a_table_has_no_space_to_check(plain):
    publish_profile(plain), publish(plain)
    found = plain.features("consumer", ["c0"], ["profile.days", "author"], space=SPACE)
    assert found.mask.tolist() == [[True, True]]
