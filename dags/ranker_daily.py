"""# Daily ranker

When the embeddings of day D are published: the models of yesterday are tested on day D before anything trains on it;
then a fresh ranker is trained on the days up to D, and becomes champion when it is not worse.

One day after the other: day D is judged with the champion of day D − 1. A day of a log without impressions is skipped.
If a task fails, the champion stays; clear the task to run it again.
"""

from __future__ import annotations

from airflow.sdk import PartitionedAssetTimetable, chain, dag

from dags.common import DEFAULTS, EMBEDDINGS, START, step


@dag(
    schedule=PartitionedAssetTimetable(assets=EMBEDDINGS),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    doc_md=__doc__,
)
def ranker_daily():
    chain(
        step("examples", spark=True), step("evaluate"), step("train"), step("gate"), step("promote")
    )


ranker_daily()
