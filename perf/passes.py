"""make bench-passes: would early stopping help a ranker? What further passes and a held-out day do.

On the last days of the settings' log, each tested with the ranker of the window before it, as
`evergreen experiment ctr` does it. Early stopping needs passes to stop after, and newer rows than
those that are learned, to see when. So this measures more passes over the window, of which a rule
would choose one, and the window without its newest day, which the rule would hold out. Differences
of AUC have an interval by consumer over all days and seeds. SIZE=2 is the number of seeds. The
examples are those below home; what is missing is computed.
"""

from __future__ import annotations

import sys

import numpy as np
from rich.progress import track

from embeddings.benchmarks.auc import auc
from jobs.reports.next_day import NextDay, next_day_trials
from jobs.reports.report import select
from jobs.reports.scored import Scored, difference_rows
from jobs.reports.trials import mean_metric
from jobs.settings import load_settings
from jobs.steps.train import training_config
from models.features import Day
from models.training import predict, train
from perf.report import Figure, arguments, finish

DAYS = 2  # that are tested
BASE = "one pass"


def main() -> int:
    options = arguments(__doc__, size="2")
    seeds = range(options.seed, options.seed + int(options.size))
    scored = []
    for trial in track(list(next_day_trials(load_settings(), DAYS, lambda text: None)), "passes"):
        of_way = {}
        for way, window in windows(trial.days[:-1]).items():
            of_way[way] = [scores_of(trial, window, seed) for seed in seeds]
        scored.append(Scored(trial.data, trial.test, trial.users, trial.labels, of_way))
    figures = []
    for way in scored[0].scores:
        scores = [test.scores[way] for test in scored]
        value = mean_metric(auc, [test.labels for test in scored], scores)
        figures.append(Figure(f"{way}: AUC", float(value), ""))
    for row in select(difference_rows(scored, BASE), "test", "all"):
        for end in ("", "_low", "_high"):
            name = f"{row['kind']}: AUC less that of {BASE}{end.replace('_', ', ')}"
            figures.append(Figure(name, float(row[f"over {BASE}{end}"]), ""))
    return finish("passes", figures, options.seed)


def windows(days: list[Day]) -> dict[str, list[Day]]:
    """What is learned, in this order; the learning rate falls to zero at the end of all passes."""
    return {
        BASE: days,
        "two passes": days * 2,
        "three passes": days * 3,
        "one pass, newest day held out": days[:-1],
    }


def scores_of(trial: NextDay, window: list[Day], seed: int) -> np.ndarray:
    """(n,) of the tested label."""
    ranker = trial.settings.ranker
    cfg = training_config(ranker, seed)
    trained = train(window, trial.spec, ranker.kind, ranker.options, cfg)
    return predict(trained.model, trial.tested_rows(), trained.space)[:, trial.label]


if __name__ == "__main__":
    sys.exit(main())
