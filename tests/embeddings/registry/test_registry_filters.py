"""Neighbours that must be something by their published features."""

from __future__ import annotations

import numpy as np
import pytest
from registry_parts import DAY, publish, publish_profile, vectors

from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry.client import IndexRule, Vectors
from embeddings.registry.errors import BadRequest, UnknownEntity, UnknownFeature, UnknownName
from embeddings.registry.remote import RemoteRegistry
from embeddings.registry.shards import write_shard

# Consumers of `publish` with a profile: c0, c1 and c3. The table also has one without a vector.
CASES = [
    ({"profile.degree": "full"}, {"c0"}),
    ({"profile.degree": "hoch öffentlich"}, {"c3"}),
    ({"profile.degree": "none such"}, set()),
    ({"profile.days": 7}, {"c1"}),
    ({"profile.days": "7"}, {"c1"}),
    ({"profile.days": (-1, 0)}, {"c0", "c3"}),
    ({"profile.days": "-1..0"}, {"c0", "c3"}),
    ({"profile.days": [None, 6.5]}, {"c0", "c3"}),
    ({"profile.days": (1, None)}, {"c1"}),
    ({"profile.share": (None, None)}, {"c0", "c3"}),  # c1 has none
    ({"profile.share": "0.5"}, {"c0"}),
    ({"profile.share": (-1e300, 1e300)}, {"c0", "c3"}),
    ({"profile.active": True}, {"c0", "c3"}),
    ({"profile.active": "1", "profile.days": "..-1"}, {"c3"}),
    ({"profile.days@2022-04-25": np.int64(7)}, {"c1"}),
]


def test_neighbours_meet_all_conditions(plain, service):
    publish(plain)
    publish_profile(plain)
    everyone = plain.neighbours("author", "producer:p0", 100, among="consumer")
    with RemoteRegistry(service) as remote:
        for where, expected in CASES:
            wanted = [one for one in everyone if one.id in expected]
            for registry in (plain, remote):
                found = registry.neighbours(
                    "author", "producer:p0", 100, among="consumer", where=where
                )
                assert found == wanted, where


def test_a_condition_and_a_list_of_ids_hold_together(plain, service):
    publish(plain)
    publish_profile(plain)
    where = {"profile.active": 1}
    with RemoteRegistry(service) as remote:
        for registry in (plain, remote):
            found = registry.neighbours("author", "consumer:c1", where=where, only=["c3", "c2"])
            assert [one.id for one in found] == ["c3"]


REFUSED = [
    ({"profile.dgree": "full"}, UnknownFeature, "Did you mean 'profile.degree'"),
    ({"profle.degree": "full"}, UnknownName, "Did you mean 'profile'"),
    ({"items.days": 1}, UnknownEntity, "no entity 'consumer' in items/.*Available: producer"),
    ({"author": "full"}, BadRequest, "'author' is an embedding, which no condition"),
    ({"profile": "full"}, BadRequest, "name one of them: profile.days"),
    ({"profile.degree": 3}, BadRequest, "holds texts, so 3.* cannot be its value: .*'full'"),
    ({"profile.degree": (1, 2)}, BadRequest, "holds texts, so .* cannot be its value"),
    ({"profile.days": "many"}, BadRequest, "holds numbers, so 'many' cannot be .*7..30"),
    ({"profile.days": "1..2..3"}, BadRequest, "holds numbers, so '1..2..3' cannot be"),
    ({"profile.days": "nan"}, BadRequest, "holds numbers, so 'nan' cannot be its value"),
]


def test_a_condition_that_cannot_be_is_named(plain, service):
    publish(plain)
    publish_profile(plain)
    ids, days = np.array([b"p0"]), {"days": np.array([1.0])}
    plain.publish_features("items", DAY, "producer", ids, days, {})
    with RemoteRegistry(service) as remote:
        for where, error, message in REFUSED:
            for registry in (plain, remote):
                with pytest.raises(error, match=message):
                    registry.neighbours("author", "consumer:c0", where=where)


def test_an_index_answers_where_enough_of_the_nearest_meet_the_condition(plain):
    """Half of the consumers are even: an index finds ten of them. One in a hundred is round."""
    n, dim = 4000, 8
    consumers = vectors([f"c{i:04}" for i in range(n)], dim)
    producers = vectors([f"p{i}" for i in range(10)], dim, seed=1)
    fold_in = SVDFoldIn(producers.vectors, np.ones(10))
    entities = {"consumer": consumers, "producer": producers}
    rule = IndexRule(above=100, min_recall=0.5)
    plain.publish("author", DAY, "a space", entities, fold_in, {}, index=rule)
    number = np.arange(n)
    marks = {"even": number % 2 == 0, "round": number % 100 == 0}
    plain.publish_features("mark", DAY, "consumer", consumers.ids, marks, {})
    for mark, exact in (("even", False), ("round", True)):
        step = {"even": 2, "round": 100}[mark]
        shares = []
        for query in range(0, n, 400):
            given = {"key": f"consumer:c{query:04}", "where": {f"mark.{mark}": 1}}
            found = plain.neighbours("author", **given)
            best = plain.neighbours("author", **given, exact=True)
            assert found.exact == exact
            assert {int(one.id[1:]) % step for one in found} == {0}
            assert len(found) == len(best) == 10
            shares.append(len({one.id for one in found} & {one.id for one in best}) / 10)
        assert np.mean(shares) >= (1 if exact else 0.6)


@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.2, 0.7, 1])
def test_few_and_many_rows_are_searched_alike(plain, tmp_path, share):
    """Few are copied, of many all are scored; over two shards, and with blocks of any size."""
    everyone = vectors([f"c{i:04}" for i in range(500)], 6)
    for number, part in enumerate((slice(0, 180), slice(180, 500))):
        fields = (everyone.ids, everyone.vectors, everyone.counts, everyone.folded)
        write_shard(tmp_path / "shards", number, Vectors(*(field[part] for field in fields)))
    producers = vectors(["p0"], 6, seed=1)
    entities = {"consumer": tmp_path / "shards", "producer": producers}
    version = plain.publish("a", DAY, "s", entities, SVDFoldIn(producers.vectors, np.ones(1)), {})
    loaded = plain.load(version)
    rows = np.flatnonzero(np.random.default_rng(0).random(500) < share)
    allowed = {f"c{row:04}" for row in rows}
    for key in ("producer:p0", "consumer:c0190"):
        nearest = loaded.neighbours(key, 500, "consumer")
        wanted = [one.id for one in nearest if one.id in allowed]
        found = loaded.neighbours(key, 30, "consumer", rows=rows)
        assert [one.id for one in found] == wanted[:30]
        assert [one.id for one in loaded.neighbours(key, 500, "consumer", rows=rows)] == wanted


def test_the_command_and_the_page_take_conditions(plain, service, run):
    import httpx

    publish(plain)
    publish_profile(plain)
    shown = run("neighbours", "author", "consumer:c1", "--where", "profile.days=-1..0")
    assert shown.exit_code == 0
    assert ["consumer:c0" in shown.stdout, "consumer:c2" in shown.stdout] == [True, False]
    assert "only those with profile.days=-1..0" in shown.stdout
    refused = run("neighbours", "author", "consumer:c1", "--where", "profile.days")
    assert (refused.exit_code, "'profile.days' is not a condition" in refused.stderr) == (1, True)
    page = f"{service}/embeddings/author/latest"
    query = {"entity": "consumer", "id": "c1", "among": "consumer", "where": "profile.degree=full"}
    answer = httpx.get(page, params=query)
    assert answer.status_code == 200
    assert "The 1 consumer nearest to consumer:c1 by cosine with profile.degree=full" in answer.text
    wrong = httpx.get(page, params={**query, "where": "profile.days=x"})
    assert (wrong.status_code, "holds numbers" in wrong.text) == (404, True)
