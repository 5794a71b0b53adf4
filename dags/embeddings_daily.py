"""# Daily embeddings

Yesterday's log, at midnight → clean rows → matrix → vectors → one version in the registry, and the asset `embeddings`
with the day as its partition.

| if this fails | then |
| --- | --- |
| `land` | the log's file is missing or damaged; the message names it. Mend it and clear the task |
| `validate` | the day cannot be trusted; the message names the expectation. Yesterday's version keeps serving |
| any other | it is tried again by itself; a step writes whole or not at all, so clearing it is always safe |

Old days, each after the one before it:
`airflow backfill create --dag-id embeddings_daily --from-date 2022-04-25 --to-date 2022-05-06 --max-active-runs 1`
With `--reprocess-behavior completed` days that have run are run again, and give the same bytes. While `make up` runs,
say `evergreen airflow backfill create …`.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import CronPartitionTimetable, chain, dag

from dags.common import DEFAULTS, EMBEDDINGS, LAST_DAY, START, step

# The run of midnight is for the day that has just ended: the partition lies one tick before it.
AFTER_THE_DAY = CronPartitionTimetable(
    "0 0 * * *", timezone="UTC", run_offset=-1, key_format="%Y-%m-%d"
)


@dag(
    schedule=AFTER_THE_DAY,
    start_date=START,
    end_date=datetime.fromisoformat(LAST_DAY) if LAST_DAY else None,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    doc_md=__doc__,
)
def embeddings_daily():
    chain(
        step("land", spark=True),
        step("validate", spark=True),
        step("matrix", spark=True),
        step("embed", spark=True),
        step("align"),
        step("fold_in", spark=True),
        step("lookalike", spark=True),
        step("publish", outlets=[EMBEDDINGS]),
    )


embeddings_daily()
