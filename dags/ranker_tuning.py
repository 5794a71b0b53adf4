"""# Ranker tuning

On demand only: which options of the ranker predict the next days' labels best? What may be chosen
is in `[tuning.ranker]` of the settings; each mapped task `trial` is one trial of a shared study
(AUC of the primary label on the newest days that have examples, and pruned after a day on which it
is below the median). It is `evergreen tune ranker`, on several workers.

`begin` plans the study, and `result` prints the best options as a piece of the settings file. It
changes no setting, model or alias: a person adopts it, and the gate proves it on later days. **If a
trial fails or is killed**, it is repeated with the same options, and the study goes on; clear the
task to repeat it by hand. A second run goes on with the same study as long as the settings and the
days are the same. The pictures are in the MLflow experiment `tuning`.
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
def ranker_tuning():
    tuning("ranker")


ranker_tuning()
