"""make bench-negatives: what a ranker loses that is trained on a share of the negatives.

On the last days of the settings' log, each tested with the ranker of the days before it, as
`evergreen experiment ctr` does it: with all labels of the log, of which the primary one is tested,
and with one rare label alone, as on a log with few positives. CPU time is that of training on rows
in memory. Differences of AUC have an interval by consumer over all days and seeds. SIZE=3 is the
number of seeds. The examples are those below home; what is missing is computed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from rich.progress import track

from embeddings.benchmarks.auc import auc
from jobs.reports.next_day import NextDay, next_day_trials
from jobs.reports.report import select
from jobs.reports.scored import Scored, difference_rows
from jobs.settings import RankerSettings, load_settings
from jobs.steps.train import training_config
from models.calibration import ece
from models.features import Day, FeatureSpec
from models.metrics import log_loss
from models.training import predict, train
from perf.report import Figure, arguments, finish

SHARES = (1.0, 0.5, 0.25, 0.1)  # of the negatives; the first is what the others are compared with
RARE = "label_like"
DAYS = 4  # that are tested


@dataclass(frozen=True)
class Test:
    """One tested day with some of its labels: those that are learned, and the column of one."""

    days: list[Day]  # the tested one is the last
    spec: FeatureSpec
    label: int
    users: np.ndarray  # (n,) of the tested rows


@dataclass
class Found:
    """Of one share, over all tests and seeds. scores: test -> of every seed."""

    rows: int = 0
    seconds: float = 0.0
    scores: dict[int, list[np.ndarray]] = field(default_factory=dict)


def main() -> int:
    options = arguments(__doc__, size="3")
    seeds = range(options.seed, options.seed + int(options.size))
    settings = load_settings()
    trials = list(next_day_trials(settings, DAYS, lambda text: None))
    figures: list[Figure] = []
    for name, tests in cases(trials, settings.ranker.primary_label):
        found = {}
        for share in track(SHARES, name):
            ranker = settings.ranker.model_copy(update={"negatives_kept": share})
            found[share] = measured(tests, ranker, seeds)
        figures += figures_of(name, tests, found)
    return finish("negatives", figures, options.seed)


def cases(trials: list[NextDay], primary: str) -> Iterator[tuple[str, list[Test]]]:
    """The tests with all labels, and those with the rare one alone."""
    whole = [Test(trial.days, trial.spec, trial.label, trial.users) for trial in trials]
    yield f"all labels, {primary}", whole
    alone = []
    for trial in trials:
        column = trial.spec.labels.index(RARE)
        days = [replace(day, labels=day.labels[:, [column]]) for day in trial.days]
        alone.append(Test(days, replace(trial.spec, labels=(RARE,)), 0, trial.users))
    yield f"{RARE.removeprefix('label_')} alone", alone


def measured(tests: list[Test], ranker: RankerSettings, seeds: range) -> Found:
    """Train and test on every day with every seed."""
    found = Found()
    for number, test in enumerate(tests):
        *days, tested = test.days
        for seed in seeds:
            started = time.process_time()
            cfg = training_config(ranker, seed)
            trained = train(days, test.spec, ranker.kind, ranker.options, cfg)
            found.seconds += time.process_time() - started
            found.rows += trained.rows
            scores = predict(trained.model, tested, trained.space)[:, test.label]
            found.scores.setdefault(number, []).append(scores)
    return found


def figures_of(name: str, tests: list[Test], found: dict[float, Found]) -> list[Figure]:
    """The figures of every share: means over days and seeds, and the difference to the first."""
    scored = []
    for number, test in enumerate(tests):
        labels = test.days[-1].labels[:, test.label]
        scores = {f"{share:g}": of_share.scores[number] for share, of_share in found.items()}
        scored.append(Scored(name, str(number), test.users, labels, scores))
    base = f"{SHARES[0]:g}"
    differences = select(difference_rows(scored, base), "test", "all")
    figures = []
    for share, of_share in found.items():
        values = {
            "rows trained on": (of_share.rows, "rows"),
            "CPU": (of_share.seconds, "s"),
            "AUC": (mean_of(auc, scored, share), ""),
            "log loss": (mean_of(log_loss, scored, share), "nats"),
            "predicted over true rate": (mean_of(rate_ratio, scored, share), "×"),
            "ECE": (mean_of(ece, scored, share), ""),
        }
        for row in select(differences, "kind", f"{share:g}"):
            values["AUC less that of all rows"] = (float(row[f"over {base}"]), "")
            values["from"] = (float(row[f"over {base}_low"]), "")
            values["to"] = (float(row[f"over {base}_high"]), "")
        for what, (value, unit) in values.items():
            figures.append(Figure(f"{name}, {share:g} of the negatives: {what}", value, unit))
    return figures


def mean_of(figure, scored: list[Scored], share: float) -> float:
    """The mean of a figure of labels and scores over all tests and seeds."""
    values = []
    for test in scored:
        values += [figure(test.labels, scores) for scores in test.scores[f"{share:g}"]]
    return float(np.mean(values))


def rate_ratio(labels: np.ndarray, scores: np.ndarray) -> float:
    """The mean probability over the share of positives."""
    return float(scores.mean(dtype=np.float64) / labels.mean())


if __name__ == "__main__":
    sys.exit(main())
