"""Common words and phrases, counted and scored in Spark.

Sentences are rows with an array of tokens, `words`. Only phrases come to the driver: as many as the
vocabulary has words at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from embeddings.words.phrases import merged, score

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Phrases = set[tuple[str, str]]


def counted_words(sentences: DataFrame) -> DataFrame:
    """word, count: of all tokens."""
    from pyspark.sql import functions as F

    return sentences.select(F.explode("words").alias("word")).groupBy("word").count()


def scored_neighbours(sentences: DataFrame, least: int, discount: float) -> DataFrame:
    """first, second, count, score: words that follow each other at least `least` times."""
    from pyspark.sql import functions as F

    # The words from the second on, beside those before them.
    after = F.slice("words", F.lit(2), F.greatest(F.size("words") - 1, F.lit(0)))
    couples = F.arrays_zip(F.col("words").alias("first"), after.alias("second"))
    pairs = sentences.select(F.inline(couples)).toDF("first", "second")
    known = pairs.where(F.col("second").isNotNull()).groupBy("first", "second").count()
    frequent = known.where(F.col("count") >= least)
    counts = counted_words(sentences)
    total = counts.select(F.sum("count").alias("total"))
    of_first = counts.toDF("first", "first_count")
    of_second = counts.toDF("second", "second_count")
    joined = frequent.join(of_first, "first").join(of_second, "second").crossJoin(total)
    columns = [F.col(name) for name in ("count", "first_count", "second_count", "total")]
    scored: Any = score(*columns, discount)  # type: ignore[arg-type,call-arg]  # columns add and multiply too
    return joined.select("first", "second", "count", scored.alias("score"))


def common_phrases(
    sentences: DataFrame, least: int, discount: float, threshold: float, most: int
) -> Phrases:
    """The phrases with at least this score, at most the `most` best ones."""
    from pyspark.sql import functions as F

    scored = scored_neighbours(sentences, least, discount).where(F.col("score") >= threshold)
    best = scored.orderBy(F.desc("score"), "first", "second").limit(most)
    return {(row["first"], row["second"]) for row in best.select("first", "second").collect()}


def with_phrases(sentences: DataFrame, phrases: Phrases) -> DataFrame:
    """The sentences with each phrase as one token."""
    return changed_words(sentences, lambda words: merged(words, phrases)) if phrases else sentences


def changed_words(sentences: DataFrame, change: Any) -> DataFrame:
    """The sentences with `change(words)` in place of their words."""
    from pyspark.sql import functions as F

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for batch in batches:
            at = batch.schema.get_field_index("words")
            columns = []
            for number, column in enumerate(batch.columns):
                if number == at:
                    changed = [change(words) for words in column.to_pylist()]
                    columns.append(pa.array(changed, pa.list_(pa.string())))
                else:
                    columns.append(column)
            yield pa.RecordBatch.from_arrays(columns, [f"_{n}" for n in range(len(columns))])

    # By number and cast afterwards: see jobs.features.lookups about texts that a task declares.
    declared = []
    returned = []
    for number, field in enumerate(sentences.schema.fields):
        kind = field.dataType.simpleString()
        declared.append(f"_{number} {kind}")
        returned.append(F.col(f"_{number}").cast(kind).alias(field.name))
    return sentences.mapInArrow(run, ", ".join(declared)).select(*returned)
