"""What was measured, as sections of the report: sentences, pictures, tables."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from jobs.reports.decay import budget, rankers, refresh, retrieval, words
from jobs.reports.decay.page import Section, Table
from jobs.reports.decay.pictures import (
    draw_curves,
    draw_losses,
    draw_matrix,
    draw_windows,
)
from jobs.reports.report import Report, Row, cell, select

DELTAS = (0.0005, 0.001, 0.002, 0.005, 0.01)  # of AUC, in the replay of the budget rule


def age_shown(oldest: int) -> int:
    """The age that sentences are about."""
    return min(words.WEEK, oldest)


def table_of(rows: list[Row], columns: Iterable[str]) -> Table:
    """Some columns as texts, each with its interval."""
    header = [name for name in columns if any(name in row for row in rows)]
    return Table(header, [[cell(row, name) for name in header] for row in rows])


# Retrieval


def retrieval_sentence(found: retrieval.Measured, oldest: int) -> str:
    age = age_shown(oldest)
    fresh = found.ways[retrieval.STALE, 0]["ndcg"]
    stale = found.ways[retrieval.STALE, age]["ndcg"]
    folded = found.ways[retrieval.FOLDED, age]["ndcg"]
    loss = fresh - stale
    cost = found.seconds["fold in"] / max(found.seconds["refit"], 1e-9)
    share = (folded - stale) / loss
    remedy = words.Remedy("folding in the consumers from fresh engagements", share, cost)
    return words.sentence(age, loss, "next-day NDCG@20", words.Whole("it", fresh.value), remedy)


def retrieval_section(report: Report, found: retrieval.Measured, oldest: int) -> Section:
    age = age_shown(oldest)
    equal = found.ways[retrieval.EQUAL, age]["ndcg"]
    stale = found.ways[retrieval.STALE, age]["ndcg"]
    popular = found.ways[retrieval.POPULAR, 0]["ndcg"]
    ageing = words.difference(equal - stale, "NDCG@20")
    findings = [
        f"Against vectors learned from as many, but the newest engagements, after "
        f"{words.days(age)} {ageing}: that is ageing; the rest is fewer data.",
        f"Fresh popularity alone reaches {words.number(popular)}.",
    ]
    curve = report.picture("retrieval")
    title = "Next-day retrieval by the age of the vectors"
    draw_curves(curve, title, found.curve, "way", "ndcg_20", "NDCG@20 of the next day")
    matrix = report.picture("retrieval-matrix")
    draw_matrix(matrix, "NDCG@20 of every version on every later day", found.matrix, "ndcg_20", 3)
    columns = ("way", "age", "engagements", "ndcg_20", "ndcg_20_lost", "recall_20")
    return Section(
        "Retrieval: the next day's engagements by older and older vectors",
        findings,
        [curve, matrix],
        [table_of(found.curve, columns)],
    )


def quick_section(report: Report, rows: list[Row], name: str) -> Section:
    """One curve of what the loop has stored."""
    what = name.partition("@")[0].lower()
    curve = report.picture(what)
    title = f"{name} of the next day by age"
    draw_curves(curve, title, rows, "metric", "value", name)
    return Section(title, [], [curve], [table_of(rows, ("age", "value", "lost"))])


# Rankers


def ranker_sentence(found: rankers.Measured, curves: rankers.Curves) -> str:
    age = age_shown(found.plan.oldest)
    label = next(iter(found.days.labels))
    aucs = curves[label, "auc"]
    loss = aucs[rankers.OLD, 0] - aucs[rankers.OLD, age]
    drift = aucs[rankers.EQUAL, age] - aucs[rankers.OLD, age]
    text = (
        f"A ranker that has not been retrained for {words.days(age)}, with fresh embeddings and "
        f"counts: {words.difference(loss, f'the AUC of {label}')}"
    )
    if words.is_loss(loss):
        text += f"; at equal volume {words.difference(drift, 'it')}, which is drift"
    return f"{text}."


def ranker_section(report: Report, found: rankers.Measured, curves: rankers.Curves) -> Section:
    rows = rankers.curve_rows(found, curves)
    labels = list(found.days.labels)
    tables = []
    for label in labels:
        tables.append([row for row in select(rows, "label", label) if row["line"] == rankers.OLD])
    curve = report.picture("ranker")
    titles = [f"AUC of {label}" for label in labels]
    draw_losses(curve, titles, tables, "AUC lost")
    cells = rankers.matrix_rows(found)
    frozen = rankers.frozen_rows(found)
    matrix = report.picture("ranker-matrix")
    draw_matrix(matrix, f"AUC of {labels[0]}: every ranker, every later day", cells, "auc", 3)
    report.table("ranker", rows)
    report.table("ranker-matrix", cells)
    report.table("ranker-frozen", frozen)
    columns = ("label", "line", "age", "rows")
    figures = ("auc", "auc_lost", "auc_drift", "log_loss", "log_loss_lost", "rce", "rce_lost")
    found_tables = [table_of(rows, (*columns, *figures))]
    if frozen:
        shown = ("start", "age", "tested", "frozen", "retrained", "lost")
        found_tables.append(table_of(frozen, shown))
    return Section(
        "Ranker: frozen against retrained daily",
        [ranker_sentence(found, curves)],
        [curve, matrix],
        found_tables,
    )


# Embeddings of a frozen ranker


def refresh_sentence(found: refresh.Measured) -> str:
    age = age_shown(found.plan.oldest)
    fresh = found.aucs[refresh.FRESH, age]
    loss = fresh - found.aucs[refresh.FROZEN, age]
    seconds = refresh.seconds(found)
    cost = seconds[refresh.ALIGNED] / max(seconds[refresh.FRESH], 1e-9)
    remedy = words.Remedy("refreshing the embeddings", refresh.won_back(found, age), cost)
    return words.sentence(age, loss, "next-day AUC", words.Whole.of_auc(fresh.value), remedy)


def refresh_section(report: Report, found: refresh.Measured) -> Section:
    age = age_shown(found.plan.oldest)
    frozen = found.aucs[refresh.FROZEN, age]
    unaligned = found.aucs[refresh.UNALIGNED, age]
    rows = refresh.curve_rows(found)
    report.table("refresh", rows)
    curve = report.picture("refresh")
    title = "What refreshing the embeddings buys a frozen ranker"
    draw_curves(curve, title, rows, "way", "auc", "AUC of the next day")
    findings = [
        "Rankers of profile, context and vectors alone, without ids and counts, which would hide "
        "what the vectors contribute.",
        f"Refreshed without alignment: against the frozen vectors, after {words.days(age)} "
        f"{words.difference(frozen - unaligned, 'AUC')}.",
    ]
    columns = ("way", "age", "auc", "auc_lost")
    return Section(
        f"{title}, and what alignment is for", findings, [curve], [table_of(rows, columns)]
    )


# Windows


def windows_section(
    report: Report, of_retrieval: list[Row], of_rankers: list[Row], label: str
) -> Section | None:
    """Fresh vectors and rankers of shorter windows; None where there is no shorter one."""
    shown = {}
    tables = []
    findings = []
    if of_retrieval:
        shown["NDCG@20 of fresh vectors"] = (of_retrieval, "ndcg_20")
        report.table("retrieval-windows", of_retrieval)
        tables.append(table_of(of_retrieval, ("window", "ndcg_20", "ndcg_20_lost")))
        findings.append(best_window(of_retrieval, "ndcg_20", "vectors"))
    primary = select(of_rankers, "label", label)
    if len(primary) > 1:
        shown[f"AUC of {label} of a fresh ranker"] = (primary, "auc")
        report.table("ranker-windows", of_rankers)
        tables.append(table_of(primary, ("window", "auc", "auc_lost")))
        findings.append(best_window(primary, "auc", "rankers"))
    if not shown:
        return None
    picture = report.picture("windows")
    draw_windows(picture, shown)
    return Section("How much history helps, or hurts", findings, [picture], tables)


def best_window(rows: list[Row], value: str, what: str) -> str:
    """Does a shorter window beat the whole one beyond its interval? The last row is the whole."""
    better = [row for row in rows[:-1] if float(row[f"{value}_lost_high"]) < 0]
    if not better:
        return f"Fresh {what}: no shorter window is better beyond its interval."
    best = max(better, key=lambda row: float(row[value]))
    return (
        f"Fresh {what} of the newest {best['window']} days are better than those of the whole "
        f"window: more history hurts here, {value} {cell(best, value)} against "
        f"{cell(rows[-1], value)}."
    )


# Costs


def cost_rows(
    of_retrieval: retrieval.Measured,
    oldest: int,
    of_rankers: rankers.Measured | None,
    curves: rankers.Curves,
    refreshed: refresh.Measured | None,
) -> list[Row]:
    """What a day's refresh costs in CPU seconds and bytes, beside what it wins after a week."""
    rows: list[Row] = []
    age = age_shown(oldest)
    ways = of_retrieval.ways
    stale = ways[retrieval.STALE, age]["ndcg"]
    for name, key, refreshed_to in (
        ("fit the vectors again", "refit", ways[retrieval.STALE, 0]["ndcg"]),
        ("fold in the consumers alone", "fold in", ways[retrieval.FOLDED, age]["ndcg"]),
    ):
        row: Row = {"refresh": name, "metric": "NDCG@20", "age": age}
        row |= (refreshed_to - stale).fields("wins")
        row |= {"cpu_s": of_retrieval.seconds[key], "bytes": of_retrieval.bytes[key]}
        rows.append(row)
    if of_rankers is not None:
        age = age_shown(of_rankers.plan.oldest)
        aucs = curves[next(iter(of_rankers.days.labels)), "auc"]
        row = {"refresh": "train the ranker again", "metric": "AUC", "age": age}
        row |= (aucs[rankers.OLD, 0] - aucs[rankers.OLD, age]).fields("wins")
        seconds, n_bytes = rankers.costs(of_rankers)
        rows.append(row | {"cpu_s": seconds, "bytes": n_bytes})
    if refreshed is not None:
        age = age_shown(refreshed.plan.oldest)
        frozen = refreshed.aucs[refresh.FROZEN, age]
        for way, seconds in refresh.seconds(refreshed).items():
            row = {"refresh": f"{way}, small ranker", "metric": "AUC", "age": age}
            row |= (refreshed.aucs[way, age] - frozen).fields("wins")
            rows.append(row | {"cpu_s": seconds})
    return rows


def cost_section(report: Report, rows: list[Row]) -> Section:
    report.table("costs", rows)
    shown = []
    for row in rows:
        wins = cell(row, "wins")
        written = words.size(float(row["bytes"])) if "bytes" in row else ""
        seconds = f"{float(row['cpu_s']):.2f}"
        shown.append(
            [str(row["refresh"]), str(row["metric"]), str(row["age"]), wins, seconds, written]
        )
    header = ["refresh, once a day", "metric", "age", "wins", "CPU seconds", "bytes written"]
    findings = [
        "What each refresh wins over none for so many days, beside what it costs every day. CPU "
        "seconds are of this machine and of the fits alone: landing, validating and publishing a "
        "day may take longer than all of them."
    ]
    return Section("What it costs", findings, [], [Table(header, shown)])


# The budget rule


def budget_rows(found: rankers.Measured) -> list[Row]:
    """The replay of the rule for every δ: what it saves, and what it loses."""
    days = found.days.days
    cells = rankers.cell_means(found)
    seconds, _ = rankers.costs(found)
    tests = list(range(1, len(days)))
    label = next(iter(found.days.labels))
    scores: rankers.Scores = {
        "daily": rankers.served_scores(found, {test: test - 1 for test in tests})
    }
    replays = [budget.replay(cells, days, delta) for delta in DELTAS]
    for replay in replays:
        scores[replay.delta] = rankers.served_scores(found, replay.served)
    aucs = rankers.estimates(found, scores, list(scores), tests, label, "auc")
    rows: list[Row] = []
    for replay in replays:
        row: Row = {"delta": replay.delta, "days": len(tests)}
        row |= {"trainings": len(replay.trainings), "skipped": replay.skipped}
        row["cpu_s_saved"] = replay.skipped * seconds
        row |= (aucs["daily"] - aucs[replay.delta]).fields("auc_lost")
        worst = [cells[test - 1, test] - cells[last, test] for test, last in replay.served.items()]
        rows.append(row | {"worst_day": float(np.max(worst))})
    return rows


def budget_section(report: Report, found: rankers.Measured) -> Section:
    rows = budget_rows(found)
    report.table("budget", rows)
    findings = [
        "Replay of the rule `train when it pays`: a training is skipped where the loss that is "
        "expected of one more day without it, the mean of all rankers of that age so far, is below "
        "δ. Every decision knows only the days before it.",
        *[budget_words(row) for row in rows],
    ]
    columns = ("delta", "days", "trainings", "skipped", "cpu_s_saved", "auc_lost", "worst_day")
    return Section("The budget rule", findings, [], [table_of(rows, columns)])


def budget_words(row: Row) -> str:
    delta, skipped, n = float(row["delta"]), int(row["skipped"]), int(row["days"])
    if not skipped:
        return f"δ = {delta:g}: every training pays."
    lost = f"{cell(row, 'auc_lost')} of AUC a day"
    if float(row["auc_lost_low"]) <= 0 <= float(row["auc_lost_high"]):
        lost += ", an interval that contains zero"
    saved = f"{float(row['cpu_s_saved']):.0f} CPU seconds"
    return f"δ = {delta:g}: {skipped} of {n} trainings are skipped; saves {saved}, loses {lost}."
