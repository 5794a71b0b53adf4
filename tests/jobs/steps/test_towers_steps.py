"""The loop with an embedder that reads profiles and items, on logs with and without them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engagement_lake import FIRST, engagement_settings, random_day, table_of
from prepared import validated

from embeddings.embedders import towers
from embeddings.registry.errors import BadRequest
from embeddings.registry.shards import read_shards
from jobs.features.entity_features import (
    consumer_features,
    producer_features,
    profiles_as_asked,
)
from jobs.pipeline.running import ensure
from jobs.settings import EmbeddingSettings, Settings
from jobs.steps import embed

# An engagement is of the item that the producer's id names. c61 has engaged with nothing.
CITIES = {f"c{n}": "oslo" if n % 2 else "bergen" for n in range(62)}


def settings_of(home, method: str = "towers") -> Settings:
    settings = engagement_settings(home)
    options = {"towers": towers.Options(epochs=2)} if method == "towers" else {}
    embedding = EmbeddingSettings(name="author", dim=6, method=method, **options)
    untracked = settings.mlflow.model_copy(update={"uri": "off"})
    return settings.model_copy(update={"embedding": embedding, "mlflow": untracked})


def commit(settings: Settings, profiles: bool) -> None:
    """Commit a validated first day, with or without profiles and items."""
    with validated(settings, FIRST) as staging:
        staging.facts |= {"trusted": True, "reason": ""}
        write(staging.path / "engagements", table_of(random_day(0)))
        if profiles:
            write(staging.path / "consumers", consumers())
            write(staging.path / "items", items())


def consumers() -> pa.Table:
    return pa.table(
        {
            "consumer_id": list(CITIES),
            "cat_city": list(CITIES.values()),
            "cat_rare": [f"only {consumer}" for consumer in CITIES],
            "num_age": [None if n == 3 else float(n) for n in range(62)],
            "bag_domain": [domains(n) for n in range(62)],
        }
    )


def domains(n: int) -> list[str] | None:
    """All visit one site, odd consumers another one twice, even ones one that nobody else has."""
    if n == 3:
        return None
    return ["top", "tram", "tram"] if n % 2 else ["top", f"only {n}"]


def items() -> pa.Table:
    """Three items of each producer: two of one tag, one without."""
    producers = [f"p{n}" for n in range(40) for _ in range(3)]
    tags = ["jazz" if n % 2 else "folk" for n in range(40) for _ in range(3)]
    tags[2::3] = [None] * 40
    ids = [f"i{n}" for n in range(120)]
    return pa.table({"item_id": ids, "producer_id": producers, "cat_tag": tags})


def write(folder, table: pa.Table) -> None:
    folder.mkdir()
    half = len(table) // 2
    pq.write_table(table[:half], folder / "part-00000.parquet")
    pq.write_table(table[half:], folder / "part-00001.parquet")


@pytest.fixture(scope="module")
def profiled(tmp_path_factory, spark) -> Settings:
    """Settings of a day with profiles that went through all steps."""
    settings = settings_of(tmp_path_factory.mktemp("profiled"))
    commit(settings, profiles=True)
    ensure(settings, "consistency", FIRST, lambda: spark)
    return settings


def test_the_loop_publishes_towers_that_read_profiles(profiled):
    facts = profiled.lake.get("embed", FIRST).facts
    assert facts["consumer_features"] == 5  # two cities, two domains and an age
    assert facts["producer_features"] == 3  # two tags and the popularity
    with profiled.open_registry() as registry:
        newcomer = registry.fold_in("author", {}, features={"city": "oslo", "age": 61.0})
        assert newcomer.vector.any()
        visited = registry.fold_in("author", {}, features={"domain": {"tram": 2.0, "only 2": 1.0}})
        assert visited.vector.any()
        assert list(visited.unknown_features) == ["domain=only 2"]


def test_the_loop_publishes_towers_of_histories_alone(tmp_path, spark):
    settings = settings_of(tmp_path)
    commit(settings, profiles=False)
    ensure(settings, "consistency", FIRST, lambda: spark)
    facts = settings.lake.get("embed", FIRST).facts
    assert (facts["consumer_features"], facts["producer_features"]) == (0, 1)
    with settings.open_registry() as registry:
        history = {"p1": 1.0, "p2": 2.0}
        assert registry.fold_in("author", history).vector.any()
        with pytest.raises(BadRequest, match="no feature 'city'. There are none"):
            registry.fold_in("author", history, features={"city": "oslo"})


def test_consumers_that_are_folded_in_are_so_with_their_profile(profiled):
    """The step and a request agree, and the profile makes a difference."""
    settings = profiled
    day = settings.lake.get("validate", FIRST)
    engaged = pa.concat_tables([pq.read_table(part.path) for part in day.parts("engagements")])
    with settings.open_registry() as registry:
        stored = registry.load(registry.version("author")).entities["producer"]
        known = {id_.decode() for id_ in stored.ids[:].tolist()}
        compared = 0
        for shard in read_shards(settings.lake.get("fold_in", FIRST).path / "consumer"):
            for at in np.flatnonzero(shard.folded):
                id_ = shard.ids[at].decode()
                history = history_of(engaged, id_, known)
                if not history:
                    continue
                features = {"city": CITIES[id_]}
                if id_ != "c3":
                    features["age"] = float(id_[1:])
                    odd = CITIES[id_] == "oslo"
                    features["domain"] = {"top": 1.0, "tram": 2.0} if odd else {"top": 1.0}
                found = registry.fold_in("author", history, features=features).vector
                np.testing.assert_allclose(found, shard.vectors[at], rtol=1e-4, atol=1e-6)
                alone = registry.fold_in("author", history).vector
                assert not np.allclose(alone, found, rtol=1e-3)
                compared += 1
        assert compared > 2


def history_of(engaged: pa.Table, consumer: str, known: set[str]) -> dict[str, float]:
    """The strengths of the consumer: a follow counts 2.5, as the settings say."""
    strengths: dict[str, float] = {}
    for row in engaged.to_pylist():
        if row["consumer_id"] == consumer and row["producer_id"] in known:
            weight = 2.5 if row["kind"] == "follow" else 1.0
            strengths[row["producer_id"]] = strengths.get(row["producer_id"], 0.0) + weight
    return strengths


def test_only_an_embedder_that_reads_features_needs_them(tmp_path):
    read = {}
    for method in ("als", "svd", "cooccurrence", "towers"):
        home = tmp_path / method
        home.mkdir()
        read[method] = [step for step, _ in embed.needs(settings_of(home, method), FIRST)]
    assert read.pop("towers") == ["matrix", "validate"]
    assert set(map(tuple, read.values())) == {("matrix",)}


def test_without_hard_negatives_the_days_that_are_older_than_the_option_stay():
    none = EmbeddingSettings(method="towers").effective()
    some = EmbeddingSettings(method="towers", towers={"hard_negatives": 3}).effective()
    assert some["towers"] == none["towers"] | {"hard_negatives": 3}
    assert "hard_negatives" not in none["towers"]


def test_features_are_those_of_the_tables(tmp_path):
    """Row by row: any order of ids, two files, missing values, ids without a row."""
    settings = settings_of(tmp_path)
    commit(settings, profiles=True)
    day = settings.lake.get("validate", FIRST)
    ids = np.array([b"c5", b"c3", b"nobody", b"c40"])
    found = consumer_features(day, ids)
    assert found is not None
    categories = {"city": ("bergen", "oslo"), "rare": (), "domain": ("top", "tram")}
    assert found.vocabulary.categories == categories
    expected = [
        {"city": "oslo", "age": 5.0, "domain": {"top": 1.0, "tram": 2.0}},
        {"city": "oslo"},
        {},
        {"city": "bergen", "age": 40.0, "domain": {"top": 1.0}},
    ]
    assert profiles_as_asked(day, found.vocabulary, ids) == expected
    for row, features in zip(found.rows, expected, strict=True):
        np.testing.assert_array_equal(row.toarray(), found.vocabulary.row(features).toarray())
    of_nobody = consumer_features(day, ids[:0])  # a worker may have no consumers
    assert of_nobody is not None
    assert of_nobody.vocabulary == found.vocabulary
    assert of_nobody.rows.shape == (0, 5)
    shares = producer_features(day, np.array([b"p7", b"nobody", b"p2"]))
    assert shares is not None
    assert shares.vocabulary.categories == {"tag": ("folk", "jazz")}
    np.testing.assert_allclose(shares.rows.toarray(), [[0, 2 / 3], [0, 0], [2 / 3, 0]], rtol=1e-6)
