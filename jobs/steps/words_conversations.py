"""words_conversations: the texts of a conversation in the order of their times, as tokens.

    sentences/      half, conversation, words

half: 0 or 1, by the hash of the content, so that copies of a text are in one half. What is learned
from each half alone shows how much is chance.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from embeddings.facts import Fact
from embeddings.words.tokens import RETWEET, tokens
from jobs.pipeline.plan import inputs, writing
from jobs.settings import Settings
from jobs.words.phrases import changed_words
from jobs.words.stored import HALVES

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

SETTINGS = ("source", "words")
FORMAT = 1
SPARK = True
FACTS = (
    Fact("sentences", "conversations with a token", "conversations"),
    Fact("tokens", "words, hashtags, mentions and links", "tokens", headline=True),
)


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return [("words_collect", day)]


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Put the texts of each conversation together, and split them."""
    from pyspark.sql import functions as F

    (collected,) = inputs(settings, "words_conversations", day)
    found = sentences(collected.read(spark, "texts"))
    with writing(settings, "words_conversations", day) as staging:
        staging.write(found, "sentences", ["conversation"], settings.spark.partitions)
        counted = (
            spark.read.parquet(str(staging.path / "sentences"))
            .agg(F.count(F.lit(1)).alias("sentences"), F.sum(F.size("words")).alias("tokens"))
            .collect()[0]
        )
        staging.facts |= {"sentences": counted["sentences"], "tokens": counted["tokens"] or 0}


def sentences(texts: DataFrame) -> DataFrame:
    """half, conversation, words: one row per conversation."""
    from pyspark.sql import functions as F

    ordered = F.sort_array(F.collect_list(F.struct("time_ms", "text")))["text"]
    together = texts.groupBy("conversation").agg(ordered.alias("words"))
    split = changed_words(together, tokens_of).where(F.size("words") > 0)
    plain = F.concat_ws(" ", F.filter("words", is_content))
    content = F.when(plain != "", plain).otherwise(F.concat_ws(" ", "words"))
    half = F.pmod(F.crc32(content), F.lit(len(HALVES))).cast("int")
    return split.select(half.alias("half"), "conversation", "words")


def is_content(word: Column) -> Column:
    """As in `content_of`, in Spark: no hashtag, no mention, no link and no mark of a retweet."""
    from pyspark.sql import functions as F

    return ~word.rlike("^(#|@|https?://)") & (word != F.lit(RETWEET))


def tokens_of(texts: list[str]) -> list[str]:
    """The tokens of some texts, one after the other."""
    found: list[str] = []
    for text in texts:
        found += tokens(text)
    return found
