"""Pictures of a study: which options matter, and what each trial chose."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs.plots import figure
from jobs.tuning.study import with_values

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

FEWEST = 4  # trials that a forest can learn from
LOG_FROM = 20.0  # a range whose ends differ by such a factor is drawn on a logarithmic scale


def draw(study: Study, folder: Path, metric: str) -> dict[str, float]:
    """Write importance.png and parallel.png; returns the importance of each option, if known."""
    shares = importances(study)
    if shares:
        draw_importances(shares, folder / "importance.png", metric)
    if with_values(study):
        draw_parallel(with_values(study), folder / "parallel.png", metric)
    return shares


def importances(study: Study) -> dict[str, float]:
    """The share of the variance between trials that each option explains; {} with too few trials.

    By fANOVA, on a random forest. Source: Hutter, Hoos, Leyton-Brown 2014, "An Efficient Approach
    for Assessing Hyperparameter Importance".
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    done = with_values(study)
    values = {trial.value for trial in done}
    if len(done) < FEWEST or len(values) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn, about its own options
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return dict(found)


def draw_importances(shares: dict[str, float], path: Path, metric: str) -> None:
    names = sorted(shares, key=lambda name: shares[name])
    with figure(path, f"What explains {metric}", (6.4, 1.2 + 0.4 * len(names))) as axes:
        axes.barh(names, [shares[name] for name in names])
        axes.set_xlabel("share of the variance between trials")


def draw_parallel(trials: list[FrozenTrial], path: Path, metric: str) -> None:
    """One line per trial through its options, the last axis being its value; the best on top."""
    names = list(trials[0].params)
    columns = [axis([trial.params[name] for trial in trials]) for name in names]
    values = np.array([trial.value for trial in trials], np.float64)
    places, labels = zip(*columns, axis(values.tolist()), strict=True)
    lines = np.array(places)  # (axes, trials), 0 to 1
    order = np.argsort(values)
    rank = np.empty(len(order))
    rank[order] = np.linspace(0, 1, len(order))
    with figure(path, f"{len(trials)} trials", (1.6 + 1.5 * len(lines), 4.0)) as axes:
        from matplotlib import colormaps

        shades = colormaps["viridis_r"]
        for number in order:
            width = 2.5 if number == order[-1] else 1.0
            axes.plot(lines[:, number], color=shades(rank[number]), linewidth=width)
        for at, ends in enumerate(labels):
            for height, text in ends:
                axes.annotate(text, (at, height), fontsize=8, ha="center", va="center")
        axes.set_xticks(range(len(lines)), [*names, metric], rotation=20)
        axes.set_ylim(-0.12, 1.12)
        axes.set_yticks([])


def axis(values: list[Any]) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Where each value lies on an axis from 0 to 1, (trials,), and the labels with their places."""
    if any(isinstance(value, str | bool) for value in values):
        kinds = sorted({str(value) for value in values})
        step = 1 / max(len(kinds) - 1, 1)
        at = {kind: number * step for number, kind in enumerate(kinds)}
        return np.array([at[str(value)] for value in values]), [(at[k], k) for k in kinds]
    numbers = np.array(values, np.float64)
    low, high = numbers.min(), numbers.max()
    ends = [(-0.06, f"{low:.3g}"), (1.06, f"{high:.3g}")]
    if low > 0 and high >= LOG_FROM * low:
        numbers, low, high = np.log(numbers), np.log(low), np.log(high)
    return (numbers - low) / max(high - low, 1e-12), ends
