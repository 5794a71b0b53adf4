"""Small logs in every layout that a source reads: 100 impressions per day on four days."""

from __future__ import annotations

import gzip
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

DAYS = [date(2024, 3, 1) + timedelta(days=n) for n in range(4)]
ROWS = 100  # per day
USERS, VIDEOS, AUTHORS = 20, 10, 4
LABELS = [
    "is_click",
    "is_like",
    "is_follow",
    "is_comment",
    "is_forward",
    "is_hate",
    "long_view",
    "is_profile_enter",
]


def author_of(video: int) -> int:
    return 900 + video % AUTHORS


def midnight_ms(day: date, timezone: str = "Asia/Shanghai") -> int:
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone))
    return int(midnight.timestamp()) * 1000


def kuairand_log(days: list[date] = DAYS, rows: int = ROWS) -> pd.DataFrame:
    """The 19 columns of KuaiRand's standard log.

    From one row to the next, user and video change and a quarter of an hour passes.
    """
    table = []
    for day in days:
        for n in range(rows):
            table.append(impression(day, n))
    return pd.DataFrame(table)


def impression(day: date, n: int) -> dict[str, int | str]:
    """Row n of a day: every third is clicked and viewed for long, every ninth is liked."""
    clicked = int(n % 3 == 0)
    labels = dict.fromkeys(LABELS, 0)
    labels |= {"is_click": clicked, "long_view": clicked, "is_like": int(n % 9 == 0)}
    return {
        "user_id": n % USERS,
        "video_id": n % VIDEOS,
        "date": f"{day:%Y%m%d}",
        "hourmin": n * 14 // 60 * 100,
        "time_ms": midnight_ms(day) + n * 14 * 60_000,
        **labels,
        "play_time_ms": 1000 * n,
        "duration_ms": 60_000,
        "profile_stay_time": 0,
        "comment_stay_time": 0,
        "is_rand": 0,
        "tab": n % 5,
    }


def users() -> pd.DataFrame:
    """KuaiRand's user table; user 0 has empty one-hot features."""
    columns: dict[str, object] = {
        "user_id": range(USERS),
        "follow_user_num": range(USERS),
        "fans_user_num": range(USERS),
        "friend_user_num": range(USERS),
        "register_days": range(USERS),
    }
    for n in range(18):
        columns[f"onehot_feat{n}"] = ["", *(f"{user % 2}.0" for user in range(1, USERS))]
    columns |= {
        "user_active_degree": "full_active",
        "is_lowactive_period": 0,
        "is_live_streamer": -124,
        "is_video_author": 1,
    }
    return pd.DataFrame(columns)


def videos() -> pd.DataFrame:
    """KuaiRand's video table, one upload for all."""
    ids = range(VIDEOS)
    return pd.DataFrame(
        {
            "video_id": ids,
            "author_id": [author_of(video) for video in ids],
            "tag": "39,11",
            "video_type": "NORMAL",
            "upload_dt": "2024-02-28",
            "upload_type": "Web",
            "music_type": "9.0",
            "video_duration": 8000.0,
            "server_width": 720.0,
            "server_height": 1280.0,
        }
    )


def write_kuairand(folder: Path, log: pd.DataFrame | None = None, history: bool = False) -> Path:
    """Write the published layout.

    history: before the first day, user 0 watched video 3 for long and liked video 4.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    if log is None:
        log = kuairand_log()
    log.to_csv(data / "log_standard_3_01_to_3_04_pure.csv.gz", index=False)
    users().to_csv(data / "user_features_pure.csv.gz", index=False)
    videos().to_csv(data / "video_features_basic_pure.csv", index=False)
    if history:
        write_history(folder / "derived")
    return folder


def write_history(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    sequences = pa.table(
        {
            "user_id": [0, 1],
            "watch_seq": [[1], [2]],
            "long_watch_seq": [[3], []],
            "like_seq": [[4], []],
        }
    )
    pq.write_table(sequences, folder / "history_2_10_to_2_29.user_sequences.parquet")


def table_log() -> pd.DataFrame:
    """The same impressions under another log's column names, in Paris time."""
    log = kuairand_log()
    unix_ms = log.time_ms - midnight_ms(DAYS[0]) + midnight_ms(DAYS[0], "Europe/Paris")
    paris = pd.to_datetime(unix_ms, unit="ms", utc=True).dt.tz_convert("Europe/Paris")
    return pd.DataFrame(
        {
            "who": "u" + log.user_id.astype(str),
            "by": "a" + (log.video_id % AUTHORS).astype(str),
            "post": log.video_id,
            "shown at": paris.dt.strftime("%Y-%m-%d %H:%M:%S"),
            "unix": unix_ms // 1000,
            "clicked": log.is_click,
            "where": log.tab,
            "seconds": log.play_time_ms / 1000,
        }
    )


def write_edges(file: Path) -> Path:
    """Write every click as an edge, after a comment and an empty line; odd users' have a kind."""
    log = kuairand_log()
    clicks = log[log.is_click == 1]
    unix_ms = clicks.time_ms - midnight_ms(DAYS[0]) + midnight_ms(DAYS[0], "UTC")
    lines = ["# from to when", ""]
    for user, video, unix in zip(clicks.user_id, clicks.video_id, unix_ms // 1000, strict=True):
        kind = " reply" if user % 2 else ""
        lines.append(f"{user}\t{author_of(video)}   {unix}{kind}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    return file
