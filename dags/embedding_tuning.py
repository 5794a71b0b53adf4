"""# Embedding tuning

On demand only: which options of the embedder retrieve the next days' engagements best? What may be
chosen is in `[tuning.embedding]` of the settings; each mapped task `trial` is one trial of a shared
study (NDCG@20, on the newest days that are computed, and pruned after a day on which it is below
the median). It is `evergreen tune embedding`, on several workers.

`begin` plans the study, and `result` prints the best options as a piece of the settings file. It
changes no setting, vector or alias: a person adopts it, and later days prove it. **If a trial
fails or is killed**, it is repeated with the same options, and the study goes on; clear the task
to repeat it by hand. A second run goes on with the same study as long as the settings and the days
are the same. The pictures are in the MLflow experiment `tuning`.
"""

from __future__ import annotations

from airflow.sdk import dag

from dags.common import DEFAULTS, START, tuning


@dag(
    schedule=None,
    start_date=START,
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULTS,
    doc_md=__doc__,
    tags=["evergreen", "tuning"],
)
def embedding_tuning():
    tuning("embedding")


embedding_tuning()
