"""# Daily embeddings

After midnight in the log's time zone, and `services.lateness` hours more, for the day that has just
ended: rows of the log → validated rows → matrix → vectors → one version in the registry, and the
asset `embeddings` with the day as its partition.

| if this task fails | then |
| --- | --- |
| `land` | the log's file is missing or damaged; the message names it. Fix it, clear the task |
| `validate` | the day is not trusted; the message says why. Yesterday's version keeps serving |
| `drift` | the other tasks go on; it only compares the day with those before it |
| `consistency` | a published vector depends on how it is read; the message names it |
| any other | it is retried; a step writes whole or not at all, so clearing it is always safe |

Embeddings under `[further.NAME]` in the settings are groups of tasks beside those of the first one.
If one of them fails, the first one and the ranker go on.

To run old days, one after the other: `airflow backfill create --dag-id embeddings_daily
--from-date 2022-04-25 --to-date 2022-05-06T23:59`
With `--reprocess-behavior completed`, days that have run are run again and give the same bytes.
While `make up` runs, use `evergreen airflow backfill create …`.
"""

from __future__ import annotations

from airflow.sdk import CronPartitionTimetable, TaskGroup, chain, dag

from dags.common import (
    DEFAULTS,
    EMBEDDINGS,
    FURTHER,
    LAST_DAY,
    LATENESS_H,
    START,
    TIMEZONE,
    RegistryVersion,
    step,
)
from jobs.local.schedule import daily_cron, last_run

# The run is for the day that has just ended: its partition is one tick earlier.
AFTER_THE_DAY = CronPartitionTimetable(
    daily_cron(TIMEZONE, LATENESS_H), timezone=TIMEZONE, run_offset=-1, key_format="%Y-%m-%d"
)


@dag(
    schedule=AFTER_THE_DAY,
    start_date=START,
    end_date=last_run(LAST_DAY, TIMEZONE, LATENESS_H) if LAST_DAY else None,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    doc_md=__doc__,
    tags=["evergreen", "embeddings"],
)
def embeddings_daily():
    validate = step("validate", spark=True)
    matrix = step("matrix", spark=True)
    chain(step("land", spark=True), validate, matrix)
    chain(validate, step("drift"))
    chain(matrix, *learning(outlets=[EMBEDDINGS]))
    for name in FURTHER:
        with TaskGroup(name, tooltip="A further embedding of the same matrix"):
            chain(matrix, *learning(embedding=name))


def learning(embedding: str = "", outlets=()):
    """The tasks from the matrix to a version of an embedding, in order. "": the first one."""
    return [
        step("embed", spark=True, embedding=embedding),
        step("align", embedding=embedding),
        step("fold_in", spark=True, embedding=embedding),
        step("lookalike", spark=True, embedding=embedding),
        step("benchmark", embedding=embedding),
        step("publish", embedding=embedding, outlets=outlets, links=[RegistryVersion()]),
        step("consistency", embedding=embedding, links=[RegistryVersion()]),
    ]


embeddings_daily()
