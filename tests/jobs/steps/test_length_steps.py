"""The loop where the settings learn shorter lengths: one encoder as long as a space lasts."""

from __future__ import annotations

import numpy as np
import pytest
from engagement_lake import DAYS, commit_day, engagement_settings, random_day

from embeddings.lengths.encoder import load_encoder
from jobs.errors import SettingsError
from jobs.judging.vectors import ENCODER, Learned, case_of, some_consumers
from jobs.pipeline.running import ensure
from jobs.settings import EmbeddingSettings, Settings, load_settings
from jobs.settings.embedding import LengthSettings
from jobs.steps.benchmark import LEARNED

OF = [4, 2]


def settings_of(home, **lengths) -> Settings:
    settings = engagement_settings(home)
    embedding = EmbeddingSettings(name="author", dim=6, lengths=LengthSettings(**lengths))
    untracked = settings.mlflow.model_copy(update={"uri": "off"})
    return settings.model_copy(update={"embedding": embedding, "mlflow": untracked})


@pytest.fixture(scope="module")
def learned(tmp_path_factory, spark) -> Settings:
    """Settings of two days that went through all steps."""
    settings = settings_of(tmp_path_factory.mktemp("lengths"), method="pca", of=OF)
    for seed, day in enumerate(DAYS[:2]):
        commit_day(settings, day, random_day(seed, tastes=0))
    ensure(settings, "consistency", DAYS[1], lambda: spark)
    return settings


def encoder_on(settings: Settings, day):
    return load_encoder(settings.lake.get("align", day).path / ENCODER)


def test_the_days_of_a_space_shorten_their_vectors_in_the_same_way(learned):
    """So the shorter vectors of two days mix wherever the whole ones do."""
    first, second = (encoder_on(learned, day) for day in DAYS[:2])
    spaces = [learned.lake.get("align", day).facts["space"] for day in DAYS[:2]]
    assert spaces[0] == spaces[1]
    assert first.lengths == OF
    for field, array in first.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[field])


def test_every_vector_is_published_at_every_length(learned):
    """Fitted and folded consumers, and producers: as the encoder of the day makes them."""
    registry, encoder = learned.open_registry(), encoder_on(learned, DAYS[1])
    version = registry.version("author", DAYS[1])
    assert version.learned_lengths == {4: "pca", 2: "pca"}
    loaded = registry.load(version)
    for entity, whole in loaded.entities.items():
        for length in OF:
            found = loaded.at_length(entity, length).vectors[np.arange(len(whole))]
            expected = encoder.encode(np.asarray(whole.vectors), length)
            np.testing.assert_allclose(found, expected, atol=1e-6)
    registry.verify(version)


def test_every_length_has_its_benchmarks(learned):
    """Here of yesterday's version, on the day's engagements."""
    facts = learned.lake.get("benchmark", DAYS[1]).facts
    names = ("retrieval_ndcg20", "retrieval_ndcg20_4_dims", "retrieval_ndcg20_2_dims")
    assert len({facts[name] for name in names}) == 3


def test_a_length_is_judged_as_readers_get_it(learned):
    """Not by the first numbers of the whole, unless that is what a reader gets."""
    day = Learned(*(learned.lake.get(step, DAYS[1]).path for step in LEARNED))
    case = case_of(day, some_consumers(day, 20))
    encoder = encoder_on(learned, DAYS[1])
    for whole, short in (
        (case.consumers, case.shortened(2).consumers),
        (case.producers, case.shortened(2).producers),
    ):
        np.testing.assert_array_equal(short, encoder.encode(whole, 2))
    np.testing.assert_array_equal(case.shortened(3).producers, case.producers[:, :3])


def test_a_new_space_learns_its_own_lengths(spark, learned):
    """A day of other tastes has vectors that the old encoder knows nothing of."""
    commit_day(learned, DAYS[2], random_day(5, tastes=9))
    commit_day(learned, DAYS[1], None)  # only the new day is in its window
    ensure(learned, "align", DAYS[2], lambda: spark)
    spaces = [learned.lake.get("align", day).facts["space"] for day in (DAYS[0], DAYS[2])]
    assert spaces[0] != spaces[1]
    weights = [encoder_on(learned, day).weights[0] for day in (DAYS[0], DAYS[2])]
    assert not np.allclose(*weights)


# Settings


def test_lengths_are_younger_than_the_lake(tmp_path):
    """Without any, what was computed before there were lengths is current."""
    assert "lengths" not in settings_of(tmp_path).section("embedding")
    assert "lengths" in settings_of(tmp_path, of=[2]).section("embedding")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('method = "pcs"\nof = [2]', "lengths.method.*expected one of: autoencoder, "),
        ("of = [32]", r"lengths.of has \[32\]; expected lengths below dim, which is 32"),
        ("of = [2, 2]", "expected each length once"),
        ("on = [2]", r"lengths.on: unknown option; expected one of: method, of"),
    ],
)
def test_lengths_that_cannot_be_are_refused(tmp_path, options, message):
    file = tmp_path / "own.toml"
    file.write_text(f'[source]\nkind = "edgelist"\npath = "log"\n[embedding.lengths]\n{options}\n')
    with pytest.raises(SettingsError, match=message):
        load_settings(file)
