"""# Daily ranker

When the embeddings of day D are published: yesterday's models are evaluated on day D before
anything trains on it; then a fresh ranker is trained on the days up to D. It becomes champion
after the next day, unless it is worse. With `ranker.retrain = "when it pays"`, the task `train` of
a day that is not worth a training ends without a model, and its log says why.

Days run one after the other: day D is judged with the champion of day D − 1. A day without
impressions is skipped. If a task fails, the champion stays; clear the task to run it again.

With `ranker.promotion = "by hand"`, a challenger that the gate would have promoted starts a run of
`ranker_approval`, which waits for a person. The days go on meanwhile, with the champion.
"""

from __future__ import annotations

from airflow.sdk import PartitionedAssetTimetable, chain, dag, task

from dags.common import (
    BY_HAND,
    DEFAULTS,
    EMBEDDINGS,
    START,
    RegistryVersion,
    question_of,
    step,
)


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
    promoted = step("promote", links=[RegistryVersion()])
    chain(
        step("examples", spark=True),
        step("evaluate"),
        step("train"),
        step("gate"),
        promoted,
    )
    if BY_HAND:
        ask_a_person(promoted)


def ask_a_person(promoted):
    """Start the approval of what the gate would have promoted; skipped where there is nothing."""
    from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

    @task
    def ask(dag_run):
        return question_of(dag_run)

    asked = ask()
    request = TriggerDagRunOperator(
        task_id="request_approval",
        trigger_dag_id="ranker_approval",
        trigger_run_id="{{ ti.xcom_pull(task_ids='ask')['run_id'] }}",
        conf={
            name: f"{{{{ ti.xcom_pull(task_ids='ask')['{name}'] }}}}"
            for name in ("day", "model", "champion", "comparison", "run_id")
        },
        skip_when_already_exists=True,  # the day ran again, with the same decision
    )
    chain(promoted, asked, request)


ranker_daily()
