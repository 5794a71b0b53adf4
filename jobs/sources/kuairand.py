"""KuaiRand-Pure in its published layout: impressions of a short-video app, its users and its videos.

    data/log_standard*_pure.csv[.gz]                 one file or several; of rows equal in all columns one is kept
    data/user_features_pure.csv[.gz]
    data/video_features_basic_pure.csv[.gz]
    derived/history_*_user_sequences.parquet         optional: what each user did before the log begins, without times

consumer = user, producer = the video's author, item = video. A day is the log's own `date`, in China; its `time_ms` may
lie up to an hour before that day begins. The history is one day more, the one before the log, with engagements only, so
that there are embeddings on the log's first day. Source: Gao et al., CIKM 2022, https://kuairand.com.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.errors import BadInput
from jobs.lake.schema import CONSUMER_TABLE, ENGAGEMENT_TABLE, IMPRESSION_TABLE, ITEM_TABLE
from jobs.settings import KuaiRandSettings
from jobs.sources import reading
from jobs.sources.reading import HOUR_MS, Span, category, id_of_number, whole_number

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, Observation, SparkSession

CHINA_UTC_OFFSET_MS = 8 * HOUR_MS  # without summer time

LABELS = {
    "label_click": "is_click",
    "label_like": "is_like",
    "label_follow": "is_follow",
    "label_comment": "is_comment",
    "label_forward": "is_forward",
    "label_hate": "is_hate",
    "label_long_view": "long_view",
    "label_profile_enter": "is_profile_enter",
}
LOG = ("user_id", "video_id", "date", "time_ms", "play_time_ms", "tab", *LABELS.values())

USER_CATEGORIES = (
    "user_active_degree",
    "is_lowactive_period",
    "is_live_streamer",
    "is_video_author",
    *(f"onehot_feat{n}" for n in range(18)),
)
USER_NUMBERS = (
    "follow_user_num",
    "fans_user_num",
    "friend_user_num",
    "register_days",
)  # the *_range columns repeat these
USERS = ("user_id", *USER_CATEGORIES, *USER_NUMBERS)

VIDEO_CATEGORIES = ("video_type", "upload_type", "music_type")
VIDEO_NUMBERS = {
    "num_duration_ms": "video_duration",
    "num_width": "server_width",
    "num_height": "server_height",
}
VIDEOS = ("video_id", "author_id", "upload_dt", "tag", *VIDEO_CATEGORIES, *VIDEO_NUMBERS.values())

HISTORY_KINDS = {"long_view": "long_watch_seq", "like": "like_seq"}


class KuaiRand:
    name = "kuairand"
    timezone = "Asia/Shanghai"
    slack_h = 1.0

    def __init__(self, settings: KuaiRandSettings) -> None:
        self.folder = settings.path
        self._repeats: dict[date, Observation] = {}

    def span(self) -> Span:
        first, last = self._log_span
        return (self._history[0] if self._history else first), last

    def tables(self, day: date) -> tuple[str, ...]:
        if self._history and day == self._history[0]:
            return (ENGAGEMENT_TABLE,)
        first, last = self._log_span
        return (IMPRESSION_TABLE, CONSUMER_TABLE, ITEM_TABLE) if first <= day <= last else ()

    def absent(self, table: str) -> frozenset[str]:
        return frozenset({"time_ms"} if table == ENGAGEMENT_TABLE else ())

    def table(self, spark: SparkSession, table: str, day: date) -> DataFrame:
        if table == IMPRESSION_TABLE:
            return self._impressions(spark, day)
        if table == CONSUMER_TABLE:
            return consumers(self._features(spark, "user_features_pure", USERS))
        videos = self._features(spark, "video_features_basic_pure", VIDEOS)
        return (
            items(videos, day) if table == ITEM_TABLE else self._engagements(spark, authors(videos))
        )

    def notes(self, day: date) -> dict[str, int | str]:
        """The rows that repeat another one in all columns, once the impressions of the day have been written."""
        observed = self._repeats.get(day)
        notes: dict[str, int | str] = (
            {"exact_repeats_dropped": observed.get["repeats"] or 0} if observed else {}
        )
        undated = sum(undated for _, undated in self._logs.values())
        return notes | ({"undated_rows_in_log": undated} if undated else {})

    def _impressions(self, spark: SparkSession, day: date) -> DataFrame:
        from pyspark.sql import Observation
        from pyspark.sql import functions as F

        files = [file for file, ((first, last), _) in self._logs.items() if first <= day <= last]
        if not files:  # a hole between two files
            files = list(self._logs)[:1]
        log = reading.union([reading.csv_rows(spark, [file]) for file in files])
        rows = log.where(
            F.col("date") == f"{day:%Y%m%d}"
        )  # plain, so that the reader itself passes over other days
        self._repeats[day] = Observation()
        once = (
            rows.groupBy(*rows.columns)
            .count()
            .observe(self._repeats[day], F.sum(F.col("count") - 1).alias("repeats"))
        )
        videos = self._features(spark, "video_features_basic_pure", VIDEOS)
        return impressions(once, authors(videos))

    def _engagements(self, spark: SparkSession, authors: DataFrame) -> DataFrame:
        assert self._history is not None, "tables() told of engagements without a history file"
        return engagements(spark.read.parquet(str(self._history[1])), authors)

    def _features(self, spark: SparkSession, name: str, columns: tuple[str, ...]) -> DataFrame:
        file = self._files(f"{name}.csv*")[0]
        require(file, columns)
        return reading.csv_rows(spark, [file])

    def _files(self, pattern: str) -> list[Path]:
        if not (found := sorted((self.folder / "data").glob(pattern))):
            raise BadInput(
                f"There is no {pattern} in {self.folder / 'data'}. Set source.path to the folder of KuaiRand-Pure, "
                f"the one that holds data/."
            )
        return found

    @cached_property
    def _logs(self) -> dict[Path, tuple[Span, int]]:
        """Every log file with its span and the rows in it that have no readable date."""
        return {file: log_span(file) for file in self._files("log_standard*_pure.csv*")}

    @cached_property
    def _log_span(self) -> Span:
        return reading.whole_span(span for span, _ in self._logs.values())

    @cached_property
    def _history(self) -> tuple[date, Path] | None:
        """The history file, if it ends on the day before the log: any later and it would tell what the log tells."""
        eve = self._log_span[0] - timedelta(days=1)
        for file in sorted((self.folder / "derived").glob("history_*user_sequences.parquet")):
            ends = re.search(r"_to_(\d+)_(\d+)", file.name)
            if ends and (int(ends[1]), int(ends[2])) == (eve.month, eve.day):
                from pyarrow import parquet

                with reading.reading(file):
                    require(
                        file, ("user_id", *HISTORY_KINDS.values()), parquet.read_schema(file).names
                    )
                return eve, file
        return None


def require(file: Path, columns: tuple[str, ...], has: list[str] | None = None) -> None:
    remedy = "It is not as KuaiRand-Pure publishes it: fetch it again, or describe your own log with source.kind = 'table'."
    reading.require_columns(file, has or reading.header_of(file), dict.fromkeys(columns, remedy))


def log_span(file: Path) -> tuple[Span, int]:
    """First and last `date` (YYYYMMDD) of a log file, and its rows without a readable one."""
    import pandas as pd

    require(file, LOG)
    numbers = (pd.to_numeric(dates, errors="coerce") for dates in reading.csv_column(file, "date"))
    dates = (number.where(number.between(19700101, 99991231)) for number in numbers)
    return reading.span_of(
        file,
        dates,
        lambda n: datetime.strptime(str(int(n)), "%Y%m%d").date(),
        "column 'date' (YYYYMMDD)",
    )


def authors(videos: DataFrame) -> DataFrame:
    """video_id -> author_id, one row a video."""
    from pyspark.sql import functions as F

    ids = videos.select(
        id_of_number(F.col("video_id")).alias("item_id"),
        id_of_number(F.col("author_id")).alias("producer_id"),
    )
    return (
        ids.where("item_id is not null")
        .groupBy("item_id")
        .agg(F.min("producer_id").alias("producer_id"))
    )


def impressions(log: DataFrame, authors: DataFrame) -> DataFrame:
    """Rows of the log, each with its video's author (null for a video that is not in the video table)."""
    from pyspark.sql import functions as F

    time_ms = whole_number(F.col("time_ms"))
    shown = log.select(
        id_of_number(F.col("user_id")).alias("consumer_id"),
        id_of_number(F.col("video_id")).alias("item_id"),
        time_ms.alias("time_ms"),
        whole_number(F.col("play_time_ms")).alias("dwell_ms"),
        *(F.col(theirs).try_cast("int").alias(ours) for ours, theirs in LABELS.items()),
        category(F.col("tab")).alias("ctx_tab"),
        hour_in_china(time_ms).cast("string").alias("ctx_hour"),
    )
    return shown.join(F.broadcast(authors), "item_id", "left")


def hour_in_china(time_ms: Column) -> Column:
    from pyspark.sql import functions as F

    return F.floor(F.pmod((time_ms + CHINA_UTC_OFFSET_MS) / HOUR_MS, 24)).cast("int")


def engagements(history: DataFrame, authors: DataFrame) -> DataFrame:
    """One row a video that a user watched long or liked, without times."""
    from pyspark.sql import functions as F

    kinds = [
        history.select(
            F.col("user_id").cast("string").alias("consumer_id"),
            F.explode(F.col(sequence).cast("array<string>")).alias("item_id"),
        ).withColumn("kind", F.lit(kind))
        for kind, sequence in HISTORY_KINDS.items()
    ]
    engaged = reading.union(kinds).join(F.broadcast(authors), "item_id", "left")
    return engaged.withColumn("value", F.lit(1.0)).withColumn("time_ms", F.lit(None).cast("bigint"))


def consumers(users: DataFrame) -> DataFrame:
    from pyspark.sql import functions as F

    return users.select(
        id_of_number(F.col("user_id")).alias("consumer_id"),
        *(category(F.col(column)).alias(f"cat_{column}") for column in USER_CATEGORIES),
        *(F.col(column).try_cast("double").alias(f"num_{column}") for column in USER_NUMBERS),
    )


def items(videos: DataFrame, day: date) -> DataFrame:
    """The videos; `num_age_days` counts from the day of upload to `day`, 0 for one that is dated later."""
    from pyspark.sql import functions as F

    age = F.date_diff(F.lit(day), F.col("upload_dt").try_cast("date")).cast("double")
    return videos.select(
        id_of_number(F.col("video_id")).alias("item_id"),
        id_of_number(F.col("author_id")).alias("producer_id"),
        *(category(F.col(column)).alias(f"cat_{column}") for column in VIDEO_CATEGORIES),
        category(F.element_at(F.split("tag", ","), 1)).alias("cat_tag"),
        category(F.col("tag")).alias("cat_tags"),
        *(F.col(theirs).try_cast("double").alias(ours) for ours, theirs in VIDEO_NUMBERS.items()),
        F.when(age < 0, 0.0).otherwise(age).alias("num_age_days"),
    )
