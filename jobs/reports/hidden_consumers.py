"""Consumers hidden from the fit and folded in from their engagements: what is kept of what fitted vectors gain.

Every consumer is hidden once: in FOLDS rounds a FOLDS-th of them is left out of the fit. The gain is over a ranking
without vectors; a share of 1 says that folding in costs nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jobs.reports.daily_log import Log, days_of
from jobs.reports.frozen_rankers import Course, Judged, by_row
from jobs.reports.methods import LABELS, Method
from jobs.reports.metrics import FEWEST, Split, gain_share, ndcg
from jobs.reports.report import Row, panels
from jobs.reports.versions import Tell, Version, aligned, compared, daily_versions, version
from jobs.settings import Settings

FOLDS = 5
START = 8  # days with impressions that the ranker is trained on
LEAST = (1, 5, 10, 20, 50)  # engagements of the consumer; each group reaches to the next
NONE, FITTED, FOLDED = "no vectors", "fitted", "folded"
SHOWN = (0.5, 1.5)  # shares in the picture; an interval may reach beyond


def folds(n: int, seed: int) -> np.ndarray:
    """(n,) in which round a consumer is hidden, 0 … FOLDS − 1, evenly."""
    return np.random.default_rng(seed).permutation(n) % FOLDS


def groups(engagements: np.ndarray) -> dict[str, np.ndarray]:
    """Everybody, and by number of engagements. engagements: (n,). Returns name -> (n,) bool."""
    found = {"all": np.ones(len(engagements), bool)}
    for least, beyond in zip(LEAST, [*LEAST[1:], np.inf], strict=True):
        name = f"{least}–{beyond - 1:.0f}" if beyond < np.inf else f"≥ {least}"
        found[name] = (engagements >= least) & (engagements < beyond)
    return found


# By NDCG


def ndcg_rows(data: str, method: Method, parts: Split, judged: np.ndarray, seed: int) -> list[Row]:
    """NDCG@20 of held-out engagements: by popularity, by fitted vectors, by folded-in ones. judged: (rows,) who."""
    popularity = np.bincount(parts.train.indices, minlength=parts.train.shape[1])
    seen, wanted = (parts.train + parts.validation)[judged], parts.test[judged]
    whole = method.fit(parts.train, seed)
    fitted = ndcg(whole.consumers[judged], whole.targets, popularity, seen, wanted)
    none = ndcg(np.zeros_like(whole.consumers[judged]), whole.targets, popularity, seen, wanted)
    folded, fold = np.empty(len(judged)), folds(parts.train.shape[0], seed)
    for number in range(FOLDS):
        mine = fold[judged] == number
        model = method.fit(parts.train[fold != number], seed)
        vectors = model.fold_in.fold(parts.train[judged[mine]])
        folded[mine] = ndcg(vectors, model.targets, popularity, seen[mine], wanted[mine])
    rows = []
    for group, members in groups(np.diff(parts.train.indptr)[judged]).items():
        if members.sum() < FEWEST:
            continue
        row: Row = {
            "data": data,
            "method": method.name,
            "engagements": group,
            "consumers": int(members.sum()),
        }
        row |= {
            way: float(v[members].mean())
            for way, v in ((NONE, none), (FITTED, fitted), (FOLDED, folded))
        }
        row |= gain_share(none[members], fitted[members], folded[members], seed).fields("share")
        rows.append(row)
    return rows


# By the AUC of a ranker


def steps(settings: Settings) -> int:
    """How often `auc_rows` tells."""
    return 1 + len(compared(settings)) * (len(days_of(settings)) + FOLDS)


def auc_rows(log: Log, settings: Settings, seed: int, tell: Tell) -> list[Row]:
    """Next-day AUC of a ranker trained on fitted vectors, on consumers that were fitted and on the same ones hidden."""
    course = Course.of(log, settings, seed, START)
    tell("a ranker without vectors")
    blind = course.blind_scores(START)
    rows = []
    for method in compared(settings):
        versions = aligned(daily_versions(log, method, settings, seed, tell))
        judged, engagements = ranked_hidden(course, method, versions, blind, tell)
        for group, members in groups(engagements).items():
            consumers = len(np.unique(judged.consumers[members]))
            if consumers < FEWEST:
                continue
            found = judged.where(members).aucs(seed)
            row: Row = {
                "method": method.name,
                "engagements": group,
                "rows": int(members.sum()),
                "consumers": consumers,
            }
            row |= {way: found.values[way] for way in (NONE, FITTED, FOLDED)}
            row |= found.share(FOLDED, FITTED, NONE).fields("share")
            rows.append(row)
    return rows


def ranked_hidden(
    course: Course,
    method: Method,
    versions: list[Version],
    blind: dict[int, np.ndarray],
    tell: Tell,
) -> tuple[Judged, np.ndarray]:
    """The later days' rows of fitted consumers, ranked in three ways, and how many engagements each consumer had.

    Hidden, a consumer is served by a version fitted without it, aligned like every other.
    """
    tell(f"{method.name}: a ranker on fitted vectors")
    ranker = course.ranker(START, versions)
    days = {number: course.day(number, versions[number - 1]) for number in course.later(START)}
    folded = {number: np.zeros(len(day)) for number, day in days.items()}
    fold = folds(course.log.shape[0], course.seed)
    for hidden in range(FOLDS):
        tell(f"{method.name}: hidden consumers, round {hidden + 1} of {FOLDS}")
        for number, day in days.items():
            left = version(
                course.log,
                number - 1,
                method,
                course.settings,
                course.seed + number,
                fold == hidden,
            )
            mine = fold[day.consumer_rows] == hidden
            folded[number][mine] = ranker.score(course.day(number, left.aligned_to(versions[0])))[
                mine
            ]
    parts, engagements = [], []
    for number, day in days.items():
        fitted = by_row(versions[number - 1].fitted, day.consumer_rows) > 0
        scores = {NONE: blind[number], FITTED: ranker.score(day), FOLDED: folded[number]}
        parts.append(Judged(day.consumer_rows, day.labels[:, 0], scores).where(fitted))
        _, events = course.log.window(number - 1, course.settings.matrix)
        engagements.append(by_row(events, day.consumer_rows)[fitted])
    return Judged.joined(parts), np.concatenate(engagements)


# What is seen


def draw(path: Path, by_ndcg: list[Row], by_auc: list[Row]) -> None:
    """The share of the gain that is kept, by number of engagements; a panel a data set, and one for the ranker."""
    panel_rows = {
        f"{name}, NDCG@20": [row for row in by_ndcg if row["data"] == name]
        for name in data_sets(by_ndcg)
    }
    panel_rows["a ranker's next-day AUC"] = by_auc
    with panels(path, list(panel_rows)) as axes:
        for one, rows in zip(axes, panel_rows.values(), strict=True):
            names = list(dict.fromkeys(str(row["engagements"]) for row in rows))
            for place, (method, label) in enumerate(LABELS.items()):
                chosen = [row for row in rows if row["method"] == method]
                x = np.array([names.index(str(row["engagements"])) for row in chosen]) + 0.2 * (
                    place - 1
                )
                share, low, high = (
                    np.array([row[name] for row in chosen], dtype=np.float64)
                    for name in ("share", "share_low", "share_high")
                )
                dots = one.plot(x, share, "o", markersize=4, label=label)
                one.vlines(
                    x, low, high, color=dots[0].get_color()
                )  # a ratio's interval need not hold the ratio
            one.axhline(1, color="black", linewidth=1)
            one.set(
                xlabel="engagements of the consumer",
                xticks=range(len(names)),
                xticklabels=names,
                ylim=SHOWN,
            )
        axes[0].set_ylabel("share of the gain that is kept")
        axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))


def data_sets(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(str(row["data"]) for row in rows))
