"""The steps of a day by name, in their order, and the parts that they make up."""

from __future__ import annotations

EMBEDDINGS = "embeddings"
RANKER = "ranker"
DATA_STEPS = ("land", "validate", "drift", "matrix")
LEARNING_STEPS = (  # of every embedding of the settings, on the same matrix
    "embed",
    "align",
    "fold_in",
    "lookalike",
    "benchmark",
    "publish",
    "consistency",
)
EMBEDDING_STEPS = DATA_STEPS + LEARNING_STEPS
RANKER_STEPS = ("examples", "evaluate", "train", "gate", "promote")
STEPS = EMBEDDING_STEPS + RANKER_STEPS
LEAVES = ("drift",)  # steps that no other one reads: they may fail, or end after the last one
LANDING = EMBEDDING_STEPS[0]  # the step that reads the log


def further_part(name: str) -> str:
    """The part that a further embedding has by itself: its LEARNING_STEPS."""
    return f"{EMBEDDINGS}@{name}"
