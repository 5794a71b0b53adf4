"""Small logs in every layout that a source reads, made by a fixed rule: 100 impressions a day on four days."""

from __future__ import annotations

import gzip
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

DAYS = [date(2024, 3, 1) + timedelta(days=n) for n in range(4)]
ROWS = 100  # a day
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
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).timestamp()) * 1000


def kuairand_log(days: list[date] = DAYS, rows: int = ROWS) -> pd.DataFrame:
    """The 19 columns of KuaiRand's standard log: every row another user, video and quarter of an hour."""
    table = []
    for day in days:
        for n in range(rows):
            clicked = int(n % 3 == 0)
            labels = dict.fromkeys(LABELS, 0) | {
                "is_click": clicked,
                "long_view": clicked,
                "is_like": int(n % 9 == 0),
            }
            time_ms = midnight_ms(day) + n * 14 * 60_000
            table.append(
                {
                    "user_id": n % USERS,
                    "video_id": n % VIDEOS,
                    "date": f"{day:%Y%m%d}",
                    "hourmin": n * 14 // 60 * 100,
                }
                | {"time_ms": time_ms, **labels, "play_time_ms": 1000 * n, "duration_ms": 60_000}
                | {"profile_stay_time": 0, "comment_stay_time": 0, "is_rand": 0, "tab": n % 5}
            )
    return pd.DataFrame(table)


def users() -> pd.DataFrame:
    numbers = {f"{name}_user_num": range(USERS) for name in ("follow", "fans", "friend")}
    onehot = {
        f"onehot_feat{n}": [f"{u % 2}.0" if u else "" for u in range(USERS)] for n in range(18)
    }
    flags = {
        "user_active_degree": "full_active",
        "is_lowactive_period": 0,
        "is_live_streamer": -124,
        "is_video_author": 1,
    }
    return pd.DataFrame(
        {"user_id": range(USERS), **numbers, "register_days": range(USERS), **onehot}
    ).assign(**flags)


def videos() -> pd.DataFrame:
    ids = range(VIDEOS)
    return pd.DataFrame({"video_id": ids, "author_id": [author_of(v) for v in ids], "tag": ["39,11"] * VIDEOS}).assign(
        video_type="NORMAL", upload_dt="2024-02-28", upload_type="Web", music_type="9.0",
        video_duration=8000.0, server_width=720.0, server_height=1280.0,
    )  # fmt: skip


def write_kuairand(folder: Path, log: pd.DataFrame | None = None, history: bool = False) -> Path:
    """The published layout; history: user 0 watched video 3 long and liked video 4, before the first day."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (kuairand_log() if log is None else log).to_csv(
        folder / "data" / "log_standard_3_01_to_3_04_pure.csv.gz", index=False
    )
    users().to_csv(folder / "data" / "user_features_pure.csv.gz", index=False)
    videos().to_csv(folder / "data" / "video_features_basic_pure.csv", index=False)
    if history:
        (folder / "derived").mkdir(exist_ok=True)
        sequences = pa.table(
            {
                "user_id": [0, 1],
                "watch_seq": [[1], [2]],
                "long_watch_seq": [[3], []],
                "like_seq": [[4], []],
            }
        )
        pq.write_table(
            sequences, folder / "derived" / "history_2_10_to_2_29.user_sequences.parquet"
        )
    return folder


def table_log() -> pd.DataFrame:
    """The same impressions as somebody else would write them down, in Paris time."""
    log = kuairand_log()
    unix_ms = log.time_ms - midnight_ms(DAYS[0]) + midnight_ms(DAYS[0], "Europe/Paris")
    clock = (
        pd.to_datetime(unix_ms, unit="ms", utc=True)
        .dt.tz_convert("Europe/Paris")
        .dt.strftime("%Y-%m-%d %H:%M:%S")
    )
    ids = {
        "who": "u" + log.user_id.astype(str),
        "by": "a" + (log.video_id % AUTHORS).astype(str),
        "post": log.video_id,
    }
    times = {"shown at": clock, "unix": unix_ms // 1000}
    return pd.DataFrame(
        ids
        | times
        | {"clicked": log.is_click, "where": log.tab, "seconds": log.play_time_ms / 1000}
    )


def write_edges(file: Path) -> Path:
    """Every click as an edge, with a comment, an empty line and, on every other line, a kind."""
    log = kuairand_log()
    clicks = log[log.is_click == 1]
    start = midnight_ms(DAYS[0], "UTC") - midnight_ms(DAYS[0])
    lines = [
        f"{user}\t{author_of(video)}   {(time_ms + start) // 1000}{' reply' if user % 2 else ''}"
        for user, video, time_ms in zip(
            clicks.user_id, clicks.video_id, clicks.time_ms, strict=True
        )
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress("\n".join(["# from to when", "", *lines, ""]).encode()))
    return file
