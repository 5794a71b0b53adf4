"""KuaiRand-Pure as published: impressions of a short-video app, its users and its videos.

    data/log_standard*_pure.csv[.gz]           one file or several; exact repeats are dropped
    data/user_features_pure.csv[.gz]
    data/video_features_basic_pure.csv[.gz]
    derived/history_*_user_sequences.parquet   optional: earlier engagements per user, without times

consumer = user, producer = the video's author, item = video. A day is the log's own `date`, in
China; its `time_ms` may be up to an hour before that day begins. The history is one more day, the
one before the log, with engagements only, so that embeddings exist on the log's first day.
Source: Gao et al., CIKM 2022, https://kuairand.com.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.errors import BadInput
from jobs.lake.schema import CONSUMER_TABLE, ENGAGEMENT_TABLE, IMPRESSION_TABLE, ITEM_TABLE
from jobs.sources.base import SourceSettings
from jobs.sources.days import HOUR_MS, FileDays, LogFiles, days_of, scanned_once
from jobs.sources.files import header_of, parquet_columns, require_columns
from jobs.sources.rows import category, csv_column, csv_rows, id_of_number, union, whole_number

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import Column, DataFrame, Observation, SparkSession

CHINA_UTC_OFFSET_MS = 8 * HOUR_MS  # China has no summer time

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

USER_FILE = "user_features_pure.csv*"
USER_CATEGORIES = (
    "user_active_degree",
    "is_lowactive_period",
    "is_live_streamer",
    "is_video_author",
    *(f"onehot_feat{n}" for n in range(18)),
)
# The *_range columns of the file repeat these in coarser steps.
USER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
USERS = ("user_id", *USER_CATEGORIES, *USER_NUMBERS)

VIDEO_FILE = "video_features_basic_pure.csv*"
VIDEO_CATEGORIES = ("video_type", "upload_type", "music_type")
VIDEO_NUMBERS = {
    "num_duration_ms": "video_duration",
    "num_width": "server_width",
    "num_height": "server_height",
}
VIDEOS = ("video_id", "author_id", "upload_dt", "tag", *VIDEO_CATEGORIES, *VIDEO_NUMBERS.values())

HISTORY_KINDS = {"long_view": "long_watch_seq", "like": "like_seq"}
HISTORY = ("user_id", *HISTORY_KINDS.values())

REMEDY = (
    "KuaiRand-Pure is published with it: fetch it again, "
    "or describe your own log with source.kind = 'table'."
)


class KuaiRandSettings(SourceSettings):
    """KuaiRand-Pure as published."""

    path: Path
    """The folder that holds data/ and, optionally, derived/."""


class KuaiRand:
    Settings = KuaiRandSettings
    timezone = "Asia/Shanghai"
    slack_h = 1.0  # `time_ms` may precede the log's own `date` by up to an hour

    def __init__(self, settings: KuaiRandSettings) -> None:
        self.folder = settings.path
        self._repeats: dict[date, Observation] = {}

    def span(self) -> tuple[date, date]:
        first, last = self._log.span()
        return (first if self._history is None else self._eve), last

    def tables(self, day: date) -> tuple[str, ...]:
        if day == self._eve and self._history is not None:
            return (ENGAGEMENT_TABLE,)
        first, last = self._log.span()
        return (IMPRESSION_TABLE, CONSUMER_TABLE, ITEM_TABLE) if first <= day <= last else ()

    def files(self, day: date) -> list[Path]:
        if day == self._eve and self._history is not None:
            return [self._history, self._files(VIDEO_FILE)[0]]
        log = self._log.of_day(day)
        return [*log, self._files(USER_FILE)[0], self._files(VIDEO_FILE)[0]] if log else []

    def absent(self, table: str) -> frozenset[str]:
        return frozenset({"time_ms"}) if table == ENGAGEMENT_TABLE else frozenset()

    def table(self, spark: SparkSession, table: str, day: date) -> DataFrame:
        if table == CONSUMER_TABLE:
            return consumers(self._features(spark, USER_FILE, USERS))
        videos = self._features(spark, VIDEO_FILE, VIDEOS)
        if table == ITEM_TABLE:
            return items(videos, day)
        if table == IMPRESSION_TABLE:
            return impressions(self._rows_once(spark, day), authors(videos))
        assert self._history is not None, "tables() has engagements only where there is a history"
        return engagements(spark.read.parquet(str(self._history)), authors(videos))

    def notes(self, day: date) -> dict[str, int | str]:
        """How many exact repeats the day's impressions had, and rows without a day its files."""
        notes: dict[str, int | str] = {}
        observed = self._repeats.get(day)
        if observed is not None:
            # Spark reports no sum at all for a day without rows.
            notes["exact_repeats_dropped"] = observed.get["repeats"] or 0
        return notes | self._log.notes(day)

    def _rows_once(self, spark: SparkSession, day: date) -> DataFrame:
        """The day's rows of the log without exact repeats, which Spark counts while it writes."""
        from pyspark.sql import Observation
        from pyspark.sql import functions as F

        log = union([csv_rows(spark, file) for file in self._log.to_read(day)])
        # A plain comparison of text, so that the CSV reader itself can skip the other days.
        rows = log.where(F.col("date") == f"{day:%Y%m%d}")
        repeats = F.sum(F.col("count") - 1).alias("repeats")
        # An observation counts in the same job; a count of its own would read the log twice.
        self._repeats[day] = Observation()
        return rows.groupBy(*rows.columns).count().observe(self._repeats[day], repeats)

    def _features(self, spark: SparkSession, pattern: str, columns: tuple[str, ...]) -> DataFrame:
        file = self._files(pattern)[0]
        require_columns(file, header_of(file), dict.fromkeys(columns, REMEDY))
        return csv_rows(spark, file)

    def _files(self, pattern: str) -> list[Path]:
        folder = self.folder / "data"
        files = sorted(folder.glob(pattern))
        if not files:
            raise BadInput(
                f"There is no {pattern} in {folder}. "
                "Set source.path to the folder of KuaiRand-Pure, the one that holds data/."
            )
        return files

    @cached_property
    def _log(self) -> LogFiles:
        files = self._files("log_standard*_pure.csv*")
        return LogFiles({file: scanned_once(file, "kuairand", log_days) for file in files})

    @property
    def _eve(self) -> date:
        """The day before the log."""
        first, _ = self._log.span()
        return first - timedelta(days=1)

    @cached_property
    def _history(self) -> Path | None:
        """The history that ends on the eve of the log; a later end would repeat the log's rows."""
        for file in sorted((self.folder / "derived").glob("history_*user_sequences.parquet")):
            end = re.search(r"_to_(\d+)_(\d+)", file.name)
            if end and (int(end[1]), int(end[2])) == (self._eve.month, self._eve.day):
                require_columns(file, parquet_columns(file), dict.fromkeys(HISTORY, REMEDY))
                return file
        return None


SOURCE = KuaiRand


def log_days(file: Path) -> FileDays:
    """The days of a log file, from its column `date` (YYYYMMDD)."""
    require_columns(file, header_of(file), dict.fromkeys(LOG, REMEDY))
    return days_of(file, dates_of(file), day_of_number, "column 'date' (YYYYMMDD)")


def dates_of(file: Path) -> Iterator[pd.Series]:
    """The column `date` as numbers, in batches; NaN for one that is no day from 1970 on."""
    import pandas as pd

    for batch in csv_column(file, "date"):
        numbers = pd.to_numeric(batch, errors="coerce")
        distinct = numbers.dropna().unique()
        yield numbers.where(numbers.isin([n for n in distinct if is_day(n)]))


def is_day(number: float) -> bool:
    try:
        return day_of_number(number).year >= 1970
    except ValueError:
        return False


def day_of_number(number: float) -> date:
    """20220425.0 -> 2022-04-25. Raises ValueError."""
    return datetime.strptime(f"{number:.0f}", "%Y%m%d").date()


def authors(videos: DataFrame) -> DataFrame:
    """video_id -> author_id, one row per video."""
    from pyspark.sql import functions as F

    ids = videos.select(
        id_of_number(F.col("video_id")).alias("item_id"),
        id_of_number(F.col("author_id")).alias("producer_id"),
    )
    # One author each, even if the table lists a video twice: a join must not multiply rows.
    known = ids.where("item_id is not null")
    return known.groupBy("item_id").agg(F.min("producer_id").alias("producer_id"))


def impressions(log: DataFrame, authors: DataFrame) -> DataFrame:
    """Rows of the log, each with its video's author; null for a video not in the video table."""
    from pyspark.sql import functions as F

    time_ms = whole_number(F.col("time_ms"))
    labels = [F.col(column).try_cast("int").alias(label) for label, column in LABELS.items()]
    shown = log.select(
        id_of_number(F.col("user_id")).alias("consumer_id"),
        id_of_number(F.col("video_id")).alias("item_id"),
        time_ms.alias("time_ms"),
        whole_number(F.col("play_time_ms")).alias("dwell_ms"),
        *labels,
        category(F.col("tab")).alias("ctx_tab"),
        hour_in_china(time_ms).cast("string").alias("ctx_hour"),
    )
    # Broadcast, so that the impressions need not be shuffled.
    return shown.join(F.broadcast(authors), "item_id", "left")


def hour_in_china(time_ms: Column) -> Column:
    from pyspark.sql import functions as F

    return F.floor(F.pmod((time_ms + CHINA_UTC_OFFSET_MS) / HOUR_MS, 24)).cast("int")


def engagements(history: DataFrame, authors: DataFrame) -> DataFrame:
    """One row for each video that a user watched for long or liked, without times."""
    from pyspark.sql import functions as F

    kinds = []
    for kind, sequence in HISTORY_KINDS.items():
        videos = F.explode(F.col(sequence).cast("array<string>"))
        engaged = history.select(
            F.col("user_id").cast("string").alias("consumer_id"),
            videos.alias("item_id"),
        )
        kinds.append(engaged.withColumn("kind", F.lit(kind)))
    rows = union(kinds).join(F.broadcast(authors), "item_id", "left")
    return rows.withColumn("value", F.lit(1.0)).withColumn("time_ms", F.lit(None).cast("bigint"))


def consumers(users: DataFrame) -> DataFrame:
    """The users' profiles, as they are on every day of the log."""
    from pyspark.sql import functions as F

    columns = [id_of_number(F.col("user_id")).alias("consumer_id")]
    for column in USER_CATEGORIES:
        columns.append(category(F.col(column)).alias(f"cat_{column}"))
    for column in USER_NUMBERS:
        columns.append(F.col(column).try_cast("double").alias(f"num_{column}"))
    return users.select(*columns)


def items(videos: DataFrame, day: date) -> DataFrame:
    """The videos. `num_age_days`: from the upload to `day`, 0 where the upload is dated later."""
    from pyspark.sql import functions as F

    columns = [
        id_of_number(F.col("video_id")).alias("item_id"),
        id_of_number(F.col("author_id")).alias("producer_id"),
    ]
    for column in VIDEO_CATEGORIES:
        columns.append(category(F.col(column)).alias(f"cat_{column}"))
    columns.append(category(F.element_at(F.split("tag", ","), 1)).alias("cat_tag"))
    columns.append(category(F.col("tag")).alias("cat_tags"))
    for name, column in VIDEO_NUMBERS.items():
        columns.append(F.col(column).try_cast("double").alias(name))
    age = F.date_diff(F.lit(day), F.col("upload_dt").try_cast("date")).cast("double")
    columns.append(F.when(age < 0, 0.0).otherwise(age).alias("num_age_days"))
    return videos.select(*columns)
