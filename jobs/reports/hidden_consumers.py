"""Consumers that are hidden from the fit and folded in: how much of the fitted gain is kept.

Every consumer is hidden once: N_FOLDS fits leave out one fold each. A gain is measured over a
ranking without vectors; a share of 1 means that folding in costs nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from embeddings.benchmarks.intervals import mean_estimates, share_of_gain
from embeddings.benchmarks.metrics import rank
from embeddings.benchmarks.splits import Split, fold_numbers
from jobs.plots import panels
from jobs.reports.daily_log import Log, days_of
from jobs.reports.daily_versions import (
    Version,
    align,
    compared_methods,
    daily_versions,
    fit_version,
)
from jobs.reports.frozen_rankers import RankingDays, ScoredRows
from jobs.reports.methods import LABELS, Method
from jobs.reports.report import ReportProgress, Row, column_of, distinct, select
from jobs.settings import Settings

TOP = 20  # of NDCG
N_FOLDS = 5
START = 8  # days with impressions that the ranker is trained on
MIN_CONSUMERS = 30  # a smaller group is left out of the tables
GROUP_STARTS = (1, 5, 10, 20, 50)  # engagements of a consumer; a group ends where the next begins
NONE = "no vectors"
FITTED = "fitted"
FOLDED = "folded"
SHOWN_SHARES = (0.5, 1.5)  # the y axis of the picture; intervals may exceed it


def groups(engagements: np.ndarray) -> dict[str, np.ndarray]:
    """All consumers, and groups by number of engagements. engagements: (n,). Name -> (n,) bool."""
    members = {"all": np.ones(len(engagements), bool)}
    for start, end in zip(GROUP_STARTS, [*GROUP_STARTS[1:], np.inf], strict=True):
        name = f"{start}–{end - 1:.0f}" if end < np.inf else f"≥ {start}"
        members[name] = (engagements >= start) & (engagements < end)
    return members


# NDCG


def ndcg_rows(
    data: str, method: Method, split: Split, evaluated: np.ndarray, seed: int
) -> list[Row]:
    """NDCG@TOP of held-out engagements, by popularity, by fitted and by folded-in vectors.

    evaluated: (rows,) row numbers of the consumers. One row per group of consumers.
    """
    popularity = np.bincount(split.train.indices, minlength=split.train.shape[1])
    seen = (split.train + split.validation)[evaluated]
    relevant = split.test[evaluated]
    model = method.fit(split.train, seed)
    fitted = model.consumers[evaluated]
    values = {
        NONE: rank(np.zeros_like(fitted), model.targets, seen, relevant, popularity).ndcg(TOP),
        FITTED: rank(fitted, model.targets, seen, relevant, popularity).ndcg(TOP),
        FOLDED: np.empty(len(evaluated)),
    }
    fold = fold_numbers(split.train.shape[0], N_FOLDS, seed)
    for number in range(N_FOLDS):
        hidden = fold[evaluated] == number
        model = method.fit(split.train[fold != number], seed)
        vectors = model.fold_in.fold(split.train[evaluated[hidden]])
        ranking = rank(vectors, model.targets, seen[hidden], relevant[hidden], popularity)
        values[FOLDED][hidden] = ranking.ndcg(TOP)
    rows = []
    for group, members in groups(np.diff(split.train.indptr)[evaluated]).items():
        if members.sum() < MIN_CONSUMERS:
            continue
        row: Row = {"data": data, "method": method.name, "engagements": group}
        row["consumers"] = int(members.sum())
        for way, by_consumer in values.items():
            row[way] = float(by_consumer[members].mean())
        # Gains by consumer instead of differences of means: a resample without any gain then sums
        # to exactly zero, so that its share is undefined and not a huge number.
        by_way = {}
        for way in (FITTED, FOLDED):
            by_way[way] = (values[way] - values[NONE])[members]
        gains = mean_estimates(by_way, seed)
        share = gains[FOLDED] / gains[FITTED]
        row |= share.fields("share")
        rows.append(row)
    return rows


# The AUC of a ranker


def n_auc_steps(settings: Settings) -> int:
    """How often `auc_rows` reports progress."""
    return 1 + len(compared_methods(settings)) * (len(days_of(settings)) + N_FOLDS)


def auc_rows(log: Log, settings: Settings, seed: int, progress: ReportProgress) -> list[Row]:
    """Next-day AUC of a ranker trained on fitted vectors, and served fitted or folded-in ones.

    One row per method and group of consumers.
    """
    days = RankingDays.from_log(log, settings, seed, START)
    progress("a ranker without vectors")
    baseline = days.scores_without_vectors(START)
    rows = []
    for method in compared_methods(settings):
        versions = align(daily_versions(log, method, settings, seed, progress))
        scored, engagements = score_hidden(days, method, versions, baseline, progress)
        for group, members in groups(engagements).items():
            n_consumers = len(np.unique(scored.consumers[members]))
            if n_consumers < MIN_CONSUMERS:
                continue
            aucs = scored.where(members).aucs(seed)
            row: Row = {"method": method.name, "engagements": group}
            row["rows"] = int(members.sum())
            row["consumers"] = n_consumers
            for way, auc in aucs.items():
                row[way] = auc.value
            share = share_of_gain(aucs[FOLDED], aucs[FITTED], aucs[NONE])
            row |= share.fields("share")
            rows.append(row)
    return rows


def score_hidden(
    days: RankingDays,
    method: Method,
    versions: list[Version],
    baseline: dict[int, np.ndarray],
    progress: ReportProgress,
) -> tuple[ScoredRows, np.ndarray]:
    """The later days' rows of fitted consumers, scored in three ways, and their engagements, (n,).

    To be scored as folded in, a consumer has the vector of a version that was fitted without it and
    aligned like the others. versions: by day number, aligned; baseline: day number -> scores
    without vectors.
    """
    log = days.log
    progress(f"{method.name}: a ranker on fitted vectors")
    ranker = days.train_ranker(START, versions)
    examples = {}
    folded_scores = {}
    for number in days.days_after(START):
        examples[number] = days.examples(number, versions[number - 1])
        folded_scores[number] = np.zeros(len(examples[number]))
    fold = fold_numbers(log.shape[0], N_FOLDS, days.seed)
    for hidden_fold in range(N_FOLDS):
        progress(f"{method.name}: hidden consumers, round {hidden_fold + 1} of {N_FOLDS}")
        for number, day in examples.items():
            without = fit_version(
                log, number - 1, method, days.settings, days.seed + number, fold == hidden_fold
            )
            scores = ranker.score(days.examples(number, without.aligned_to(versions[number - 1])))
            hidden = fold[day.consumer_rows] == hidden_fold
            folded_scores[number][hidden] = scores[hidden]
    parts = []
    engagements = []
    for number, day in examples.items():
        scores_by_way = {
            NONE: baseline[number],
            FITTED: ranker.score(day),
            FOLDED: folded_scores[number],
        }
        scored = ScoredRows(day.consumer_rows, day.labels[:, 0], scores_by_way)
        fitted = by_row(versions[number - 1].fitted, day.consumer_rows) > 0
        parts.append(scored.where(fitted))
        _, events = log.window(number - 1, days.settings.matrix)
        engagements.append(by_row(events, day.consumer_rows)[fitted])
    return ScoredRows.concatenated(parts), np.concatenate(engagements)


def by_row(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """values[rows], but 0 where a row is −1. values: (n,)."""
    return np.where(rows >= 0, values[rows], 0)


# The picture


def draw(path: Path, by_ndcg: list[Row], by_auc: list[Row]) -> None:
    """The share of the gain that is kept, by number of engagements.

    One panel per data set for NDCG, and one for the ranker's AUC.
    """
    panel_rows = {}
    for name in distinct(by_ndcg, "data"):
        panel_rows[f"{name}, NDCG@{TOP}"] = select(by_ndcg, "data", name)
    panel_rows["a ranker's next-day AUC"] = by_auc
    with panels(path, list(panel_rows)) as all_axes:
        for axes, rows in zip(all_axes, panel_rows.values(), strict=True):
            draw_shares(axes, rows)
        all_axes[0].set_ylabel("share of the gain that is kept")
        all_axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))


def draw_shares(axes, rows: list[Row]) -> None:
    """One dot per method and group, with its interval."""
    names = distinct(rows, "engagements")
    for place, (method, label) in enumerate(LABELS.items()):
        chosen = select(rows, "method", method)
        group_numbers = np.array([names.index(str(row["engagements"])) for row in chosen])
        x = group_numbers + 0.2 * (place - 1)  # beside one another, so that the dots stay apart
        dots = axes.plot(x, column_of(chosen, "share"), "o", markersize=4, label=label)
        # Lines, not error bars: the interval of a ratio need not contain the ratio.
        low = column_of(chosen, "share_low")
        high = column_of(chosen, "share_high")
        axes.vlines(x, low, high, color=dots[0].get_color())
    axes.axhline(1, color="black", linewidth=1)
    axes.set(
        xlabel="engagements of the consumer",
        xticks=range(len(names)),
        xticklabels=names,
        ylim=SHOWN_SHARES,
    )
