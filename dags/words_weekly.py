"""# Weekly words

On Mondays after the watch, for the week that has just ended: texts → conversations → common words
and phrases → pairs → vectors by skip-gram → the coordinates of the weeks before → benchmarks → one
version in the registry → a post about the week, which names the words that are used otherwise than
before.

A run's partition key is the Monday of its week; its partitions and its version are named by the
Sunday, after which the week is known.

| if this task fails | then |
| --- | --- |
| `words_collect` | no file is there, or one cannot be read. A week without texts is skipped |
| `words_phrases` | no word is frequent enough; lower `words.min_count` |
| any other | it is retried; a step writes whole or not at all, so clearing it is always safe |

Nothing waits for this DAG. It exists where the settings have a section `[words]`. To run old weeks:
`airflow backfill create --dag-id words_weekly --from-date 2024-01-01 --to-date 2024-01-29T23:59`,
or without Airflow `evergreen words --from 2024-01-01 --to 2024-01-28`.
"""

from __future__ import annotations

import os

from airflow.sdk import CronPartitionTimetable, chain, dag

from dags.common import (
    DEFAULTS,
    LAST_DAY,
    LATENESS_H,
    START,
    TIMEZONE,
    RegistryVersion,
    step,
)
from jobs.local.schedule import last_weekly_run, weekly_cron

# The run is for the week that has just ended: its partition is one tick earlier.
AFTER_THE_WEEK = CronPartitionTimetable(
    weekly_cron(TIMEZONE, LATENESS_H), timezone=TIMEZONE, run_offset=-1, key_format="%Y-%m-%d"
)


@dag(
    schedule=AFTER_THE_WEEK,
    start_date=START,
    end_date=last_weekly_run(LAST_DAY, TIMEZONE, LATENESS_H) if LAST_DAY else None,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    doc_md=__doc__,
    tags=["evergreen", "words"],
)
def words_weekly():
    chain(
        step("words_collect", spark=True),
        step("words_conversations", spark=True),
        step("words_phrases", spark=True),
        step("words_pairs", spark=True),
        step("words_train", spark=True),
        step("words_align"),
        step("words_benchmark"),
        step("words_publish", links=[RegistryVersion()]),
        step("words_post"),
    )


if os.environ.get("EVERGREEN_WEEKLY"):  # jobs/local/environment.py sets it from the settings
    words_weekly()
