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
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.errors import BadInput
from jobs.lake.schema import (
    CONSUMER_TABLE,
    ENGAGEMENT_TABLE,
    IMPRESSION_TABLE,
    ITEM_TABLE,
    PROVENANCE,
)
from jobs.lake.store import read_parquet
from jobs.sources.base import SourceSettings
from jobs.sources.days import HOUR_MS
from jobs.sources.file_log import FileLog
from jobs.sources.files import header_of, parquet_columns, require_columns
from jobs.sources.rows import category, csv_rows, id_of_number, union, whole_number

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, Observation, SparkSession

    from jobs.intake.reading import Wanted

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
# All columns of the log: repeats are equal in every one of them.
LOG = (
    "user_id",
    "video_id",
    "date",
    "hourmin",
    "time_ms",
    *LABELS.values(),
    "play_time_ms",
    "duration_ms",
    "profile_stay_time",
    "comment_stay_time",
    "is_rand",
    "tab",
)

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


class KuaiRand(FileLog):
    Settings = KuaiRandSettings
    slack_h = 1.0  # `time_ms` may precede the log's own `date` by up to an hour
    table_name = IMPRESSION_TABLE

    def __init__(self, settings: KuaiRandSettings, memory: Path) -> None:
        super().__init__(settings, "Asia/Shanghai", memory)
        self._repeats: dict[date, Observation] = {}

    def log_files(self) -> list[Path]:
        return self._files("log_standard*_pure.csv*")

    def wanted(self, file: Path) -> Wanted:
        from jobs.intake.reading import Field, Wanted

        # As text: what a value is, Spark decides below. The day is that of the log's own `date`,
        # whatever the time zone.
        columns = tuple(Field(column, column) for column in LOG)
        remedies = tuple((column, REMEDY) for column in LOG)
        return Wanted(columns, "date", "iso", "UTC", keeps_time=False, remedies=remedies)

    def span(self) -> tuple[date, date]:
        first, last = super().span()
        return (first if self._history is None else self._eve), last

    def tables(self, day: date) -> tuple[str, ...]:
        if day == self._eve and self._history is not None:
            return (ENGAGEMENT_TABLE,)
        first, last = super().span()
        return (IMPRESSION_TABLE, CONSUMER_TABLE, ITEM_TABLE) if first <= day <= last else ()

    def files(self, day: date) -> list[Path]:
        if day == self._eve and self._history is not None:
            return [self._history, self._files(VIDEO_FILE)[0]]
        log = super().files(day)
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
        return engagements(read_parquet(spark, [self._history]), authors(videos))

    def notes(self, day: date) -> dict[str, int | str]:
        """How many exact repeats the day's impressions had."""
        observed = self._repeats.get(day)
        if observed is None:
            return {}
        # Spark reports no sum at all for a day without rows.
        return super().notes(day) | {"exact_repeats_dropped": observed.get["repeats"] or 0}

    def _rows_once(self, spark: SparkSession, day: date) -> DataFrame:
        """The day's rows of the log without exact repeats, which Spark counts while it writes."""
        from pyspark.sql import Observation
        from pyspark.sql import functions as F

        rows = self.rows(spark, day)
        repeats = F.sum(F.col("count") - 1).alias("repeats")
        # An observation counts in the same job; a count of its own would read the log twice.
        self._repeats[day] = Observation()
        # Lines that cannot be read are equal in all columns, since these are null.
        unreadable = F.when(F.col("fault").isNotNull(), F.col("source_line")).alias("unreadable")
        places = [F.min(column).alias(column) for column in PROVENANCE]
        once = rows.groupBy(*LOG, unreadable).agg(F.count("*").alias("count"), *places)
        return once.observe(self._repeats[day], repeats)

    def _features(self, spark: SparkSession, pattern: str, columns: tuple[str, ...]) -> DataFrame:
        file = self._files(pattern)[0]
        require_columns(file, header_of(file), dict.fromkeys(columns, REMEDY))
        return csv_rows(spark, file)

    def _files(self, pattern: str) -> list[Path]:
        folder = self.path / "data"
        files = sorted(folder.glob(pattern))
        if not files:
            raise BadInput(
                f"There is no {pattern} in {folder}. "
                "Set source.path to the folder of KuaiRand-Pure, the one that holds data/."
            )
        return files

    @property
    def _eve(self) -> date:
        """The day before the log."""
        first, _ = super().span()
        return first - timedelta(days=1)

    @cached_property
    def _history(self) -> Path | None:
        """The history that ends on the eve of the log; a later end would repeat the log's rows."""
        for file in sorted((self.path / "derived").glob("history_*user_sequences.parquet")):
            end = re.search(r"_to_(\d+)_(\d+)", file.name)
            if end and (int(end[1]), int(end[2])) == (self._eve.month, self._eve.day):
                require_columns(file, parquet_columns(file), dict.fromkeys(HISTORY, REMEDY))
                return file
        return None


SOURCE = KuaiRand


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
        *PROVENANCE,
    )
    # Broadcast, so that the impressions need not be shuffled.
    return shown.join(F.broadcast(authors), "item_id", "left")


def hour_in_china(time_ms: Column) -> Column:
    from pyspark.sql import functions as F

    # Whatever the log has as a time: of one that the sum would exceed, there is no hour.
    local_ms = F.try_add(time_ms, F.lit(CHINA_UTC_OFFSET_MS))
    return F.floor(F.pmod(local_ms / HOUR_MS, 24)).cast("int")


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
