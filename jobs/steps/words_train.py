"""words_train: vectors of the words by skip-gram, of the whole week and of each half.

    words.npy, counts.npy       (m,) bytes, sorted; (m,) occurrences
    keep.npy                    (m,) float32, the share of each word that was passed
    whole/inputs.npy, outputs.npy       (m, k) float32 in coordinates of their own
    <half>/words.npy, inputs.npy, counts.npy    the same of the first and the second half

One barrier job fits all three, as `embed` does. The halves tell `words_post` how far vectors are
apart by chance.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings.facts import Fact
from embeddings.kernels.communicator import Communicator
from embeddings.words.training import WordConfig, fit_half, fit_words
from jobs.pipeline.plan import inputs, writing
from jobs.settings import Settings
from jobs.settings.words import WordsSettings
from jobs.spark.barrier import Progress, Work, run_barrier
from jobs.words.stored import HALVES, WHOLE, Vocabulary, read_pairs
from jobs.words.weeks import words_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "words")
FORMAT = 1
SPARK = True
FACTS = (
    Fact("loss", "negative log-likelihood of a pair, last epoch", better="lower", headline=True),
)


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("words_phrases", day), ("words_pairs", day)]


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Fit the pairs of the week, and those of each half."""
    phrases, pairs = inputs(settings, "words_train", day)
    with writing(settings, "words_train", day) as staging:
        for name in (WHOLE, *HALVES):
            (staging.path / name).mkdir()
        work = member(phrases.path, pairs.path, staging.path, config(words_of(settings)))
        staging.facts |= run_barrier(spark, settings, work)[0]


def config(cfg: WordsSettings) -> WordConfig:
    return WordConfig(**{name: getattr(cfg, name) for name in WordConfig.__dataclass_fields__})


def member(phrases: Path, pairs: Path, home: Path, cfg: WordConfig) -> Work:
    """The work of one task: fit its rows together with the others; the first one writes."""

    def work(comm: Communicator, progress: Progress) -> dict[str, Any]:
        words = Vocabulary.read(phrases)
        halves = read_pairs(pairs, words.ids)
        whole = (halves[0] + halves[1]).tocsr()
        progress(f"Words: {len(words.ids)}, with {whole.nnz} pairs")
        found = fit_words(whole, words.ids, words.counts, cfg, comm)
        if comm.rank == 0:
            save(home, words=words.ids, counts=words.counts, keep=found.keep)
            save(home / WHOLE, inputs=found.inputs, outputs=found.outputs)
        for name, matrix, counts in zip(HALVES, halves, words.by_half, strict=True):
            half = fit_half(matrix, words.ids, counts, cfg, comm)
            if comm.rank == 0:
                save(home / name, words=half.ids, inputs=half.vectors, counts=half.counts)
        return {"loss": float(found.losses[-1])}

    return work


def save(folder: Path, **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
