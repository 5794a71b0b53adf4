"""# Daily ranker

When the embeddings of day D are published: yesterday's models are evaluated on day D before
anything trains on it; then a fresh ranker is trained on the days up to D. It becomes champion
after the next day, unless it is worse. With `ranker.retrain = "when it pays"`, the task `train` of
a day that is not worth a training ends without a model, and its log says why.

Days run one after the other: day D is judged with the champion of day D − 1. A day without
impressions is skipped. If a task fails, the champion stays; clear the task to run it again.
"""

from __future__ import annotations

from airflow.sdk import PartitionedAssetTimetable, chain, dag

from dags.common import DEFAULTS, EMBEDDINGS, START, RegistryVersion, step


@dag(
    schedule=PartitionedAssetTimetable(assets=EMBEDDINGS),
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    doc_md=__doc__,
    tags=["evergreen", "ranker"],
)
def ranker_daily():
    chain(
        step("examples", spark=True),
        step("evaluate"),
        step("train"),
        step("gate"),
        step("promote", links=[RegistryVersion()]),
    )


ranker_daily()
