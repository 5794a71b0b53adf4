"""words_pairs: what occurs together within a window of a conversation, with weights.

pairs/      half, first, second, weight
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from embeddings.facts import Fact
from jobs.lake.store import Partition
from jobs.pipeline.plan import inputs, writing
from jobs.settings import Settings
from jobs.words.pairs import pairs_in_windows
from jobs.words.weeks import words_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SETTINGS = ("source", "words")
FORMAT = 1
SPARK = True
FACTS = (Fact("pairs", "distinct pairs of words, of each half", "pairs", headline=True),)


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("words_phrases", day)]


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Form the pairs of each half, and count them."""
    (phrases,) = inputs(settings, "words_pairs", day)
    found = pairs_of(spark, phrases, words_of(settings).window)
    with writing(settings, "words_pairs", day) as staging:
        staging.write(found, "pairs", ["first", "second", "half"], settings.spark.partitions)
        staging.facts["pairs"] = spark.read.parquet(str(staging.path / "pairs")).count()


def pairs_of(spark: SparkSession, phrases: Partition, window: int) -> DataFrame:
    """half, first, second, weight, of the sentences of a week."""
    from pyspark.sql import functions as F

    words = phrases.read(spark, "sentences").select(
        "half", "conversation", F.posexplode("words").alias("place", "word")
    )
    return pairs_in_windows(words, "conversation", "word", "place", window, by=["half"])
