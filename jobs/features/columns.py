"""The columns of a ranker's examples: which features the tables of a day provide, and their names.

hash_<entity>                   bucket of an id: consumer, producer, item
hash_hour, hash_ctx_<name>      bucket of the hour of the day, and of a context column
hash_<entity>_cat_<name>        bucket of a profile's category
num_<entity>_<name>             a profile's number
num_<entity>_past_<name>        a count or lift of the past: see past_counts
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.features.past_counts import ENTITIES, PastCounts
from jobs.lake.schema import with_prefix
from models.features import Categorical, FeatureSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

CATEGORY_BUCKETS = 256  # of any category that is no id


def feature_spec(
    impressions: DataFrame, profiles: dict[str, DataFrame], vector_dim: int, id_buckets: int
) -> FeatureSpec:
    """The features that these tables provide. profiles: entity -> its table.

    id_buckets: of consumers, of producers and of items each; several ids may share a bucket.
    """
    labels = tuple(with_prefix(impressions.columns, "label_"))
    categorical = []
    for entity in ENTITIES:
        categorical.append(Categorical(f"hash_{entity}", id_buckets, entity))
    for name in ("hour", *with_prefix(impressions.columns, "ctx_")):
        categorical.append(Categorical(f"hash_{name}", CATEGORY_BUCKETS, name))
    numeric = []
    for entity, table in profiles.items():
        for name in with_prefix(table.columns, "cat_"):
            hashed = f"hash_{profile_column(entity, name)}"
            # One field for a whole profile: a ranker's cost grows with its fields, and a field per
            # column took three times as long for the same AUC (docs/decisions/0008-ranker.md).
            categorical.append(Categorical(hashed, CATEGORY_BUCKETS, f"{entity}_profile"))
        for name in with_prefix(table.columns, "num_"):
            numeric.append(profile_column(entity, name))
    for entity in ENTITIES:
        numeric += past_columns(entity, labels)
    return FeatureSpec(tuple(categorical), tuple(numeric), labels, vector_dim)


def profile_column(entity: str, column: str) -> str:
    """The name of a profile's column once the profiles of several entities are joined.

    `num_age` of a consumer becomes `num_consumer_age`, `cat_city` becomes `consumer_cat_city`.
    """
    # A number is a feature under this name; a category is hashed first, and named "hash_…" then.
    if column.startswith("num_"):
        return f"num_{entity}_{column.removeprefix('num_')}"
    return f"{entity}_{column}"


def past_columns(entity: str, labels: tuple[str, ...]) -> list[str]:
    """The numeric features that are counted over the past, in the order of `PastCounts.of`."""
    return [f"num_{entity}_past_{name}" for name in PastCounts.features(labels)]


def profile_numbers(spec: FeatureSpec) -> list[str]:
    """The numeric features that come from a profile instead of from the past."""
    past: set[str] = set()
    for entity in ENTITIES:
        past.update(past_columns(entity, spec.labels))
    return [name for name in spec.numeric if name not in past]


def raw_column(hashed: str) -> str:
    """The column that a hashed one is computed from."""
    name = hashed.removeprefix("hash_")
    return f"{name}_id" if name in ENTITIES else name


def bucket(value: str, buckets: int) -> str:
    """The bucket of a value, as SQL; a missing value falls into the bucket of the empty text."""
    return f"cast(pmod(xxhash64(coalesce(cast({value} as string), '')), {buckets}) as int)"
