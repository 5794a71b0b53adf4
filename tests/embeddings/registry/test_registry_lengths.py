"""Learned lengths: published beside the whole vectors, and read in every way by `dim`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from registry_parts import DAY, SPACE, parts, publish, vectors

from embeddings.lengths.encoder import Encoder
from embeddings.registry.client import Registry, Version
from embeddings.registry.errors import BadRequest, BadVersion, DamagedVersion
from embeddings.registry.remote import RemoteRegistry
from embeddings.registry.shards import write_shard

HISTORY = {"p1": 2.0, "p4": 1.0}


def some_encoder(seed: int = 0, whole: int = 5, lengths: tuple[int, ...] = (4, 2)) -> Encoder:
    """A rectified layer for each length, with a bias."""
    rng = np.random.default_rng(seed)
    widths = (whole, *lengths)
    weights = [rng.normal(size=shape) for shape in zip(widths[:-1], lengths, strict=True)]
    return Encoder(
        "autoencoder",
        whole,
        {length: depth for depth, length in enumerate(lengths, start=1)},
        [weight.astype(np.float32) for weight in weights],
        [rng.uniform(size=length).astype(np.float32) for length in lengths],
        [True] * len(lengths),
    )


def publish_lengths(registry: Registry, seed: int = 0, name: str = "author") -> Version:
    entities, fold_in = parts(dim=5)
    groups = vectors(["degree=full", "degree=low"], dim=5, seed=7)
    return registry.publish(
        name, DAY, SPACE, {**entities, "group": groups}, fold_in, {}, encoder=some_encoder(seed)
    )


# What a reader gets


@pytest.mark.parametrize("dim", [4, 2])
def test_a_learned_length_is_what_the_encoder_makes_of_the_whole(plain, dim):
    version = publish_lengths(plain)
    whole = plain.get("author", "consumer", ["c5", "c0"])
    found = plain.get("author", "consumer", ["c5", "c0"], dim=dim)
    np.testing.assert_allclose(found.vectors, some_encoder().encode(whole.vectors, dim), atol=1e-6)
    np.testing.assert_array_equal(found.counts, whole.counts)
    assert version.learned_lengths == {4: "autoencoder", 2: "autoencoder"}


def test_every_answer_says_how_its_vectors_were_shortened(plain):
    """A length that was not learned is a prefix, as in a version that has learned none."""
    publish_lengths(plain)
    publish(plain, name="other")
    for dim, expected in ((None, ""), (5, ""), (4, "autoencoder"), (3, "prefixes")):
        answers = [
            plain.get("author", "producer", ["p1"], dim=dim),
            plain.neighbours("author", "producer:p1", dim=dim),
            plain.fold_in("author", HISTORY, dim=dim),
            plain.lookalike("author", ["degree=low"], dim=dim),
        ]
        assert [answer.shortened_by for answer in answers] == [expected] * 4
    whole = plain.get("author", "producer", ["p1"]).vectors
    np.testing.assert_array_equal(
        plain.get("author", "producer", ["p1"], dim=3).vectors, whole[:, :3]
    )
    assert plain.get("other", "producer", ["p1"], dim=2).shortened_by == "prefixes"


def test_a_learned_length_answers_as_a_version_of_these_vectors(plain):
    """Neighbours, groups and folded vectors are computed from the shorter vectors alone."""
    publish_lengths(plain)
    entities, fold_in = parts(dim=5)
    entities["group"] = vectors(["degree=full", "degree=low"], dim=5, seed=7)
    encoder = some_encoder()
    for entity, stored in entities.items():
        entities[entity] = replace(stored, vectors=encoder.encode(stored.vectors, 2))
    plain.publish("short", DAY, SPACE, entities, replace(fold_in, matrix=fold_in.matrix[:, :2]), {})
    key, groups = "producer:p1", ["degree=low", "degree=full"]
    assert plain.neighbours("author", key, among="consumer", dim=2) == plain.neighbours(
        "short", key, among="consumer"
    )
    assert plain.lookalike("author", groups, dim=2) == plain.lookalike("short", groups)
    folded = plain.fold_in("author", HISTORY, dim=2, k=3)
    whole = plain.fold_in("author", HISTORY).vector
    np.testing.assert_allclose(folded.vector, encoder.encode(whole[None], 2)[0], atol=1e-6)
    assert len(folded.neighbours) == 3


def test_the_client_and_the_service_answer_alike(plain, service):
    publish_lengths(plain)
    with RemoteRegistry(service) as remote:
        for dim, shortened_by in ((4, "autoencoder"), (3, "prefixes")):
            found = remote.get("author", "producer", ["p1", "p0"], dim=dim)
            expected = plain.get("author", "producer", ["p1", "p0"], dim=dim)
            np.testing.assert_array_equal(found.vectors, expected.vectors)
            near = remote.neighbours("author", "producer:p1", dim=dim)
            assert near == plain.neighbours("author", "producer:p1", dim=dim)
            alike = remote.lookalike("author", ["degree=low"], dim=dim)
            folded = remote.fold_in("author", HISTORY, dim=dim)
            for answer in (found, near, alike, folded):
                assert answer.shortened_by == shortened_by
        assert remote.version("author").learned_lengths == {4: "autoencoder", 2: "autoencoder"}


def test_a_length_that_is_too_long_is_refused_with_those_on_offer(plain):
    publish_lengths(plain)
    message = "dim = 9 is invalid; it must be 1 to 5, of which 4, 2 are learned by autoencoder"
    with pytest.raises(BadRequest, match=message):
        plain.get("author", "producer", ["p1"], dim=9)


def test_the_command_line_and_the_page_name_the_lengths(plain, run, service):
    publish_lengths(plain)
    assert "shortened by autoencoder" in run("get", "author", "producer:p1", "--dim", "2").stdout
    assert "shortened by" not in run("get", "author", "producer:p1").stdout
    page = httpx.get(f"{service}/embeddings/author/{DAY}.r1").text
    assert "5, and 4, 2 by autoencoder" in page


# What is published


def test_lengths_are_part_of_the_content(plain):
    """Another encoder of the same vectors is another revision; the same one is the same version."""
    first = publish_lengths(plain)
    assert publish_lengths(plain) == first
    assert publish_lengths(plain, seed=1).revision == 2


def test_lengths_follow_the_shards_that_they_are_of(plain, tmp_path):
    """Of vectors in shards of several processes, each in its own order."""
    entities, fold_in = parts(dim=5)
    for number, ids in enumerate((["c7", "c1"], ["c0", "c9", "c3"])):
        write_shard(tmp_path / "consumer", number, vectors(ids, dim=5, seed=number))
    entities["consumer"] = tmp_path / "consumer"
    plain.publish("author", DAY, SPACE, entities, fold_in, {}, encoder=some_encoder())
    ids = ["c9", "c7", "c0", "c1"]
    whole = plain.get("author", "consumer", ids).vectors
    found = plain.get("author", "consumer", ids, dim=2).vectors
    np.testing.assert_allclose(found, some_encoder().encode(whole, 2), atol=1e-6)


def test_the_shards_of_a_version_can_be_published_again_with_other_lengths(plain):
    """Their files are shared by hard links: what is new must not be written into them."""
    write_shard(plain.root / "shards", 0, parts(dim=5)[0]["consumer"])
    first = publish_from(plain, plain.root / "shards", 0)
    second = publish_from(plain, first.path / "consumer", 1)
    assert first.digest != second.digest
    for version in (first, second):
        plain.verify(version)


def publish_from(registry: Registry, consumers: Path, seed: int) -> Version:
    entities, fold_in = parts(dim=5)
    given = {"consumer": consumers, "producer": entities["producer"]}
    return registry.publish("author", DAY, SPACE, given, fold_in, {}, encoder=some_encoder(seed))


@pytest.mark.parametrize("file", ["consumer/shard-00000/vectors-2.npy", "encoder.weight_0.npy"])
def test_a_damaged_length_is_found_and_replaced(plain, file):
    version = publish_lengths(plain)
    damaged = version.path / file
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    with pytest.raises(DamagedVersion, match=file):
        plain.verify(version)
    publish_lengths(plain)
    assert file in plain.verify(version)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (some_encoder(whole=4, lengths=(2,)), "of length 4 into ones of .2., but .* length 5"),
        (some_encoder(lengths=(5, 2)), r"into ones of \[5, 2\], but the version's have length 5"),
        (some_encoder(lengths=()), r"into ones of \[\]"),
    ],
)
def test_an_encoder_of_other_vectors_is_refused(plain, encoder, message):
    entities, fold_in = parts(dim=5)
    with pytest.raises(BadVersion, match=message):
        plain.publish("author", DAY, SPACE, entities, fold_in, {}, encoder=encoder)
    assert plain.names() == []


def test_an_encoder_with_a_number_that_is_none_is_refused(plain):
    entities, fold_in = parts(dim=5)
    encoder = some_encoder()
    encoder.weights[1][0, 0] = np.nan
    with pytest.raises(BadVersion, match=r"encoder\.weight_1 must be finite"):
        plain.publish("author", DAY, SPACE, entities, fold_in, {}, encoder=encoder)
