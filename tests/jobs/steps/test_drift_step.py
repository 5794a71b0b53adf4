"""drift: its facts by hand, planted shifts and still days, and days that have no rows."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared import validated

from embeddings.facts import declaration
from jobs.errors import UntrustedDay
from jobs.judging.day_counts import most_frequent
from jobs.pipeline.plan import freshness, reads
from jobs.pipeline.status import drift as alarm_lines
from jobs.settings import Settings
from jobs.sources.edgelist import EdgelistSettings
from jobs.steps import drift

FIRST = date(2024, 1, 1)
DAYS = [FIRST + timedelta(days=n) for n in range(12)]
LAST = DAYS[-1]
Impression = tuple[str, str, str, int, str]  # consumer, producer, item, click, tab
TAGS = {"i": "x", "j": "y", "k": ""}  # of items


@pytest.fixture
def settings(tmp_path) -> Settings:
    """A log of which only the span is read: tests commit the days."""
    log = tmp_path / "log.txt"
    stamps = [int(np.datetime64(day, "s").astype(int)) for day in DAYS]
    log.write_text("".join(f"c1 p1 {stamp}\n" for stamp in stamps))
    return Settings(home=tmp_path / "home", source=EdgelistSettings(kind="edgelist", path=log))


def commit(settings: Settings, day: date, rows: list[Impression]) -> None:
    """Commit a validated day of impressions, with the profiles of its consumers and of the items.

    A consumer's age is the length of its name. Without rows the day is refused.
    """
    with validated(settings, day) as staging:
        staging.facts |= {"trusted": bool(rows), "reason": "" if rows else "too few rows"}
        if not rows:
            return
        consumers, producers, items, clicks, tabs = zip(*rows, strict=True)
        known = sorted(set(consumers))
        tables = {
            "impressions": {
                "consumer_id": consumers,
                "producer_id": producers,
                "item_id": items,
                "label_click": pa.array(clicks, pa.int32()),
                "ctx_tab": tabs,
            },
            "consumers": {"consumer_id": known, "num_age": [float(len(each)) for each in known]},
            "items": {"item_id": list(TAGS), "cat_tag": list(TAGS.values())},
        }
        for name, columns in tables.items():
            (staging.path / name).mkdir()
            pq.write_table(pa.table(columns), staging.path / name / "part-00000-of-00001.parquet")


def random_rows(seed: int, clicks: float = 0.3, tab: float = 0.5, n: int = 400) -> list[Impression]:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        consumer = "c" * rng.integers(1, 9)
        item = str(rng.choice(["i", "j", "k"]))
        shown = "home" if rng.random() < tab else "search"
        rows.append((consumer, f"p{rng.integers(20)}", item, int(rng.random() < clicks), shown))
    return rows


def found(settings: Settings, day: date) -> dict:
    drift.run(None, settings, day)
    return settings.lake.get("drift", day).facts


def test_the_facts_of_two_days_by_hand(settings):
    first = [("a", "p", "i", 1, "home"), ("b", "p", "j", 0, "home"), ("b", "q", "k", 0, "home")]
    second = [("a", "p", "i", 1, "home"), ("a", "r", "i", 1, "search"), ("dd", "p", "k", 0, "home")]
    commit(settings, DAYS[0], first)
    commit(settings, DAYS[1], second)
    facts = found(settings, DAYS[1])
    assert facts["overlap_producers_day"] == 0.5  # p, of p and r
    assert facts["overlap_items_day"] == 1
    assert facts["overlap_tags_day"] == 1  # x alone: k has no tag
    assert (facts["new_consumers"], facts["new_producers"], facts["new_items"]) == (0.5, 0.5, 0)
    assert facts["rate_click"] == pytest.approx(2 / 3, abs=1e-6)
    assert facts["days"] == 1
    assert "overlap_items_week" not in facts
    assert "6 days with events must be known; there are 1" in facts["not_judged"]
    table = pq.read_table(settings.lake.get("drift", DAYS[1]).path / drift.COLUMNS).to_pylist()
    rows = {row["column"]: row for row in table}
    # Of a, b and b all ages are 1; of a, a and dd one is beyond the only edge.
    age = rows["number age of consumers"]
    of_both = -sum(share * np.log2(share) for share in (1 / 6, 5 / 6))
    of_now = -sum(share * np.log2(share) for share in (1 / 3, 2 / 3))
    assert age["jensen_shannon"] == pytest.approx(of_both - of_now / 2, abs=1e-6)
    assert (age["rows_before"], age["rows"], age["times_usual"]) == (3, 3, None)
    assert rows["consumers of the day before"]["rows"] == 3


def test_still_days_have_no_alarm_and_every_fact_is_declared(settings):
    for seed, day in enumerate(DAYS):
        commit(settings, day, random_rows(seed))
    assert "overlap_tags_week" in found(settings, DAYS[-2])
    facts = found(settings, LAST)
    assert facts["alarms"] == 0
    assert "why" not in facts
    assert {name for name in facts if not declaration(drift.FACTS, name)} == set()
    assert (settings.report("drift", LAST) / "drift.png").exists()
    assert alarm_lines(settings, DAYS) == []


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        ({"clicks": 0.6}, "label rate of 'click': "),
        ({"tab": 0.1}, "context tab: 'home' 9.00 % instead of "),
    ],
)
def test_a_shift_is_an_alarm_that_names_it_in_the_log_the_facts_and_the_status(
    settings, caplog, shift, said
):
    """Also after a refused day and one that is missing."""
    for seed, day in enumerate(DAYS[:-1]):
        if day != DAYS[4]:
            commit(settings, day, random_rows(seed) if day != DAYS[8] else [])
    commit(settings, LAST, random_rows(99, **shift))
    facts = found(settings, LAST)
    assert facts["alarms"] == 1
    assert facts["why"].startswith(said)
    assert facts["days"] == 9
    (line,) = alarm_lines(settings, DAYS)
    assert line == f"{LAST}: {facts['why']}"
    assert f"{LAST} differs from the days before it: {facts['why']}." in caplog.text


def test_one_row_of_a_new_value_in_a_column_that_never_changed_is_no_alarm(settings):
    for seed, day in enumerate(DAYS):
        rows = random_rows(seed, tab=1.0)
        commit(settings, day, rows if day != LAST else [*rows, ("c", "p1", "i", 0, "search")])
    assert found(settings, LAST)["alarms"] == 0


def test_it_reads_what_it_names_and_running_again_gives_the_same_bytes(settings):
    for seed, day in enumerate(DAYS[:3]):
        commit(settings, day, random_rows(seed))
    found(settings, DAYS[2])
    first = settings.lake.get("drift", DAYS[2])
    assert set(first.inputs) == {f"validate/{day}" for day in DAYS[:3]}
    assert len(reads(settings, "drift", DAYS[2])) == 3
    found(settings, DAYS[2])
    assert settings.lake.get("drift", DAYS[2]).digest == first.digest
    assert freshness(settings).current("drift", DAYS[2])


def test_a_log_without_impressions_is_compared_by_its_engagements(settings):
    for day in DAYS[:2]:
        with validated(settings, day) as staging:
            staging.facts |= {"trusted": True, "reason": ""}
            (staging.path / "engagements").mkdir()
            rows = {
                "consumer_id": ["a", "b"],
                "producer_id": ["p", str(day)],
                "item_id": pa.nulls(2, pa.string()),
                "kind": ["like", "follow"],
            }
            file = staging.path / "engagements" / "part-00000-of-00001.parquet"
            pq.write_table(pa.table(rows), file)
    facts = found(settings, DAYS[1])
    assert (facts["overlap_producers_day"], facts["new_consumers"]) == (0.5, 0)
    assert not [name for name in facts if "items" in name]


def test_a_refused_day_is_not_compared(settings):
    commit(settings, FIRST, [])
    with pytest.raises(UntrustedDay, match="too few rows"):
        drift.run(None, settings, FIRST)


def test_only_the_most_frequent_values_are_told_apart():
    values, counts = pa.array(["d", "a", None, "c"]), np.array([2, 5, 3, 2])
    counted = most_frequent(values, counts, 3)
    assert counted.values.tolist() == [b"a", b"", b"c"]
    assert (counted.counts.tolist(), counted.rows) == ([5, 3, 2], 12)
    assert counted.share(b"a") == 5 / 9  # of the rows that have a value
