"""The columns of a small table of examples, of every kind."""

from models.features import Categorical, FeatureSpec

SPEC = FeatureSpec(
    categorical=(
        Categorical("hash_item", 20, "item"),
        Categorical("hash_kind", 3, "profile"),
        Categorical("hash_tag", 5, "profile"),
    ),
    numeric=("num_x", "num_y"),
    labels=("label_click", "label_like"),
    vector_dim=3,
)
