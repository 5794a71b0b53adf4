"""words_phrases: common words, and phrases as one token each.

vocabulary/     word, count, first, second: occurrences in all, and in each half
sentences/      half, conversation, words: those of the vocabulary
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from embeddings.facts import Fact
from embeddings.words.phrases import JOINT
from jobs.errors import EvergreenError
from jobs.pipeline.plan import inputs, writing
from jobs.settings import Settings
from jobs.settings.words import WordsSettings
from jobs.words.phrases import changed_words, common_phrases, with_phrases
from jobs.words.weeks import words_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SETTINGS = ("source", "words")
FORMAT = 1
SPARK = True
FACTS = (
    Fact("words", "words and phrases of the vocabulary", "words", headline=True),
    Fact("phrases", "phrases among them", "phrases", headline=True),
    Fact("known_tokens", "occurrences of them", "tokens"),
)


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("words_conversations", day)]


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Find phrases, count words, and keep what is common. Raises EvergreenError for none."""
    (conversations,) = inputs(settings, "words_phrases", day)
    cfg = words_of(settings)
    joined = phrased(conversations.read(spark, "sentences"), cfg)
    common = vocabulary(joined, cfg)
    n_files = settings.spark.partitions
    with writing(settings, "words_phrases", day) as staging:
        staging.write(common, "vocabulary", ["word"])
        words = spark.read.parquet(str(staging.path / "vocabulary")).collect()
        if not words:
            raise EvergreenError(
                f"No word occurs {cfg.min_count} times in the week of {day}. Lower words.min_count."
            )
        known = frozenset(row["word"] for row in words)
        kept = changed_words(joined, lambda tokens: [word for word in tokens if word in known])
        staging.write(kept, "sentences", ["conversation"], n_files)
        staging.facts |= {
            "words": len(known),
            "phrases": sum(JOINT in word for word in known),
            "known_tokens": sum(row["count"] for row in words),
        }


def phrased(sentences: DataFrame, cfg: WordsSettings) -> DataFrame:
    """The sentences with phrases as one token, of so many passes."""
    for _ in range(cfg.phrase_passes):
        phrases = common_phrases(
            sentences, cfg.min_count, cfg.phrase_discount, cfg.phrase_threshold, cfg.vocabulary
        )
        sentences = with_phrases(sentences, phrases)
    return sentences


def vocabulary(sentences: DataFrame, cfg: WordsSettings) -> DataFrame:
    """The common words, most frequent first; ties by the word."""
    from pyspark.sql import functions as F

    rows = sentences.select("half", F.explode("words").alias("word"))
    counts = rows.groupBy("word").agg(
        F.count(F.lit(1)).alias("count"),
        F.count_if(F.col("half") == 0).alias("first"),
        F.count_if(F.col("half") == 1).alias("second"),
    )
    common = counts.where(F.col("count") >= cfg.min_count)
    return common.orderBy(F.desc("count"), "word").limit(cfg.vocabulary)
