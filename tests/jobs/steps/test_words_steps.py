"""Two weeks of texts through all steps of words: files with a text per line, and their versions."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from embeddings.words.tokens import content_of, tokens
from jobs.errors import BadInput, EvergreenError, SettingsError, Skip
from jobs.parts import WORD_STEPS
from jobs.pipeline import running
from jobs.pipeline.plan import freshness
from jobs.settings import MLflowSettings, Settings, SparkSettings, WordsSettings
from jobs.sources.simulated import SimulatedSettings
from jobs.steps.words_benchmark import of_the_world
from jobs.steps.words_conversations import sentences
from jobs.words.weeks import week_of, weeks_between
from jobs.words.world import topics_of, written

pytestmark = pytest.mark.slow  # what the steps call is tested in tests/embeddings/words, too
FIRST = date(2024, 1, 7)  # a Sunday
SECOND = date(2024, 1, 14)
SOURCE = SimulatedSettings(kind="simulated", consumers=10, producers=150, topics=4, days=14)
WORDS = {"dim": 12, "epochs": 6, "batches": 10, "window": 3, "phrase_passes": 1}
EXTRA = [
    {"at": "Wed Jan 03 10:00:00 +0000 2024", "said": "Hello #world again", "thread": "t1"},
    {"at": "2024-01-03T09:00:00Z", "said": "See https://x.org/A.", "thread": "t1"},
    {"at": "2024-01-03T09:00:00Z", "said": "See https://x.org/A.", "thread": "t1"},
    {"at": "2023-12-31T23:59:59Z", "said": "the week before"},
    {"at": "never", "said": "no time"},
    {"said": "no time at all"},
]


def settings_of(home: Path, **words) -> Settings:
    return Settings(
        home=home,
        source=SOURCE,
        words=WordsSettings(**(WORDS | words)),
        mlflow=MLflowSettings(uri="off"),
        spark=SparkSettings(master="local[2]", partitions=1, members=1),
    )


def write_weeks(folder: Path) -> None:
    """A file per week, of the simulated world's texts, and some odd lines in the first one."""
    folder.mkdir()
    for week in range(2):
        lines = []
        for number in range(7 * week, 7 * week + 7):
            day = SOURCE.first_day + timedelta(days=number)
            for place, text in enumerate(written(SOURCE.world(), number)):
                at = f"{day}T{place // 60 % 24:02d}:{place % 60:02d}:00Z"
                lines.append(json.dumps({"at": at, "said": text, "thread": f"{number}/{place}"}))
        if week == 0:
            lines += [json.dumps(row) for row in EXTRA] + ["{not JSON"]
        (folder / f"week {week}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def ran(spark, tmp_path_factory) -> Settings:
    """The settings of a home in which both weeks have gone through all steps."""
    folder = tmp_path_factory.mktemp("words")
    write_weeks(folder / "texts")
    fields = {"text": "said", "time": "at", "conversation": "thread"}
    settings = settings_of(folder / "home", path=folder / "texts/*.jsonl", **fields)
    # The last step of the last week: everything before it is computed because it is missing.
    running.request(settings, WORD_STEPS[-1], SECOND, lambda: spark)
    return settings


def test_a_week_has_its_own_texts_once_and_every_line_is_accounted_for(ran, spark):
    facts = ran.lake.get("words_collect", FIRST).facts
    n_simulated = sum(len(written(SOURCE.world(), number)) for number in range(7))
    assert facts["texts"] == n_simulated + 2
    assert (facts["repeats"], facts["unreadable"]) == (1, 3)
    assert facts["conversations"] == n_simulated + 1


def test_a_conversation_is_its_texts_in_the_order_of_their_times(ran, spark):
    rows = ran.lake.get("words_conversations", FIRST).read(spark, "sentences")
    (row,) = rows.where("conversation = 't1'").collect()
    assert row["words"] == ["see", "https://x.org/A", "hello", "#world", "again"]


def test_copies_of_a_text_are_in_one_half(ran, spark):
    """As `content_of` says in Python: whatever links and mentions they have."""
    texts = ["RT @a: See this https://x.org/1 #b", "see THIS @c", "see that", "#b @c", "#d", "RT"]
    rows = [(str(number), number, text) for number, text in enumerate(texts)]
    table = spark.createDataFrame(rows, "conversation string, time_ms long, text string")
    halves = {row["conversation"]: row["half"] for row in sentences(table).collect()}
    expected = [crc32(content_of(tokens(text)).encode()) % 2 for text in texts]
    assert [halves[str(number)] for number in range(len(texts))] == expected
    assert expected[0] == expected[1]


def test_every_step_is_current_and_nothing_is_computed_again(ran, spark):
    look = freshness(ran)
    for week in (FIRST, SECOND):
        for step in WORD_STEPS:
            # What judges and publishes a week is needed by no other one.
            expected = week == SECOND or step not in WORD_STEPS[-3:]
            assert (look.current(step, week) is not None) == expected, step
    assert running.request(ran, WORD_STEPS[-1], SECOND, lambda: spark).reused


def test_the_same_pairs_and_vectors_are_the_same_bytes(ran, spark):
    for step in ("words_pairs", "words_train"):
        before = ran.lake.get(step, SECOND).digest
        assert running.execute(ran, step, SECOND, lambda: spark).digest == before


def test_the_second_week_joins_the_space_of_the_first(ran):
    first, second = (ran.lake.get("words_align", week).facts for week in (FIRST, SECOND))
    assert first["space"] == second["space"]
    assert second["reference_days"] == 2
    assert second["cosine_to_reference"] > 0.5


def test_a_version_has_words_and_reads_a_text(ran):
    """The fold-in of a text is near the words of its topic."""
    with ran.open_registry() as registry:
        version = registry.version("words", SECOND)
        loaded = registry.load(version)
        ids = [word.decode() for word in np.asarray(loaded.entities["word"].ids).tolist()]
        topics = topics_of(SOURCE.world(), ids, 13)
        of_topic = [word for word, topic in zip(ids, topics, strict=True) if topic == 2]
        folded = registry.fold_in("words", dict.fromkeys(of_topic[:5], 1.0), k=10)
    near = [topics[ids.index(neighbour.id)] for neighbour in folded.neighbours]
    assert near.count(2) >= 8


def test_vectors_know_topics_and_what_comes_together_a_week_later(ran):
    results = {result.task: result for result in of_the_world(ran, train(ran, FIRST), FIRST)}
    assert results["words_topics"].value > 0.8 > results["words_topics"].baselines["random"]
    facts = ran.lake.get("words_benchmark", SECOND).facts
    found = "words_co_occurrence_ndcg20"
    assert facts[f"{found}_low"] > facts[f"{found}_by_frequency"]


def train(settings: Settings, week: date):
    return settings.lake.get("words_train", week)


def test_results_of_the_next_week_are_added_to_a_version_whenever_it_is_published(ran, spark):
    """The second week was published first."""
    running.request(ran, "words_publish", FIRST, lambda: spark)
    with ran.open_registry() as registry:
        results = registry.results(registry.version("words", FIRST))
    assert [(result.task, result.on) for result in results] == [("words_co_occurrence", SECOND)]


def test_the_post_says_how_much_is_new(ran):
    text = (ran.lake.get("words_post", SECOND).path / "post.md").read_text()
    assert "% of the words" in text
    assert "were so a week before" in text
    assert ran.lake.get("words_post", SECOND).facts["compared"] > 50


def test_a_changed_file_is_read_again_and_the_same_texts_change_nothing_else(ran, spark):
    file = Path(ran.words.path).parent / "week 1.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[::-1]) + "\n")
    look = freshness(ran)
    assert look.current("words_collect", FIRST)
    assert look.judge("words_collect", SECOND).why.endswith("week 1.jsonl has changed")
    running.execute(ran, "words_collect", SECOND, lambda: spark)
    assert freshness(ran).current("words_post", SECOND)


def test_the_texts_of_the_simulated_world_need_no_files(ran, spark, tmp_path):
    simulated = settings_of(tmp_path / "home", texts="simulated")
    running.request(simulated, "words_collect", SECOND, lambda: spark)
    found = simulated.lake.get("words_collect", SECOND).read(spark, "texts")
    expected = ran.lake.get("words_collect", SECOND).read(spark, "texts")
    texts = [sorted(row["text"] for row in table.collect()) for table in (found, expected)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("words", "day", "raised", "message"),
    [
        ({}, date(2024, 1, 8), EvergreenError, "names no week.*Use 2024-01-14"),
        ({}, FIRST, BadInput, r"there is no such file. Expected a glob"),
        ({}, date(2023, 12, 31), BadInput, "before that of 2024-01-07, the first one"),
        ({"texts": "simulated"}, date(2024, 2, 4), Skip, "There is no text from"),
        (None, FIRST, SettingsError, r"no section \[words\]"),
    ],
)
def test_what_cannot_be_read_is_named(spark, tmp_path, words, day, raised, message):
    settings = settings_of(tmp_path / "home", path=tmp_path / "*.jsonl", **(words or {}))
    if words is None:
        settings = settings.model_copy(update={"words": None})
    with pytest.raises(raised, match=message):
        running.request(settings, "words_collect", day, lambda: spark)


def test_weeks_are_named_by_their_sundays():
    assert week_of(date(2024, 1, 1)) == week_of(FIRST) == FIRST
    assert weeks_between(date(2024, 1, 3), date(2024, 1, 8)) == [FIRST, SECOND]
    assert weeks_between(FIRST, FIRST) == [FIRST]
