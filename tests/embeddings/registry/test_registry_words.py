"""A version with a single entity, such as the words of texts: every way of reading it."""

from __future__ import annotations

import json
from dataclasses import replace

import httpx
import numpy as np
import pytest
from registry_parts import DAY, publish_profile, vectors
from test_registry_lengths import some_encoder

from embeddings.fold_in.mean import MeanFoldIn
from embeddings.registry.client import Registry, Version
from embeddings.registry.errors import BadVersion
from embeddings.registry.remote import RemoteRegistry

WORDS = [f"w{number}" for number in range(6)]


def publish_words(registry: Registry, encoder=None) -> Version:
    words = vectors(WORDS, dim=5)
    fold_in = MeanFoldIn(words.vectors, np.ones(len(WORDS), np.float32))
    return registry.publish("words", DAY, "words/0", {"word": words}, fold_in, {}, encoder=encoder)


def test_a_text_is_folded_in_with_its_neighbours(plain):
    publish_words(plain)
    folded = plain.fold_in("words", {"w1": 1.0, "w4": 3.0, "new": 1.0}, k=2)
    known = plain.get("words", "word", ["w1", "w4"]).vectors
    np.testing.assert_allclose(folded.vector, [0.25, 0.75] @ known, rtol=1e-5)
    assert folded.unknown == ["new"]
    assert folded.neighbours[0].id == "w4"


def test_learned_lengths_of_words_are_read_and_named(plain, service):
    publish_words(plain, some_encoder())
    with RemoteRegistry(service) as remote:
        for registry in (plain, remote):
            found = registry.get("words", "word", ["w2"], dim=2)
            expected = some_encoder().encode(registry.get("words", "word", ["w2"]).vectors, 2)
            np.testing.assert_allclose(found.vectors, expected, atol=1e-6)
            assert found.shortened_by == "autoencoder"
            assert registry.fold_in("words", {"w1": 1.0}, dim=2).vector.shape == (2,)


@pytest.mark.parametrize("encoder", [None, some_encoder()], ids=["whole", "lengths"])
def test_the_pages_of_words_open(plain, service, encoder):
    publish_words(plain, encoder)
    for path in ("/", "/embeddings/words", f"/embeddings/words/{DAY}"):
        page = httpx.get(service + path)
        assert page.status_code == 200, path
    assert ("4, 2 by autoencoder" in page.text) == (encoder is not None)


def test_the_commands_know_words_and_tables_of_any_entity(run, plain):
    publish_words(plain)
    publish_profile(plain)
    assert "6" in run("list").stdout
    assert run("versions", "words").exit_code == 0
    assert run("versions", "profile").exit_code == 0
    printed = run("fold-in", "words", "w1=1", "--k", "1", "--json")
    assert json.loads(printed.stdout)["neighbours"][0]["id"] == "w1"


def test_a_page_of_an_embedding_is_refused_for_a_table(plain, service):
    publish_profile(plain)
    for path in ("/embeddings/profile", f"/embeddings/profile/{DAY}"):
        assert 400 <= httpx.get(service + path).status_code < 500


def test_an_opened_version_keeps_its_lengths_when_it_is_removed(plain):
    """As it keeps its vectors: both are mapped when it is opened."""
    version = publish_words(plain, some_encoder())
    loaded = plain.load(version)
    whole = loaded.get("word", ["w1"]).vectors
    for file in version.path.rglob("*.npy"):
        file.unlink()
    expected = some_encoder().encode(whole, 2)
    np.testing.assert_allclose(loaded.get("word", ["w1"], 2).vectors, expected, atol=1e-6)


MISFITS = {
    "a layer of another width": {"weights": [np.zeros((5, 3), np.float32)] * 2},
    "a bias of another width": {"biases": [np.zeros(1, np.float32)] * 2},
    "more depth than layers": {"depths": {4: 1, 2: 3}},
    "a length above the width": {"depths": {3: 2}},
}


@pytest.mark.parametrize("fault", MISFITS)
def test_an_encoder_whose_layers_do_not_fit_is_refused(plain, fault):
    with pytest.raises(BadVersion, match="encoder"):
        publish_words(plain, replace(some_encoder(), **MISFITS[fault]))
