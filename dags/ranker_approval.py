"""# Approval of a ranker

With `ranker.promotion = "by hand"`, a day whose challenger the gate would have promoted starts a
run here. The task `approve` shows the comparison and waits for a person, a week at most; without an
answer nothing changes. After an approval the model serves from the newest decided day on; where
another model has become champion meanwhile, `promote` fails and says so.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import chain, dag, task

from dags.common import BY_HAND, DEFAULTS, START, promote_approved

PATIENCE = timedelta(days=7)


@dag(
    schedule=None,
    start_date=START,
    default_args=DEFAULTS,
    doc_md=__doc__,
    tags=["evergreen", "ranker"],
)
def ranker_approval():
    approve = ApprovalOperator(
        task_id="approve",
        subject="Shall the ranker of {{ dag_run.conf['model'] }} serve?",
        body="{{ dag_run.conf['comparison'] }}",
        defaults=ApprovalOperator.REJECT,
        response_timeout=PATIENCE,
    )

    @task
    def promote(dag_run, ti):
        return promote_approved(dag_run.conf, ti.xcom_pull(task_ids="approve"))

    chain(approve, promote())


if BY_HAND:
    ranker_approval()
