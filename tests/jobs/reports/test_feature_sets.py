"""Which features a variant reads, and the experiment from end to end on small days."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from ranker_lake import DAYS, commit_days, commit_validated, ranker_settings

from jobs.reports import features
from jobs.reports.features import PAIRS, VARIANTS, Variant, chosen, pair_names, spec_of
from models.features import Categorical, Day, FeatureSpec

SPEC = FeatureSpec(
    categorical=(
        Categorical("hash_consumer", 8, "consumer"),
        Categorical("hash_hour", 8, "hour"),
        Categorical("hash_item", 8, "item"),
        Categorical("hash_consumer_cat_city", 8, "consumer_profile"),
    ),
    numeric=("num_consumer_age", "num_consumer_past_shown", "num_item_past_engaged"),
    labels=("label_click",),
    vector_dim=2,
)


def day_of(n: int = 5) -> Day:
    """Each column of numbers and categories holds its own position."""
    width = len(SPEC.numeric) + len(pair_names(PAIRS))
    return Day(
        name="day",
        space="space",
        categories=np.tile(np.arange(4), (n, 1)),
        numbers=np.tile(np.arange(width, dtype=np.float32), (n, 1)),
        labels=np.zeros((n, 1), np.float32),
        consumer_rows=np.zeros(n, np.int64),
        producer_rows=np.zeros(n, np.int64),
        consumer_vectors=np.ones((1, 2), np.float32),
        producer_vectors=np.ones((1, 2), np.float32),
    )


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_the_columns_are_those_that_the_spec_names(variant):
    """Every column is found by its name, whatever else was taken out before it."""
    spec, day = spec_of(SPEC, variant), chosen(day_of(), SPEC, variant)
    names = [*SPEC.numeric, *pair_names(PAIRS)]
    assert [names[int(place)] for place in day.numbers[0]] == list(spec.numeric)
    assert [SPEC.categorical[place] for place in day.categories[0]] == list(spec.categorical)
    assert day.has_vectors == variant.vectors


def test_what_each_group_of_features_is():
    def read(variant: Variant) -> set[str]:
        spec = spec_of(SPEC, variant)
        return {column.name for column in spec.categorical} | set(spec.numeric)

    base = {"hash_hour", "hash_consumer_cat_city", "num_consumer_age"}
    assert read(Variant("base")) == base
    assert read(Variant("ids", ids=True)) - base == {"hash_consumer", "hash_item"}
    counted = {"num_consumer_past_shown", "num_item_past_engaged"}
    assert read(Variant("counts", counts=True)) - base == counted
    lookalike = {"lookalike 0", "lookalike 1", "lookalike 2"}
    assert read(Variant("pairs", pairs=("lookalike",))) - base == lookalike


@pytest.mark.slow
def test_every_variant_is_tested_on_the_next_day(spark, tmp_path, monkeypatch):
    settings = ranker_settings(tmp_path / "home", kind="logistic")
    log = settings.source.path
    log.write_text("\n".join(log.read_text().splitlines()[:3]) + "\n")
    commit_days(settings, DAYS[:2], n=120)
    commit_validated(settings, DAYS[2], None)
    few = (VARIANTS[0], replace(VARIANTS[4]), VARIANTS[9])
    monkeypatch.setattr(features, "VARIANTS", few)
    report = features.run(settings, 1, 1, tmp_path / "out")
    with (report.folder / "features-variants.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["features"] for row in rows] == [variant.name for variant in few]
    assert all(0 < float(row["auc"]) < 1 for row in rows)
    assert float(rows[1]["over counts"]) == 0
    assert report.picture("auc").exists()
    assert len((report.folder / "features.md").read_text().splitlines()) == 2 + len(few)
