"""# Watch

Six hours after `embeddings_daily`: is the day complete that ran then, and has every published day
had its ranker? It looks at what is stored, because Airflow may lose an event.

- A published day whose ranker was never started is started now, as `ranker_daily` with that day.
- **If this task fails**, no champion has been evaluated on the newest day, and the message says
  why. Nothing stops: the other DAGs run on. When the day is complete, clear the task.

The log of the task has one line for each of the last 30 published days. While the newest day is
still running, it looks again every half hour, for two hours, before it fails. Of a closed log
(`services.live = false`) no newer day is missed. To look now, trigger this DAG with a day as its
partition key.

Beside it, `verify` reads published files, 20 GB a day (`registry.verify_gb`), and compares their
bytes with the digests that they were published with: the versions first that were not read for
longest. **If it fails**, the message names the damaged files; `evergreen verify --repair` publishes
their versions again. The registry's pages and `evergreen status` say what was found.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronPartitionTimetable, dag, task

from dags.common import DEFAULTS, LATENESS_H, START, TIMEZONE, look, verify_some
from jobs.local.schedule import watch_cron

CRON, OFFSET = watch_cron(TIMEZONE, LATENESS_H)
LATER = CronPartitionTimetable(CRON, timezone=TIMEZONE, run_offset=OFFSET, key_format="%Y-%m-%d")


@dag(
    schedule=LATER,
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    doc_md=__doc__,
    tags=["evergreen", "watch"],
)
def watch():
    task(task_id="look", retries=4, retry_delay=timedelta(minutes=30))(look)()
    task(task_id="verify")(verify_some)()


watch()
