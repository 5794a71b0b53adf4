"""A version whose fold-in reads a profile: in process, over HTTP and by the remote client."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
import scipy.sparse as sp
from registry_parts import DAY, SPACE, parts, publish

from embeddings.features import Vocabulary
from embeddings.fold_in.bag import BagFoldIn
from embeddings.fold_in.towers import TowersFoldIn
from embeddings.registry.errors import BadRequest
from embeddings.registry.remote import RemoteRegistry
from embeddings.towers.tower import Tower

PROFILE = Vocabulary({"degree": ("full_active", "low_active")}, {"age": (3.0, 0.5)})
TRAITS = Vocabulary({"tag": ("jazz",)}, {})
WAYS = {  # what is asked, and what of it the vector is of: history, features
    "features alone": ({}, {"degree": "full_active", "age": 30.0}),
    "both": ({"p1": 2.0, "p3": 1.0}, {"degree": "low_active"}),
    "a history alone": ({"p1": 2.0}, {}),
    "an unknown history": ({"nobody": 2.0}, {"age": 18}),
}


def tower(m: int, n_features: int) -> Tower:
    rng = np.random.default_rng(m)
    shapes = [(m, 4), (n_features, 4), (2, 4), (4, 7), (1, 7), (11, 3)]
    return Tower(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))


MODEL = TowersFoldIn.of(tower(5, PROFILE.width), tower(0, TRAITS.width), PROFILE, TRAITS)


@pytest.fixture
def published(plain):
    """A version with profiles, and one of a kind that reads none."""
    publish(plain, name="plain")
    plain.publish("author", DAY, SPACE, parts()[0], MODEL, {})
    return plain


@pytest.mark.parametrize("way", WAYS)
def test_a_vector_is_that_of_the_published_towers(published, service, way):
    strengths, features = WAYS[way]
    row = np.zeros((1, 5), np.float32)
    for producer, strength in strengths.items():
        if producer != "nobody":
            row[0, int(producer[1])] = strength
    expected = MODEL.fold(sp.csr_matrix(row), PROFILE.row(features))[0]
    body = {"strengths": strengths, "features": features}
    answer = httpx.post(f"{service}/v1/embeddings/author/fold-in", json=body).json()
    np.testing.assert_array_equal(np.float32(answer["vector"]), expected)
    with RemoteRegistry(service) as remote:
        for registry in (published, remote):
            found = registry.fold_in("author", strengths, features=features, k=2)
            np.testing.assert_array_equal(found.vector, expected)
            assert found.unknown == [p for p in strengths if p == "nobody"]
            assert len(found.neighbours) == 2


@pytest.mark.parametrize(
    ("name", "strengths", "features", "message"),
    [
        ("author", {}, {"degre": "full_active"}, "no feature 'degre'. Did you mean 'degree'"),
        ("author", {}, {"degree": "fulactive"}, "no value 'fulactive'. Did you mean 'full_active'"),
        ("author", {"p1": 1.0}, {"age": "old"}, "'age' is a finite number; given: 'old'"),
        ("author", {}, {}, "at least one producer"),
        ("plain", {"p1": 1.0}, {"age": 3.0}, "the kind 'svd', which reads no features"),
    ],
)
def test_a_wrong_request_is_refused_alike_on_every_way(
    published, service, name, strengths, features, message
):
    with RemoteRegistry(service) as remote:
        for registry in (published, remote):
            with pytest.raises(BadRequest, match=message):
                registry.fold_in(name, strengths, features=features)


def test_new_producers_have_vectors_by_their_features(published):
    """In the coordinates of the published version, from its loaded fold-in."""
    loaded = published.load(published.version("author")).fold_in
    found = loaded.producer_vectors([{"tag": "jazz"}, {}])
    expected = MODEL.producer_tower.vectors(sp.csr_matrix((1, 0)), TRAITS.row({"tag": "jazz"}))
    np.testing.assert_array_equal(found[0], expected[0])
    assert not found[1].any()  # nothing is known of it


DOMAINS = Vocabulary({"domain": ("1", "17", "3")}, {})
BAG = BagFoldIn(
    *(np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32) for n in (5, 3)),
    np.array([1, 1, 0], np.float32),
    DOMAINS.text(),
)


@pytest.fixture
def of_domains(plain):
    """A version whose fold-in reads bags of domains."""
    plain.publish("domains", DAY, SPACE, parts()[0], BAG, {})
    return plain


def test_a_newcomer_is_the_mean_of_its_domains_on_every_way(of_domains, service):
    """In process, over HTTP and by the client; an unknown domain is named."""
    bag = {"domain": {"17": 1.0, "1": 3.0, "elsewhere": 2.0}}
    expected = (BAG.features[1] + 3 * BAG.features[0]) / 4
    answer = httpx.post(f"{service}/v1/embeddings/domains/fold-in", json={"features": bag}).json()
    np.testing.assert_allclose(answer["vector"], expected, rtol=1e-6)
    assert (answer["unknown_features"], answer["whole"]) == (["domain=elsewhere"], False)
    with RemoteRegistry(service) as remote:
        for registry in (of_domains, remote):
            found = registry.fold_in("domains", {}, features=bag, k=2)
            np.testing.assert_array_equal(found.vector, np.float32(answer["vector"]))
            assert found.unknown_features == ["domain=elsewhere"]
            assert len(found.neighbours) == 2


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"domain": {"elsewhere": 1.0}}, "knows none of the features, such as 'domain=elsewhere'"),
        ({"web": {"17": 1.0}}, "no feature 'web'"),
        ({"domain": {}}, "knows none of the features"),
        ({"domain": {"3": 1.0}}, "left them out as too common"),
    ],
)
def test_a_bag_of_nothing_known_is_refused_on_every_way(of_domains, service, features, message):
    with RemoteRegistry(service) as remote:
        for registry in (of_domains, remote):
            with pytest.raises(BadRequest, match=message):
                registry.fold_in("domains", {}, features=features)
