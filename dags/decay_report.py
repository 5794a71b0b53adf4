"""# Decay report

Once a week, after the watch on Monday: what was lost on every day without a refresh, and what each
refresh costs. It is the report of `evergreen decay`: a page below `reports/experiments/decay`, and
a run of the MLflow experiment `decay` with the curves.

To measure other days, trigger this DAG with the parameters `from` and `to` (YYYY-MM-DD). Without
them, it takes the newest two weeks of the log. Nothing waits for it, and it changes no model,
vector or alias: **if it fails**, the loop goes on. Its log names the reason; clear the task to
measure again. It fails at once where the range has fewer than three days.

Of a closed log (`services.live = false`) it runs on demand only.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, Param, dag, task

from dags.common import DEFAULTS, LAST_DAY, LATENESS_H, START, TIMEZONE, report_decay
from jobs.local.schedule import last_run, weekly_cron

WEEKLY = CronTriggerTimetable(weekly_cron(TIMEZONE, LATENESS_H), timezone=TIMEZONE)
A_DAY = {"type": ["null", "string"], "format": "date"}


@dag(
    schedule=WEEKLY,
    start_date=START,
    end_date=last_run(LAST_DAY, TIMEZONE, LATENESS_H) if LAST_DAY else None,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    doc_md=__doc__,
    tags=["evergreen", "decay"],
    params={
        "from": Param(None, **A_DAY, description="The first day of the range."),
        "to": Param(None, **A_DAY, description="Its last day, included."),
        "seeds": Param(3, type="integer", minimum=1, description="How often each fit is repeated."),
    },
)
def decay_report():
    task(task_id="report", retries=1, retry_delay=timedelta(minutes=10))(report_decay)()


decay_report()
