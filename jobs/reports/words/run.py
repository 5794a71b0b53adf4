"""Experiment: the words of tweets by week and month, and those of a simulated world.

overlap     which share of the most frequent words, hashtags, mentions and links was among them
            some periods ago?
moved       which words are used otherwise than some periods ago, and what is near them?
later       do the vectors of a period say which words come together in the next one?
truth       simulated worlds: are the words that change their meaning found, and no others?
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from embeddings.sampling import noise
from embeddings.words import judging
from embeddings.words.meaning import Half, Movement, movement
from embeddings.words.tokens import KINDS
from embeddings.words.training import WordConfig
from jobs.errors import BadInput
from jobs.plots import figure, panels
from jobs.reports.report import Report, ReportProgress, Row, column_of, progress_bar, select
from jobs.reports.words.learning import Counted, counted, half_fits, mapped, whole_fit
from jobs.reports.words.texts import (
    Period,
    days_of,
    public_texts,
    simulated_week,
    together,
)
from jobs.settings import Settings
from jobs.words import post
from jobs.words.world import changed_share
from simulation.drift import Drift
from simulation.world import World

DIM = 32
EPOCHS = 10
TABLES = ("overlap", "moved", "later", "truth")
TRUE_SHARE = 0.5  # of the pairs of days with another topic, above which a word has moved
WORLD = World(consumers=10, producers=2000)
WORLDS = {
    "drifting": Drift(),
    "drifting, meanings still": Drift(meanings=0.0),
    "still": Drift().scaled(0),
}
GAPS = (1, 4)  # weeks


@dataclass(frozen=True)
class Plan:
    """How a set is looked at. ages: of overlaps, in periods; length: periods of a fit; gaps: of
    fits that are compared."""

    name: str
    unit: str
    ages: Sequence[int]
    length: int = 0
    gaps: Sequence[int] = ()


PLANS = (
    Plan("congress", "week", (1, 4, 12), length=4, gaps=(1, 3)),
    Plan("StockNet", "month", (1, 3, 12), length=3, gaps=(1, 4)),
    Plan("StockNet by week", "week", (1, 4)),
)


SIMULATED = "simulated"
SETS = (*(plan.name for plan in PLANS), SIMULATED)


def run(
    settings: Settings,
    data: Path | None,
    seed: int,
    seeds: int,
    sets: Sequence[str] = (),
    folder: Path | None = None,
) -> Report:
    """Write the tables overlap, moved, later and truth, and their pictures. sets: of SETS, or all.

    Raises BadInput for a set that does not exist.
    """
    if unknown := sorted(set(sets) - set(SETS)):
        raise BadInput(f"There is no set {unknown}; expected some of {list(SETS)}.")
    chosen = [plan for plan in PLANS if not sets or plan.name in sets]
    worlds = range(seed, seed + seeds) if not sets or SIMULATED in sets else ()
    report = Report(settings, "words", seed, folder)
    tables: dict[str, list[Row]] = {name: [] for name in TABLES}
    with progress_bar("words", len(chosen) + len(WORLDS) * len(worlds)) as progress:
        for plan in chosen:
            progress(plan.name)
            found = public_texts(plan.name, data)
            if isinstance(found, str):
                report.warn([found])
            else:
                measure(tables, plan, found, seed)
        for number in worlds:
            measure_worlds(tables, number, progress)
    for name, rows in tables.items():
        report.table(name, rows)
    draw(report, tables)
    for row in tables["truth"]:
        report.add_figures(f"{row['world']}_{row['weeks']}_{row['seed']}", row)
    report.track()
    return report


def measure(tables: dict[str, list[Row]], plan: Plan, periods: list[Period], seed: int) -> None:
    """Add the rows of one public set."""
    tables["overlap"] += overlap_rows(plan.name, plan.unit, periods, plan.ages)
    if not plan.length:
        return
    longer = together(periods, plan.length)
    cfg = WordConfig(DIM, seed, EPOCHS)
    words = [counted(each) for each in longer]
    halves = [half_fits(each, cfg) for each in words]
    for gap in plan.gaps:
        for later in range(gap, len(longer)):
            names = (longer[later - gap].name, longer[later].name)
            found = movement(halves[later - gap], halves[later])
            base: Row = {"set": plan.name, "before": names[0], "now": names[1], "gap": gap}
            tables["moved"] += moved_rows(base, found, halves[later - gap], halves[later])
    of: Row = {"set": plan.name, "vectors of": longer[-2].name, "judged on": longer[-1].name}
    tables["later"].append(of | later_row(words[-2], words[-1], cfg))


# Overlap


def overlap_rows(name: str, unit: str, periods: list[Period], ages: Sequence[int]) -> list[Row]:
    """The mean overlap of every kind and age, with the smallest and the largest."""
    frequent = [frequent_of(each) for each in periods]
    rows: list[Row] = []
    for kind in KINDS:
        for age in ages:
            shares = []
            for number in range(age, len(periods)):
                found = post.overlaps(frequent[number], frequent[number - age])
                if kind in found:
                    shares.append(found[kind])
            if shares:
                rows.append(
                    {
                        "set": name,
                        "kind": kind,
                        "most": post.MOST[kind],
                        "age": age,
                        "unit": unit,
                        "pairs": len(shares),
                        "overlap": float(np.mean(shares)),
                        "smallest": float(np.min(shares)),
                        "largest": float(np.max(shares)),
                    }
                )
    return rows


def frequent_of(texts: Period) -> dict[str, np.ndarray]:
    """The most frequent tokens of each kind."""
    counts: Counter[str] = Counter()
    for words in texts.sentences:
        counts.update(words)
    ids = np.array([word.encode() for word in counts], np.bytes_)
    return post.frequent(ids, np.array(list(counts.values())))


# Meaning


def moved_rows(
    base: Row, found: Movement, before: tuple[Half, Half], now: tuple[Half, Half]
) -> list[Row]:
    """A row per word that has moved most; one without a word where none has."""
    figures: Row = {"compared": len(found.ids), "found": int(found.found().sum())}
    # The neighbours of one half: of both, those of the other are as near.
    tables = [(half.ids, half.vectors) for half in (before[0], now[0])]
    words = post.most_moved(found, tables[0], tables[1])
    rows: list[Row] = []
    for each in words:
        near: Row = {"near before": ", ".join(each.before), "near now": ", ".join(each.now)}
        moved: Row = {"word": each.word, "moved": each.moved, "deviations": each.deviations}
        rows.append(base | figures | moved | near)
    return rows or [base | figures]


def later_row(words: Counted, later: Counted, cfg: WordConfig) -> Row:
    """NDCG@20 of the words that come near each one in the next period, with an interval."""
    near = mapped(later.whole, later.ids, words.ids)
    rows = judging.judged_words(words.ids, near)
    learned = whole_fit(words, cfg)
    bias = judging.log_noise(words.counts, cfg.negative_exponent)
    found = judging.predicted(learned.inputs[rows], learned.outputs, bias, near[rows])
    nothing = np.zeros((len(rows), 1), np.float32), np.zeros((len(words.ids), 1), np.float32)
    frequency = np.log(words.counts)
    drawn = noise(words.ids, cfg.dim)
    seen = mapped(words.whole, words.ids, words.ids)[rows]
    rivals = {
        "frequency": judging.predicted(*nothing, frequency, near[rows]),
        "same_period": judging.by_counts(seen, frequency, near[rows]),
        "random": judging.predicted(drawn[rows], drawn, 0 * frequency, near[rows]),
    }
    result = judging.result("words_co_occurrence", "ndcg20", judging.UNDATED, found, rivals)
    row: Row = {"words": len(rows), "ndcg20": result.value}
    row |= {"ndcg20_low": result.low, "ndcg20_high": result.high}
    return row | {f"by {name}": value for name, value in result.baselines.items()}


# The simulated worlds


def measure_worlds(tables: dict[str, list[Row]], seed: int, progress: ReportProgress) -> None:
    """Add the rows of every world of one seed."""
    for name, drift in WORLDS.items():
        progress(f"{name}, seed {seed}")
        world = World(WORLD.consumers, WORLD.producers, WORLD.topics, seed=seed, drift=drift)
        weeks = {week: simulated_week(world, week) for week in range(max(GAPS) + 1)}
        fits = {}
        for week in (0, *GAPS):
            fits[week] = half_fits(counted(weeks[week]), WordConfig(DIM, seed, EPOCHS))
        for gap in GAPS:
            found = movement(fits[0], fits[gap])
            base: Row = {"world": name, "seed": seed, "weeks": gap}
            tables["truth"].append(base | truth_row(world, found, gap))
        if name == "drifting" and not any(row["set"] == SIMULATED for row in tables["overlap"]):
            tables["overlap"] += overlap_rows(SIMULATED, "week", list(weeks.values()), GAPS)


def truth_row(world: World, found: Movement, gap: int) -> Row:
    """What is found beside the truth; mentions have none, since a producer has several topics."""
    words = [word.decode() for word in found.ids.tolist()]
    share = changed_share(world, words, days_of(0), days_of(gap))
    known = ~np.isnan(share)
    true, partly = known & (share > TRUE_SHARE), known & (share > 0)
    named = found.found()
    row: Row = {
        "compared": int(known.sum()),
        "changed": int(true.sum()),
        "found": int((named & known).sum()),
        "found changed": int((named & true).sum()),
        "found unchanged": int((named & known & ~partly).sum()),
        "found mentions": int((named & ~known).sum()),
    }
    if true.any():
        order = found.order()
        first = order[known[order]][: int(true.sum())]
        row["auc"] = float(roc_auc_score(true[known], found.deviations[known]))
        row["precision at n"] = float(np.mean(true[first]))
        row["of these partly"] = float(np.mean(partly[first]))
    return row


# Pictures


def draw(report: Report, tables: dict[str, list[Row]]) -> None:
    """Overlaps by age, and how many words have moved from period to period."""
    sets = list(dict.fromkeys(str(row["set"]) for row in tables["overlap"]))
    if not sets:
        return
    with panels(report.picture("overlap"), sets) as all_axes:
        for axes, name in zip(all_axes, sets, strict=True):
            rows = select(tables["overlap"], "set", name)
            for kind in dict.fromkeys(str(row["kind"]) for row in rows):
                chosen = select(rows, "kind", kind)
                axes.plot(column_of(chosen, "age"), column_of(chosen, "overlap"), ".-", label=kind)
            axes.set(xlabel=f"{rows[0]['unit']}s ago", ylim=(0, 1))
            axes.legend(fontsize=8)
        all_axes[0].set_ylabel("share of the most frequent that were so")
    moved = [row for row in tables["moved"] if row["gap"] == 1]
    if moved:
        draw_moved(report.picture("moved"), moved)


def draw_moved(path: Path, rows: list[Row]) -> None:
    """The share of the compared words that have moved since the period before, by its number."""
    with figure(path, "Words used otherwise than in the period before") as axes:
        for name in dict.fromkeys(str(row["set"]) for row in rows):
            by_period = {str(row["now"]): row for row in select(rows, "set", name)}
            chosen = list(by_period.values())
            shares = column_of(chosen, "found") / np.maximum(column_of(chosen, "compared"), 1)
            axes.plot(np.arange(2, len(shares) + 2), shares, ".-", label=name)
        axes.set(xlabel="number of the period", ylabel="share of the compared words")
        axes.legend(fontsize=8)
