"""The steps of a day and of a week by name, in their order, and the parts that they make up."""

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
WORDS = "words"
WORD_STEPS = (  # of a week, where the settings have texts
    "words_collect",
    "words_conversations",
    "words_phrases",
    "words_pairs",
    "words_train",
    "words_align",
    "words_benchmark",
    "words_publish",
    "words_post",
)
ALL_STEPS = STEPS + WORD_STEPS
LEAVES = ("drift",)  # steps that no other one reads: they may fail, or end after the last one
LANDING = EMBEDDING_STEPS[0]  # the step that reads the log
COLLECTING = WORD_STEPS[0]  # the step that reads texts


def part_of(step: str) -> tuple[str, ...]:
    """The steps of the part that a step belongs to."""
    for steps in (EMBEDDING_STEPS, RANKER_STEPS, WORD_STEPS):
        if step in steps:
            return steps
    raise ValueError(f"there is no step {step}")


def further_part(name: str) -> str:
    """The part that a further embedding has by itself: its LEARNING_STEPS."""
    return f"{EMBEDDINGS}@{name}"
