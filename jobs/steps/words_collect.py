"""words_collect: the texts of a week, each once.

    texts/      conversation, time_ms, text

The day of a partition is the Sunday that ends its week. A text that occurs again in its
conversation at the same time is the same one. A text without a conversation is one by itself.
"""

from __future__ import annotations

import os
from datetime import date
from typing import TYPE_CHECKING

from embeddings.facts import Fact
from jobs.errors import BadInput, Skip
from jobs.pipeline.origin import text_sources
from jobs.pipeline.plan import writing
from jobs.settings import Settings
from jobs.words.reading import COLUMNS, local_path, texts_of_week
from jobs.words.weeks import WEEK, first_week, require_sunday, words_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "words")
FORMAT = 1
SPARK = True
FACTS = (
    Fact("texts", "texts of the week", "texts", headline=True),
    Fact("conversations", "conversations that they are part of", "conversations", headline=True),
    Fact("repeats", "texts that were there already, dropped", "texts"),
    Fact("unreadable", "lines of the files without a text or a time", "lines", better="lower"),
)


def needs(settings: Settings, day: date) -> list[tuple[str, date]]:
    return []


def run(spark: SparkSession, settings: Settings, day: date) -> None:
    """Read the week that ends on `day`. Raises Skip where it has no text, BadInput."""
    from pyspark.sql import functions as F

    require_sunday(day)
    first = first_week(settings)
    if day < first:
        raise BadInput(
            f"The week of {day} is before that of {first}, the first one. Set words.first_day."
        )
    rows = texts_of_week(spark, settings, day).cache()
    read = rows.groupBy("file").agg(
        F.count(F.lit(1)).alias("lines"), F.count("time_ms").alias("texts")
    )
    counts = read.collect()  # a row per file
    n_texts = sum(row["texts"] for row in counts)
    if not n_texts:
        raise Skip(f"There is no text from {day - WEEK} to {day}.")
    files = [local_path(row["file"]) for row in counts if row["file"] and row["texts"]]
    own = F.sha2(F.concat_ws("\n", "time_ms", "text"), 256)
    texts = rows.where("time_ms is not null").withColumn(
        "conversation", F.coalesce("conversation", own)
    )
    distinct = texts.select(*COLUMNS).distinct()
    with writing(
        settings, "words_collect", day, log=log_of(settings), sources=text_sources(settings, files)
    ) as staging:
        staging.write(distinct, "texts", list(COLUMNS), settings.spark.partitions)
        written = spark.read.parquet(str(staging.path / "texts"))
        kept = written.agg(
            F.count(F.lit(1)).alias("texts"), F.countDistinct("conversation").alias("of")
        ).collect()[0]
        staging.facts |= {
            "texts": kept["texts"],
            "conversations": kept["of"],
            "repeats": n_texts - kept["texts"],
            "unreadable": sum(row["lines"] - row["texts"] for row in counts),
        }
    rows.unpersist()


def log_of(settings: Settings) -> str:
    """Where the texts are, from home."""
    return os.path.relpath(words_of(settings).path, settings.home)
