"""`evergreen decay`: the whole report on a range of days, with the method of the settings."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from embeddings.embedders.als import ALSConfig
from jobs.errors import EvergreenError, Skip, UntrustedDay
from jobs.lake.store import Partition
from jobs.pipeline.running import ensure
from jobs.reports.daily_log import Log, read_log
from jobs.reports.decay import quick, rankers, refresh, retrieval, sections
from jobs.reports.decay.ages import TESTS, Plan, TooFewDays, plan_of
from jobs.reports.decay.page import Page, Section, write_html, write_markdown
from jobs.reports.methods import ALS, SVD, Method
from jobs.reports.report import Report, ReportProgress, not_replayed, progress_bar, select
from jobs.settings import Settings, days_between
from jobs.sources import open_source
from jobs.spark.session import spark_session

NAME = "decay"  # of the report, and of the experiment in MLflow
DAYS = 14  # the newest ones, where no range is given


def report_on(
    settings: Settings,
    first: date | None,
    last: date | None,
    seeds: int,
    folder: Path | None = None,
    is_quick: bool = False,
) -> list[str]:
    """Write the report. Returns its headlines and where it is."""
    if is_quick:
        headlines, where = run_quick(settings, first, last, folder)
    else:
        headlines, where = run(settings, first, last, seeds, folder)
    return [*headlines, f"The report is {where}."]


def run(
    settings: Settings,
    first: date | None = None,
    last: date | None = None,
    seeds: int = 3,
    folder: Path | None = None,
) -> tuple[list[str], Path]:
    """Measure the decay on the days from first to last, and write the report.

    Days that have no examples yet are computed first. Default: the newest DAYS days of the log.
    Returns the headlines and the page. Raises EvergreenError where the range has too few days,
    before anything is measured.
    """
    days = days_of_range(settings, first, last)
    method = method_of(settings)
    report = Report(settings, NAME, 0, folder)
    with progress_bar("decay, reading", 2 * len(days)) as progress:
        log = with_engagements(read_log(settings, progress, days))
        plan = plan_of([day.day for day in log.days], "trusted engagements")
        examples = examples_of(settings, log, progress)
    notes = notes_of(settings, log, plan, method, seeds)
    found = Found(report, notes)
    chain = found.try_to("the ranker", lambda: ranker_days(settings, examples))
    ranker_plan = chain and found.try_to(
        "the ranker", lambda: plan_of(chain.days, "impressions and the same features")
    )
    small_plan = found.try_to("rankers of vectors alone", lambda: refresh.plan(log))
    total = retrieval.n_steps(plan, seeds)
    total += rankers.n_steps(ranker_plan, seeds) if ranker_plan else 0
    total += refresh.n_steps(log, small_plan, seeds) if small_plan else 0
    with progress_bar("decay", total) as progress:
        found.retrieval(retrieval.measure(log, plan, settings, method, seeds, progress), plan)
        if chain and ranker_plan:
            found.rankers(rankers.measure(chain, ranker_plan, seeds, progress))
        if small_plan:
            found.refresh(refresh.measure(log, small_plan, settings, method, seeds, progress))
    found.write(f"{log.days[0].day} to {log.days[-1].day}, {seeds} seeds")
    return found.headlines, report.folder / f"{NAME}.html"


def run_quick(
    settings: Settings, first: date | None, last: date | None, folder: Path | None = None
) -> tuple[list[str], Path]:
    """The curves of what the loop has stored of these days, as a page. Returns as `run`.

    Raises EvergreenError where it has stored too little.
    """
    days = stored_days(settings, first, last)
    report = Report(settings, f"{NAME}-quick", 0, folder)
    with progress_bar("decay", 2 * TESTS) as progress:
        curves, left_out = quick.curves(settings, days, progress)
    report.warn(left_out)
    rows = quick.rows_of(curves)
    report.table("curves", rows)
    shown = [sections.quick_section(report, select(rows, "metric", name), name) for name in curves]
    headlines = quick.sentences(curves, settings.ranker.primary_label)
    subtitle = f"{days[0]} to {days[-1]}, from what the loop has stored"
    page = Page("What staleness costs", subtitle, headlines, shown, [quick.LEFT_OUT, *left_out])
    path = report.folder / f"{NAME}.html"
    write_html(page, path)
    write_markdown(page, path.with_suffix(".md"))
    return headlines, path


def end_of_demo(settings: Settings) -> list[str]:
    """The quick decay of the days that a demo has run, also kept at the end of its summary.

    A demo of few days has none: the line says why.
    """
    try:
        lines = report_on(settings, None, None, seeds=1, is_quick=True)
    except EvergreenError as reason:
        lines = [f"No decay yet. {reason}"]
    with (settings.home / "summary.txt").open("a") as stream:
        stream.write("\n".join([*lines, ""]))
    return lines


def days_of_range(settings: Settings, first: date | None, last: date | None) -> list[date]:
    """The days of the log in the range. Raises TooFewDays where there are fewer than three.

    Without a last day, the newest one that is published: a growing log has a day that is not over.
    """
    log_first, log_last = open_source(settings).span()
    published = settings.lake.days("publish")
    if last is None and published:
        last = published[-1]
    chosen_last = min(last or log_last, log_last)
    chosen_first = max(first or log_first, log_first)
    days = days_between(chosen_first, chosen_last)
    if first is None:
        days = days[-DAYS:]
    if len(days) < 3:
        given = f"--from {first or chosen_first} --to {last or chosen_last}"
        raise TooFewDays(
            f"The range {given} has {len(days)} days of the log, which goes from {log_first} to "
            f"{log_last}. A decay needs at least three: one to learn from, one to miss and one to "
            "test. Widen the range."
        )
    return days


def stored_days(settings: Settings, first: date | None, last: date | None) -> list[date]:
    """The validated days in the range; the newest DAYS of them where it has no beginning."""
    days = []
    for day in settings.lake.days("validate"):
        if (first is None or first <= day) and (last is None or day <= last):
            days.append(day)
    return days if first else days[-DAYS:]


def method_of(settings: Settings) -> Method:
    """The embedder of the settings. Raises EvergreenError for one that has no method here."""
    embedding = settings.embedding
    if embedding.method == "svd":
        return SVD(embedding.dim, embedding.options.smoothing)
    if embedding.method == "als":
        options = embedding.options.model_dump()
        return ALS(ALSConfig(**options, dim=embedding.dim))
    raise EvergreenError(
        f"The decay report can replay the embedders als and svd, not '{embedding.method}'. Set "
        "EVERGREEN_EMBEDDING__METHOD=svd for it."
    )


def with_engagements(log: Log) -> Log:
    """The days on which somebody engaged: nothing can be learned from the others, or tested."""
    return Log([day for day in log.days if day.events.nnz], log.spec)


def examples_of(settings: Settings, log: Log, progress: ReportProgress) -> list[Partition]:
    """The examples of every day that has some; those that are not current are computed."""
    found = []
    for day in log.days:
        progress(f"examples of {day.day}")
        if day.examples is None:
            continue
        try:
            done = ensure(settings, "examples", day.day, lambda: spark_session(settings))
        except (Skip, UntrustedDay):
            continue
        found.append(done.partition)
    return found


def ranker_days(settings: Settings, examples: list[Partition]) -> rankers.RankerDays:
    if not examples:
        raise TooFewDays("No day has impressions: there is nothing to rank.")
    return rankers.RankerDays(settings, examples)


def notes_of(settings: Settings, log: Log, plan: Plan, method: Method, seeds: int) -> list[str]:
    """How it was measured, and what the replay does otherwise than the loop."""
    tested = ", ".join(str(plan.days[test]) for test in plan.tests)
    notes = [
        "Age 0 is what the loop serves: learned up to the day before the tested one. Age a has "
        "missed the a days after that.",
        f"Vectors: {method.name}, {method.options}, from a window of {settings.matrix.window_days} "
        f"days; tested on {tested}, the same consumers and engagements at every age.",
        f"Means over {seeds} seeds of the solver and of the ranker. Intervals are 95 % bootstrap "
        "intervals that resample whole consumers, paired; they do not contain the seeds.",
    ]
    notes += not_replayed(settings)
    if len(log.days) < len(days_between(log.days[0].day, log.days[-1].day)):
        notes.append("The range has days that are missing or not trusted; they are passed over.")
    return notes


class Found:
    """The results of a run, as they come in, and what becomes of them."""

    def __init__(self, report: Report, notes: list[str]) -> None:
        self.report = report
        self.notes = notes
        self.headlines: list[str] = []
        self.sections: list[Section] = []
        self.curves: dict[str, dict[int, float]] = {}
        self.of_retrieval: tuple[retrieval.Measured, Plan] | None = None
        self.of_rankers: rankers.Measured | None = None
        self.ranker_curves: rankers.Curves = {}
        self.refreshed: refresh.Measured | None = None

    def try_to(self, what: str, plan):
        """What `plan` returns; None, with a note, where the days do not allow it."""
        try:
            return plan()
        except TooFewDays as reason:
            note = f"Left out: {what}. {reason}"
            self.report.warn([note])
            self.notes.append(note)
            return None

    def retrieval(self, found: retrieval.Measured, plan: Plan) -> None:
        self.of_retrieval = (found, plan)
        self.report.table("retrieval", found.curve)
        self.report.table("retrieval-matrix", found.matrix)
        self.headlines.append(sections.retrieval_sentence(found, plan.oldest))
        self.sections.append(sections.retrieval_section(self.report, found, plan.oldest))
        for (way, age), metrics in found.ways.items():
            for metric, estimate in metrics.items():
                self.add_point(f"retrieval/{metric}_20 {way}", age, estimate)

    def rankers(self, found: rankers.Measured) -> None:
        self.of_rankers = found
        self.ranker_curves = rankers.curves(found)
        self.headlines.append(sections.ranker_sentence(found, self.ranker_curves))
        self.sections.append(sections.ranker_section(self.report, found, self.ranker_curves))
        for (label, metric), means in self.ranker_curves.items():
            for (line, age), estimate in means.items():
                self.add_point(f"ranker/{metric}_{label} {line}", age, estimate)
        for day, reason in found.days.left_out.items():
            self.notes.append(f"Ranker: {day} is left out: {reason}.")
        tested = ", ".join(str(found.plan.days[test]) for test in found.plan.tests)
        self.notes.append(f"Rankers: {self.report.settings.ranker.kind}, tested on {tested}.")

    def refresh(self, found: refresh.Measured) -> None:
        self.refreshed = found
        self.headlines.insert(0, sections.refresh_sentence(found))
        self.sections.append(sections.refresh_section(self.report, found))
        for (way, age), estimate in found.aucs.items():
            self.add_point(f"refresh/auc {way}", age, estimate)

    def add_point(self, name: str, age: int, estimate) -> None:
        for end in ("", "_low", "_high"):
            value = getattr(estimate, end.lstrip("_") or "value")
            self.curves.setdefault(f"{name}{end}", {})[age] = value

    def write(self, subtitle: str) -> None:
        """The last sections, the pages, and the run in MLflow."""
        assert self.of_retrieval is not None, "it is measured on any log"
        found, plan = self.of_retrieval
        windows: list = []
        label = ""
        if self.of_rankers:
            windows = rankers.window_rows(self.of_rankers, self.ranker_curves)
            label = next(iter(self.of_rankers.days.labels))
        section = sections.windows_section(self.report, found.windows, windows, label)
        if section:
            self.sections.append(section)
        costs = sections.cost_rows(
            found, plan.oldest, self.of_rankers, self.ranker_curves, self.refreshed
        )
        self.sections.append(sections.cost_section(self.report, costs))
        if self.of_rankers:
            self.sections.append(sections.budget_section(self.report, self.of_rankers))
        page = Page("What staleness costs", subtitle, self.headlines, self.sections, self.notes)
        write_html(page, self.report.folder / f"{NAME}.html")
        write_markdown(page, self.report.folder / f"{NAME}.md")
        self.report.track(NAME, self.curves)
